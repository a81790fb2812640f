void squeeze_spaces(char *text)
{
    char *out = text;
    for (const char *in = text; *in; in++)
        if (*in != ' ' || (out != text && out[-1] != ' ')) *out++ = *in;
    *out = 0;
}
