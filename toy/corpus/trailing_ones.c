int trailing_ones(unsigned n)
{
    int ones = 0;
    while (n & 1) {
        ones++;
        n >>= 1;
    }
    return ones;
}
