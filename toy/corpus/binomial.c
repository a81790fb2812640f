unsigned long binomial(unsigned n, unsigned k)
{
    unsigned long result = 1;
    n %= 40;
    k %= 20;
    if (k > n) return 0;
    for (unsigned i = 1; i <= k; i++) result = result * (n - k + i) / i;
    return result;
}
