int knapsack(const unsigned char *weights, int n, const unsigned char *values, unsigned char room)
{
    int best[64] = {0};
    int capacity = room % 64;
    for (int i = 0; i < n; i++) {
        int weight = weights[i] % 16 + 1;
        for (int c = capacity; c >= weight; c--)
            if (best[c - weight] + values[i] > best[c]) best[c] = best[c - weight] + values[i];
    }
    return best[capacity];
}
