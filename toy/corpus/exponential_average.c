double exponential_average(const double *items, int n, double alpha)
{
    double average = items[0];
    if (!(alpha > 0 && alpha < 1)) alpha = 0.3;
    for (int i = 1; i < n; i++) average += alpha * (items[i] - average);
    return average;
}
