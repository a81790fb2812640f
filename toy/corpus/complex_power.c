struct complex { int re, im; };
static struct complex times(struct complex a, struct complex b)
{
    return (struct complex){(a.re * b.re - a.im * b.im) % 9973, (a.re * b.im + a.im * b.re) % 9973};
}
int complex_power(signed char re, signed char im, unsigned char exponent)
{
    struct complex z = {re, im}, power = {1, 0};
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) power = times(power, z);
        z = times(z, z);
    }
    return power.re * 3 + power.im;
}
