static unsigned paths(int up, int down)
{
    if (up == 0) return 1;
    return paths(up - 1, down + 1) + (down > 0 ? paths(up, down - 1) : 0);
}
unsigned catalan(unsigned n)
{
    return paths(n % 7, 0);
}
