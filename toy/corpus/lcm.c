static unsigned common(unsigned a, unsigned b)
{
    return b ? common(b, a % b) : a;
}
unsigned long lcm(unsigned a, unsigned b)
{
    if (a == 0 || b == 0) return 0;
    return (unsigned long)(a / common(a, b)) * b;
}
