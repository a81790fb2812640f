int equilibrium_index(const unsigned char *items, int n)
{
    int total = 0, left = 0, nearest = -1, gap = 1 << 20;
    for (int i = 0; i < n; i++) total += items[i];
    for (int i = 0; i < n; i++) {
        int right = total - left - items[i], difference = left > right ? left - right : right - left;
        if (difference < gap) {
            gap = difference;
            nearest = i;
        }
        left += items[i];
    }
    return nearest * 1000 + gap % 1000;
}
