/* A root of x^3 + x - c. */
double bisect_root(double c)
{
    double low = -100, high = 100;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (middle * middle * middle + middle < c) low = middle;
        else high = middle;
    }
    return low;
}
