void prefix_sums(unsigned *items, int n)
{
    for (int i = 1; i < n; i++) items[i] += items[i - 1];
}
