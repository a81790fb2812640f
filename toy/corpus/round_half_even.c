long round_half_even(double x)
{
    if (!(x < 1e15 && x > -1e15)) return 0;
    long whole = (long)x;
    double rest = x - whole;
    if (rest > 0.5 || (rest == 0.5 && whole % 2)) return whole + 1;
    if (rest < -0.5 || (rest == -0.5 && whole % 2)) return whole - 1;
    return whole;
}
