void pack_nibbles(const unsigned char *values, int n, unsigned char *packed)
{
    for (int i = 0; i < n; i++) {
        if (i % 2 == 0) packed[i / 2] = values[i] & 15;
        else packed[i / 2] |= values[i] << 4;
    }
}
