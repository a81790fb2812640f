/* Morton order: the bits of x at even places, those of y at odd ones. */
unsigned interleave(unsigned short x, unsigned short y)
{
    unsigned morton = 0;
    for (int i = 0; i < 16; i++) {
        morton |= (x >> i & 1u) << 2 * i;
        morton |= (y >> i & 1u) << (2 * i + 1);
    }
    return morton;
}
