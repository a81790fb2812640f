static int takeuchi(int x, int y, int z)
{
    if (y >= x) return z;
    return takeuchi(takeuchi(x - 1, y, z), takeuchi(y - 1, z, x), takeuchi(z - 1, x, y));
}
int tak(unsigned x, unsigned y, unsigned z)
{
    return takeuchi(x % 7, y % 7, z % 7);
}
