int compare_ignoring_case(const char *a, const char *b)
{
    while (*a && (*a == *b || ((*a ^ *b) == 32 && (*a | 32) >= 'a' && (*a | 32) <= 'z'))) {
        a++;
        b++;
    }
    return *a - *b;
}
