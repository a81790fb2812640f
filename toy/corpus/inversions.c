int inversions(const int *items, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) count += items[i] > items[j];
    return count;
}
