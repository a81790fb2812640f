static void reverse(int *items, int low, int high)
{
    while (low < high) {
        int swap = items[low];
        items[low++] = items[high];
        items[high--] = swap;
    }
}
void rotate_array(int *items, int n, unsigned by)
{
    if (n == 0) return;
    by %= n;
    reverse(items, 0, n - 1);
    reverse(items, 0, (int)by - 1);
    reverse(items, by, n - 1);
}
