int leading_zeros(unsigned n)
{
    int zeros = 32;
    for (int half = 16; half; half >>= 1)
        if (n >> half) {
            zeros -= half;
            n >>= half;
        }
    return zeros - (int)n;
}
