double trapezoid_area(const double *heights, int n, double step)
{
    double area = 0;
    for (int i = 1; i < n; i++) area += (heights[i - 1] + heights[i]) * step / 2;
    return area < 0 ? -area : area;
}
