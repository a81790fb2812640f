double newton_sqrt(double x)
{
    double guess = x > 1 ? x / 2 : 1;
    if (!(x > 0)) return 0;
    for (int i = 0; i < 20; i++) guess = (guess + x / guess) / 2;
    return guess;
}
