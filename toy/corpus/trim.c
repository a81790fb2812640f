int trim(char *text)
{
    int start = 0, length = 0, kept = 0;
    while (text[start] == ' ') start++;
    for (int i = start; text[i]; i++) {
        text[length++] = text[i];
        if (text[i] != ' ') kept = length;
    }
    text[kept] = 0;
    return kept;
}
