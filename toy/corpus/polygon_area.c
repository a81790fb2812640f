/* Twice the signed area of a polygon of n corners. */
struct corner { long x, y; };
long polygon_area(const short *xs, int n, const short *ys)
{
    long area = 0;
    for (int i = 0; i < n; i++) {
        struct corner here = {xs[i], ys[i]}, next = {xs[(i + 1) % n], ys[(i + 1) % n]};
        area += here.x * next.y - next.x * here.y;
    }
    return area;
}
