void title_case(char *text)
{
    int start = 1;
    for (; *text; text++) {
        int upper = *text >= 'A' && *text <= 'Z', lower = *text >= 'a' && *text <= 'z';
        if (start && lower) *text -= 32;
        if (!start && upper) *text += 32;
        start = !upper && !lower;
    }
}
