void run_length_encode(const char *text, char *packed)
{
    int k = 0;
    while (*text && k < 29) {
        int run = 1;
        while (text[run] == *text && run < 9) run++;
        if (run > 1) packed[k++] = '0' + run;
        packed[k++] = *text;
        text += run;
    }
    packed[k] = 0;
}
