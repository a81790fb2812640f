int armstrong(unsigned n)
{
    unsigned digits = 0, sum = 0;
    n %= 100000;
    for (unsigned m = n; m; m /= 10) digits++;
    for (unsigned m = n; m; m /= 10) {
        unsigned term = 1;
        for (unsigned i = 0; i < digits; i++) term *= m % 10;
        sum += term;
    }
    return sum == n ? -1 : (int)(sum % 1000);
}
