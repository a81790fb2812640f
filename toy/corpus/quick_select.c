static int select_kth(int *items, int low, int high, int k)
{
    int pivot = items[(low + high) / 2], i = low, j = high;
    if (low >= high) return items[k];
    while (i <= j) {
        while (items[i] < pivot) i++;
        while (items[j] > pivot) j--;
        if (i <= j) {
            int swap = items[i];
            items[i++] = items[j];
            items[j--] = swap;
        }
    }
    if (k <= j) return select_kth(items, low, j, k);
    return k >= i ? select_kth(items, i, high, k) : items[k];
}
int quick_select(int *items, int n, unsigned k)
{
    return n ? select_kth(items, 0, n - 1, k % n) : -1;
}
