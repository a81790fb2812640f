int longest_increasing(const int *items, int n)
{
    int ending[32], longest = 0;
    for (int i = 0; i < n; i++) {
        ending[i] = 1;
        for (int j = 0; j < i; j++)
            if (items[j] < items[i] && ending[j] + 1 > ending[i]) ending[i] = ending[j] + 1;
        if (ending[i] > longest) longest = ending[i];
    }
    return longest;
}
