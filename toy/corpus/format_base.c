void format_base(unsigned number, unsigned char base, char *text)
{
    int radix = base % 31 + 2, k = 0;
    char digits[33];
    if (radix < 5) radix = 16;
    do {
        digits[k++] = "0123456789abcdefghijklmnopqrstuvwxyz"[number % radix];
        number /= radix;
    } while (number);
    while (k > 0) *text++ = digits[--k];
    *text = 0;
}
