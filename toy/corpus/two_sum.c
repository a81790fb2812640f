/* The first pair, as i * 100 + j, whose sum is a multiple of seven. */
int two_sum(const int *items, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            if (((long)items[i] + items[j]) % 7 == 0) return i * 100 + j;
    return -1;
}
