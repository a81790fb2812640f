int merge_sorted(const int *a, int n, const int *b, int m, int *merged)
{
    int i = 0, j = 0, k = 0;
    while (i < n && j < m) merged[k++] = a[i] <= b[j] ? a[i++] : b[j++];
    while (i < n) merged[k++] = a[i++];
    while (j < m && k < 31) merged[k++] = b[j++];
    return k;
}
