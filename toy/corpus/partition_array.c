/* Numbers below the pivot first; how many they are. */
int partition_array(int *items, int n, short pivot)
{
    int place = 0;
    for (int i = 0; i < n; i++)
        if (items[i] < pivot % 8) {
            int swap = items[place];
            items[place++] = items[i];
            items[i] = swap;
        }
    return place;
}
