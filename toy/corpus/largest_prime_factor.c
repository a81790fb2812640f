unsigned largest_prime_factor(unsigned n)
{
    unsigned largest = 1;
    n %= 50000;
    for (unsigned p = 2; p * p <= n; p++)
        while (n > 0 && n % p == 0) {
            largest = p;
            n /= p;
        }
    return n > largest ? n : largest;
}
