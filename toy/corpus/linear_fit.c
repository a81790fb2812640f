double linear_fit(const double *xs, int n, const double *ys)
{
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int i = 0; i < n; i++) {
        sx += xs[i];
        sy += ys[i];
        sxx += xs[i] * xs[i];
        sxy += xs[i] * ys[i];
    }
    double below = n * sxx - sx * sx;
    return below > 1e-9 ? (n * sxy - sx * sy) / below : 0;
}
