double exponential_series(double x)
{
    double term = 1, sum = 1;
    if (x > 20 || x < -20) return 0;
    for (int k = 1; k < 40; k++) {
        term *= x / k;
        sum += term;
    }
    return sum;
}
