int parse_integer(const char *text)
{
    int sign = 1;
    long value = 0;
    while (*text == ' ') text++;
    if (*text == '+' || *text == '-') sign = *text++ == '-' ? -1 : 1;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (*text - '0');
        if (value > 2147483647L) return sign < 0 ? -2147483647 - 1 : 2147483647;
    }
    return sign * value;
}
