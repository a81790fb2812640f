int replace_character(char *text, char from, char to)
{
    int count = 0;
    if (from < 'a' || from > 'z') from = 'a' + (from & 3);
    if (to < '!' || to > '~') to = '_';
    for (; *text; text++)
        if (*text == from) {
            *text = to;
            count++;
        }
    return count;
}
