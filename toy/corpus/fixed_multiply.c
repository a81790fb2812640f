/* Product of two numbers with sixteen binary places, rounded and saturated. */
int fixed_multiply(int a, int b)
{
    long product = (long)a * b + (1 << 15);
    product >>= 16;
    if (product > 2147483647L) return 2147483647;
    if (product < -2147483647L) return -2147483647;
    return product;
}
