int utf8_length(const unsigned char *bytes, int n)
{
    int characters = 0, broken = 0;
    for (int i = 0; i < n;) {
        int size = bytes[i] < 0x80 ? 1 : bytes[i] < 0xC0 ? 0 : bytes[i] < 0xE0 ? 2 : bytes[i] < 0xF0 ? 3 : 4;
        if (size == 0) {
            broken++;
            size = 1;
        }
        characters++;
        i += size;
    }
    return characters * 100 + broken;
}
