static void halves(int *items, int *spare, int n)
{
    if (n < 2) return;
    int middle = n / 2, i = 0, j = middle, k = 0;
    halves(items, spare, middle);
    halves(items + middle, spare, n - middle);
    while (i < middle || j < n) spare[k++] = j == n || (i < middle && items[i] <= items[j]) ? items[i++] : items[j++];
    for (k = 0; k < n; k++) items[k] = spare[k];
}
void merge_sort(int *items, int n)
{
    int spare[32];
    halves(items, spare, n);
}
