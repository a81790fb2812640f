int linear_search(const int *items, int n, unsigned wanted)
{
    wanted %= 10;
    for (int i = 0; i < n; i++)
        if ((unsigned)items[i] % 10 == wanted) return i;
    return -1;
}
