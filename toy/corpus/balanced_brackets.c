int balanced_brackets(const char *text)
{
    char open[32];
    int depth = 0;
    for (int i = 0; text[i]; i++) {
        char c = text[i];
        if (c == '(' || c == '[' || c == '{') {
            open[depth++] = c;
        } else if (c == ')' || c == ']' || c == '}') {
            if (depth == 0 || c - open[depth - 1] > 2 || c < open[depth - 1]) return i + 1;
            depth--;
        }
    }
    return -depth;
}
