void delta_encode(unsigned *values, int n)
{
    unsigned previous = 0;
    for (int i = 0; i < n; i++) {
        unsigned value = values[i], difference = value - previous;
        values[i] = difference << 1 ^ -(difference >> 31);
        previous = value;
    }
}
