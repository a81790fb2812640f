void bubble_sort(int *items, int n)
{
    for (int last = n - 1; last > 0; last--)
        for (int i = 0; i < last; i++)
            if (items[i] > items[i + 1]) {
                int swap = items[i];
                items[i] = items[i + 1];
                items[i + 1] = swap;
            }
}
