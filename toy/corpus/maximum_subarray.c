long maximum_subarray(const int *items, int n)
{
    long best = 0, here = 0;
    for (int i = 0; i < n; i++) {
        here += items[i];
        if (here < 0) here = 0;
        if (here > best) best = here;
    }
    return best;
}
