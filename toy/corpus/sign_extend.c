int sign_extend(unsigned bits, unsigned width)
{
    width = width % 31 + 1;
    unsigned sign = 1u << (width - 1);
    bits &= sign * 2 - 1;
    return (int)((bits ^ sign) - sign);
}
