unsigned totient(unsigned n)
{
    unsigned result = n %= 10000;
    for (unsigned p = 2; p * p <= n; p++) {
        if (n % p) continue;
        while (n > 0 && n % p == 0) n /= p;
        result -= result / p;
    }
    return n > 1 ? result - result / n : result;
}
