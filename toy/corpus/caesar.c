void caesar(char *text, unsigned char by)
{
    for (; *text; text++) {
        if (*text >= 'a' && *text <= 'z') *text = 'a' + (*text - 'a' + by) % 26;
        else if (*text >= 'A' && *text <= 'Z') *text = 'A' + (*text - 'A' + by) % 26;
        else if (*text >= '0' && *text <= '9') *text = '0' + (*text - '0' + by) % 10;
    }
}
