static int place(int size, unsigned columns, unsigned left, unsigned right)
{
    unsigned all = (1u << size) - 1, open = all & ~(columns | left | right);
    int solutions = 0;
    if (columns == all) return 1;
    while (open) {
        unsigned bit = open & -open;
        open ^= bit;
        solutions += place(size, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return solutions;
}
/* Solutions of the queens puzzle with some columns closed. */
int queens(unsigned size, unsigned closed)
{
    size = size % 6 + 1;
    return place(size, closed & ((1u << size) - 1), 0, 0);
}
