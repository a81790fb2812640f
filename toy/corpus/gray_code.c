unsigned gray_code(unsigned n, _Bool decode)
{
    if (!decode) return n ^ n >> 1;
    for (unsigned mask = n >> 1; mask; mask >>= 1) n ^= mask;
    return n;
}
