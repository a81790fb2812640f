_Bool glob_ends_with(const char *name, char a, char b)
{
    int length = 0;
    while (name[length]) length++;
    if (length < 2) return 0;
    return (name[length - 2] & 3) == (a & 3) && (name[length - 1] & 3) == (b & 3);
}
