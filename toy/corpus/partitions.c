static int ways(int n, int largest)
{
    if (n == 0) return 1;
    if (n < 0 || largest == 0) return 0;
    return ways(n - largest, largest) + ways(n, largest - 1);
}
int partitions(unsigned n, unsigned largest)
{
    return ways(n % 15, largest % 15);
}
