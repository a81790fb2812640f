_Bool next_permutation(unsigned char *items, int n)
{
    int i = n - 2, j = n - 1;
    while (i >= 0 && items[i] >= items[i + 1]) i--;
    if (i < 0) return 0;
    while (items[j] <= items[i]) j--;
    unsigned char swap = items[i];
    items[i] = items[j];
    items[j] = swap;
    for (i++, j = n - 1; i < j; i++, j--) {
        swap = items[i];
        items[i] = items[j];
        items[j] = swap;
    }
    return 1;
}
