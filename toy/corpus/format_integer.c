void format_integer(int number, char *text)
{
    unsigned rest = number < 0 ? -(unsigned)number : (unsigned)number;
    char digits[12];
    int count = 0, k = 0;
    do {
        digits[count++] = '0' + rest % 10;
        rest /= 10;
    } while (rest);
    if (number < 0) text[k++] = '-';
    while (count) text[k++] = digits[--count];
    text[k] = 0;
}
