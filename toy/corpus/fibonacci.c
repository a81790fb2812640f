unsigned fibonacci(unsigned n)
{
    unsigned a = 0, b = 1;
    for (n %= 200; n; n--) {
        unsigned next = a + b;
        a = b;
        b = next;
    }
    return a;
}
