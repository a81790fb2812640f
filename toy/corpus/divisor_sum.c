unsigned divisor_sum(unsigned short n)
{
    unsigned sum = 0;
    for (unsigned d = 1; d * d <= n; d++)
        if (n % d == 0) {
            sum += d;
            if (d != n / d) sum += n / d;
        }
    return sum;
}
