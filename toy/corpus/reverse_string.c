void reverse_string(char *text)
{
    char *end = text;
    while (*end) end++;
    while (text < end) {
        char swap = *--end;
        *end = *text;
        *text++ = swap;
    }
}
