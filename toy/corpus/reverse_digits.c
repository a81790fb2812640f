long reverse_digits(int n)
{
    long reversed = 0;
    do {
        reversed = reversed * 10 + n % 10;
        n /= 10;
    } while (n);
    return reversed;
}
