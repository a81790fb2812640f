long rain_between_walls(const unsigned char *walls, int n)
{
    long water = 0;
    for (int i = 0; i < n; i++) {
        int left = 0, right = 0;
        for (int j = 0; j <= i; j++) left = walls[j] > left ? walls[j] : left;
        for (int j = i; j < n; j++) right = walls[j] > right ? walls[j] : right;
        water += (left < right ? left : right) - walls[i];
    }
    return water;
}
