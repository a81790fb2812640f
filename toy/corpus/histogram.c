void histogram(const unsigned char *data, int n, int *bins)
{
    for (int i = 0; i < 8; i++) bins[i] = 0;
    for (int i = 0; i < n; i++) bins[data[i] >> 5]++;
}
