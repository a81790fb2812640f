/* Keeps the bits of a mask, moved together at the low end. */
unsigned bit_permute(unsigned bits, unsigned mask)
{
    unsigned packed = 0, place = 1;
    for (; mask; mask &= mask - 1) {
        if (bits & mask & -mask) packed |= place;
        place <<= 1;
    }
    return packed;
}
