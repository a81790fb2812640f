int version_compare(const char *a, const char *b)
{
    while (*a || *b) {
        unsigned x = 0, y = 0;
        while (*a >= '0' && *a <= '9') x = x * 10 + (*a++ - '0');
        while (*b >= '0' && *b <= '9') y = y * 10 + (*b++ - '0');
        if (x != y) return x < y ? -1 : 1;
        if (*a) a++;
        if (*b) b++;
    }
    return 0;
}
