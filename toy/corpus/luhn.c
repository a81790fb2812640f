/* The check digit that makes a number valid. */
int luhn(unsigned long number)
{
    int sum = 0, twice = 1;
    for (; number; number /= 10) {
        int digit = number % 10;
        if (twice) {
            digit *= 2;
            if (digit > 9) digit -= 9;
        }
        sum += digit;
        twice = !twice;
    }
    return (10 - sum % 10) % 10;
}
