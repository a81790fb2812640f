unsigned bcd_encode(unsigned n)
{
    unsigned packed = 0;
    for (int shift = 0; shift < 32; shift += 4) {
        packed |= n % 10 << shift;
        n /= 10;
    }
    return packed;
}
