static double curve(double x)
{
    return 1 / (1 + x * x);
}
/* The area under a curve between two places. */
double simpson(double from, double to)
{
    double step = (to - from) / 16, sum = curve(from) + curve(to);
    for (int i = 1; i < 16; i++) sum += curve(from + i * step) * (i % 2 ? 4 : 2);
    return sum * step / 3;
}
