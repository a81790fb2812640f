int remove_duplicates(int *items, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        int seen = 0;
        for (int j = 0; j < kept; j++) seen |= items[j] == items[i];
        if (!seen) items[kept++] = items[i];
    }
    return kept;
}
