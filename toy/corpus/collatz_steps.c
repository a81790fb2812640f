int collatz_steps(unsigned short start)
{
    unsigned long n = start;
    int steps = 0;
    while (n > 1 && steps < 400) {
        n = n % 2 ? 3 * n + 1 : n / 2;
        steps++;
    }
    return steps;
}
