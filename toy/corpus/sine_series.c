double sine_series(double x)
{
    const double turn = 6.283185307179586;
    if (x > 1000 || x < -1000) x = 0.5;
    x -= (int)(x / turn) * turn;
    double term = x, sum = x;
    for (int k = 2; k < 30; k += 2) {
        term *= -x * x / (k * (k + 1));
        sum += term;
    }
    return sum;
}
