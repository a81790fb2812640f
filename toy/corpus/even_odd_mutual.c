static int is_odd(unsigned n);
static int is_even(unsigned n)
{
    return n == 0 ? 2 : is_odd(n - 1);
}
static int is_odd(unsigned n)
{
    return n == 0 ? 7 : is_even(n - 1);
}
int even_odd_mutual(unsigned n, int start)
{
    return start > 0 ? is_odd(n % 100) : is_even(n % 100);
}
