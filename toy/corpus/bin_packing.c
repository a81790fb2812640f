int bin_packing(const unsigned char *sizes, int n)
{
    int room[16], bins = 0;
    for (int i = 0; i < n; i++) {
        int size = sizes[i] % 100 + 1, bin = 0;
        while (bin < bins && room[bin] < size) bin++;
        if (bin == bins) room[bins++] = 100;
        room[bin] -= size;
    }
    return bins;
}
