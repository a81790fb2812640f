int common_subsequence(const char *a, const char *b)
{
    int length[33][33] = {{0}}, i = 0, j = 0;
    for (i = 0; a[i]; i++)
        for (j = 0; b[j]; j++) {
            int up = length[i][j + 1], left = length[i + 1][j];
            length[i + 1][j + 1] = a[i] == b[j] ? length[i][j] + 1 : up > left ? up : left;
        }
    return length[i][j];
}
