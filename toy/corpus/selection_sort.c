void selection_sort(unsigned char *items, int n)
{
    for (int i = 0; i < n; i++) {
        int least = i;
        for (int j = i + 1; j < n; j++)
            if (items[j] < items[least]) least = j;
        unsigned char swap = items[i];
        items[i] = items[least];
        items[least] = swap;
    }
}
