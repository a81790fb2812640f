void dutch_flag(unsigned char *items, int n)
{
    int low = 0, i = 0, high = n - 1;
    while (i <= high) {
        int color = items[i] % 3;
        unsigned char swap = items[i];
        if (color == 0) {
            items[i++] = items[low];
            items[low++] = swap;
        } else if (color == 2) {
            items[i] = items[high];
            items[high--] = swap;
        } else {
            i++;
        }
    }
}
