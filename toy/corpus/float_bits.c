union view { float number; unsigned bits; };
/* The exponent of a number, and its leading bits. */
int float_bits(float number)
{
    union view v = {number};
    return (int)(v.bits >> 23 & 255) * 16 + (int)(v.bits >> 19 & 15);
}
