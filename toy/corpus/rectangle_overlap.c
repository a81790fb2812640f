struct rectangle { int left, top, right, bottom; };
static struct rectangle around(signed char x, signed char y, unsigned char size)
{
    return (struct rectangle){x, y, x + size % 50, y + size / 5};
}
int rectangle_overlap(signed char x, signed char y, unsigned char size, signed char u, signed char v)
{
    struct rectangle a = around(x, y, size), b = around(u, v, 90);
    int left = a.left > b.left ? a.left : b.left, right = a.right < b.right ? a.right : b.right;
    int top = a.top > b.top ? a.top : b.top, bottom = a.bottom < b.bottom ? a.bottom : b.bottom;
    return left < right && top < bottom ? (right - left) * (bottom - top) : left - right + top - bottom;
}
