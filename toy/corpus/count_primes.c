/* Sieve of Eratosthenes over a small range. */
int count_primes(unsigned limit)
{
    unsigned char composite[200] = {0};
    int count = 0;
    limit %= 200;
    for (unsigned i = 2; i <= limit; i++) {
        if (composite[i]) continue;
        count++;
        for (unsigned j = i * i; j <= limit; j += i) composite[j] = 1;
    }
    return count;
}
