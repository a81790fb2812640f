struct point { int x, y; };
static long side(struct point a, struct point b, struct point p)
{
    return (long)(b.x - a.x) * (p.y - a.y) - (long)(b.y - a.y) * (p.x - a.x);
}
int point_in_triangle(short x, short y)
{
    struct point a = {-20, -10}, b = {30, -15}, c = {5, 25}, p = {x % 40, y % 40};
    long ab = side(a, b, p), bc = side(b, c, p), ca = side(c, a, p);
    int inside = (ab >= 0 && bc >= 0 && ca >= 0) || (ab <= 0 && bc <= 0 && ca <= 0);
    return inside * 10000 + (int)((ab + bc * 2) % 5000);
}
