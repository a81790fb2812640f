double smooth_step(double low, double high, double x)
{
    if (high <= low) return x < low ? 0 : 1;
    double t = (x - low) / (high - low);
    if (t <= 0) return 0;
    if (t >= 1) return 1;
    return t * t * (3 - 2 * t);
}
