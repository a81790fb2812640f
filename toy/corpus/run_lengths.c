int run_lengths(const short *items, int n, int *lengths)
{
    int runs = 0;
    for (int i = 0; i < n; i++) {
        if (i == 0 || items[i] % 3 != items[i - 1] % 3) lengths[runs++] = 0;
        lengths[runs - 1]++;
    }
    return runs;
}
