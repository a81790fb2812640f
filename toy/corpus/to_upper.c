int to_upper(char *text)
{
    int changed = 0;
    for (; *text; text++)
        if (*text >= 'a' && *text <= 'z') {
            *text += 'A' - 'a';
            changed++;
        }
    return changed;
}
