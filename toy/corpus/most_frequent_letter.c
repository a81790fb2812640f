char most_frequent_letter(const char *text)
{
    int counts[128] = {0};
    char best = 0;
    for (; *text; text++)
        if (*text > 0 && ++counts[(int)*text] > counts[(int)best]) best = *text;
    return best;
}
