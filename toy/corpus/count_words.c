int count_words(const char *text)
{
    int words = 0, inside = 0;
    for (; *text; text++) {
        int letter = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9');
        words += letter && !inside;
        inside = letter;
    }
    return words;
}
