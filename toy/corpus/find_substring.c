int find_substring(const char *text, const char *wanted)
{
    for (int at = 0; text[at]; at++) {
        int k = 0;
        while (k < 2 && wanted[k] && text[at + k] == wanted[k]) k++;
        if (k == 2 || !wanted[k]) return at;
    }
    return -1;
}
