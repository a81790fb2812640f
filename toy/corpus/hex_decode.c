static int nibble(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
unsigned hex_decode(const char *text)
{
    unsigned value = 0;
    for (; *text; text++)
        if (nibble(*text) >= 0) value = value << 4 | nibble(*text);
    return value;
}
