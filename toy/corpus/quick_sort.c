static void sort(int *items, int low, int high)
{
    if (low >= high) return;
    int pivot = items[high], place = low;
    for (int i = low; i <= high; i++)
        if (items[i] < pivot || i == high) {
            int swap = items[i];
            items[i] = items[place];
            items[place++] = swap;
        }
    sort(items, low, place - 2);
    sort(items, place, high);
}
void quick_sort(int *items, int n)
{
    sort(items, 0, n - 1);
}
