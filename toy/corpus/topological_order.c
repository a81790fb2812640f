int topological_order(const unsigned char *needs)
{
    unsigned done = 0;
    int order = 0;
    for (int step = 0; step < 8; step++)
        for (int task = 0; task < 8; task++) {
            unsigned before = needs[task] & ((1u << task) - 1);
            if (!(done >> task & 1) && (before & ~done) == 0) {
                done |= 1u << task;
                order = (order * 8 + task) % 1000003;
                break;
            }
        }
    return order;
}
