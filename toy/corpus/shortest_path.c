/* Bellman and Ford over six nodes; weights are taken from a matrix. */
int shortest_path(const unsigned char *weights)
{
    int distance[5] = {0, 9999, 9999, 9999, 9999};
    for (int round = 0; round < 4; round++)
        for (int from = 0; from < 5; from++)
            for (int to = 0; to < 5; to++) {
                int length = distance[from] + weights[from * 5 + to] + 1;
                if (length < distance[to]) distance[to] = length;
            }
    return distance[4] * 1000 + distance[2];
}
