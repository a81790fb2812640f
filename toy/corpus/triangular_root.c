/* The largest k whose triangular number is not above n. */
int triangular_root(unsigned n)
{
    unsigned sum = 0;
    int k = 0;
    n %= 300000;
    while (sum + k + 1 <= n) sum += ++k;
    return k;
}
