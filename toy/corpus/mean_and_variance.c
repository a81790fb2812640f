double mean_and_variance(const double *items, int n, double *mean)
{
    double m = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        double delta = items[i] - m;
        m += delta / (i + 1);
        squares += delta * (items[i] - m);
    }
    mean[0] = m;
    return n > 1 ? squares / (n - 1) : 0;
}
