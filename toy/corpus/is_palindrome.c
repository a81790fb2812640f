int is_palindrome(const char *text)
{
    int length = 0, mismatches = 0;
    while (text[length]) length++;
    for (int i = 0; i < length / 2; i++) mismatches += text[i] != text[length - 1 - i];
    return mismatches;
}
