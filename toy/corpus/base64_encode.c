int base64_encode(const unsigned char *data, int n, char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int k = 0;
    for (int i = 0; i < n; i += 3) {
        unsigned word = data[i] << 16 | (i + 1 < n ? data[i + 1] << 8 : 0) | (i + 2 < n ? data[i + 2] : 0);
        text[k++] = digits[word >> 18];
        text[k++] = digits[word >> 12 & 63];
        text[k++] = i + 1 < n ? digits[word >> 6 & 63] : '=';
        text[k++] = i + 2 < n ? digits[word & 63] : '=';
    }
    return k;
}
