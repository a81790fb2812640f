double horner(const double *coefficients, int n, double x)
{
    double value = 0;
    for (int i = n - 1; i >= 0; i--) value = value * x + coefficients[i];
    return value;
}
