/* Bounded: m up to 2, n up to 8. */
static unsigned ack(unsigned m, unsigned n)
{
    if (m == 0) return n + 1;
    return n == 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1));
}
unsigned ackermann(unsigned m, unsigned n)
{
    return ack(m % 3, n % 9);
}
