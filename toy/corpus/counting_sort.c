void counting_sort(unsigned char *items, int n)
{
    int counts[256] = {0}, place = 0;
    for (int i = 0; i < n; i++) counts[items[i]]++;
    for (int value = 0; value < 256; value++)
        while (counts[value]-- > 0) items[place++] = value;
}
