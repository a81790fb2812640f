struct rational { long top, bottom; };
static struct rational reduced(long top, long bottom)
{
    long a = top < 0 ? -top : top, b = bottom;
    while (b) {
        long rest = a % b;
        a = b;
        b = rest;
    }
    return (struct rational){top / (a ? a : 1), bottom / (a ? a : 1)};
}
/* Numerator of the sum of two reduced fractions, times ten, plus the last digit of its denominator. */
long rational_add(short a, short b, short c, short d)
{
    struct rational x = {a, (b & 63) + 1}, y = {c, (d & 63) + 1};
    struct rational sum = reduced(x.top * y.bottom + y.top * x.bottom, x.bottom * y.bottom);
    return sum.top * 10 + sum.bottom % 10;
}
