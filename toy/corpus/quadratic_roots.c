/* How many real roots; the discriminant's sign decides. */
int quadratic_roots(double a, double b, double c)
{
    if (a == 0) return b != 0 ? 1 : c == 0 ? -1 : 0;
    double discriminant = b * b - 4 * a * c;
    return discriminant > 0 ? 2 : discriminant == 0 ? 1 : 0;
}
