int mandelbrot(double re, double im)
{
    double x = 0, y = 0;
    int steps = 0;
    re /= 16;
    im /= 16;
    while (x * x + y * y < 4 && steps < 60) {
        double next = x * x - y * y + re;
        y = 2 * x * y + im;
        x = next;
        steps++;
    }
    return steps;
}
