unsigned fletcher16(const unsigned char *data, int n)
{
    unsigned low = 0, high = 0;
    while (n--) {
        low = (low + *data++) % 255;
        high = (high + low) % 255;
    }
    return high << 8 | low;
}
