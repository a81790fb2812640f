unsigned soundex_code(const char *name)
{
    static const char codes[] = "01230120022455012623010202";
    unsigned code = 0;
    int last = 0;
    for (; *name; name++) {
        char c = *name | 32;
        if (c < 'a' || c > 'z') continue;
        int digit = codes[c - 'a'] - '0';
        if (digit && digit != last) code = code * 7 + digit;
        last = digit;
    }
    return code;
}
