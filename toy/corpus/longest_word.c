int longest_word(const char *text)
{
    int longest = 0, length = 0, at = 0;
    for (int i = 0;; i++) {
        if (text[i] && text[i] != ' ') {
            length++;
            continue;
        }
        if (length > longest) {
            longest = length;
            at = i - length;
        }
        length = 0;
        if (!text[i]) return at * 100 + longest;
    }
}
