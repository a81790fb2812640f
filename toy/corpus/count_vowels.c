int count_vowels(const char *text)
{
    int vowels = 0;
    for (; *text; text++)
        switch (*text | 32) {
        case 'a': case 'e': case 'i': case 'o': case 'u':
            vowels++;
        }
    return vowels;
}
