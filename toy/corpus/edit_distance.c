int edit_distance(const char *a, const char *b)
{
    int row[33];
    for (int j = 0; j <= 32; j++) row[j] = j;
    int width = 0;
    while (b[width]) width++;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < width; j++) {
            int change = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            int shift = (row[j] < diagonal ? row[j] : diagonal) + 1;
            row[j + 1] = change < shift ? change : shift;
        }
    }
    return row[width];
}
