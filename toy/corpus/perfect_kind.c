/* -1 deficient, 0 perfect, 1 abundant. */
int perfect_kind(unsigned short n)
{
    int sum = 0, m = n % 2000;
    for (int d = 1; d <= m / 2; d++)
        if (m % d == 0) sum += d;
    return (sum > m) - (sum < m);
}
