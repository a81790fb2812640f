int is_anagram(const char *a, const char *b)
{
    int counts[128] = {0}, differ = 0;
    for (; *a; a++) counts[*a & 127]++;
    for (; *b; b++) counts[*b & 127]--;
    for (int i = 0; i < 128; i++) differ += counts[i] < 0 ? -counts[i] : counts[i];
    return differ;
}
