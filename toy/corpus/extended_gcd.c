/* The coefficient of a in the combination of a and b that gives their common divisor. */
int extended_gcd(short a, short b)
{
    int old_r = a, r = b, old_s = 1, s = 0;
    while (r != 0) {
        int q = old_r / r, t = old_r - q * r;
        old_r = r, r = t;
        t = old_s - q * s;
        old_s = s, s = t;
    }
    return old_s;
}
