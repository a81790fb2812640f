void insertion_sort(short *items, int n)
{
    for (int i = 1; i < n; i++) {
        short item = items[i];
        int j = i;
        for (; j > 0 && items[j - 1] > item; j--) items[j] = items[j - 1];
        items[j] = item;
    }
}
