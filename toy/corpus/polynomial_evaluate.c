long polynomial_evaluate(const int *coefficients, int n, signed char x)
{
    long value = 0;
    for (int i = n - 1; i >= 0; i--) value = (value * (x % 8) + coefficients[i]) % 1000003;
    return value;
}
