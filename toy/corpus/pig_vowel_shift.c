void pig_vowel_shift(char *text)
{
    static const char vowels[] = "aeiou";
    for (; *text; text++)
        for (int v = 0; v < 5; v++)
            if (*text == vowels[v]) {
                *text = vowels[(v + 1) % 5];
                break;
            }
}
