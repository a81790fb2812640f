void vigenere(char *text, const char *key)
{
    int k = 0;
    for (int i = 0; text[i]; i++) {
        if (!key[k]) k = 0;
        if (!key[0]) return;
        if (text[i] >= 'a' && text[i] <= 'z') text[i] = 'a' + (text[i] - 'a' + (key[k++] & 31)) % 26;
    }
}
