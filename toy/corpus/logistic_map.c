double logistic_map(double x, unsigned char steps)
{
    x = x > 0 && x < 1 ? x : 0.25;
    for (int i = 0; i < steps % 30; i++) x = 3.75 * x * (1 - x);
    return x;
}
