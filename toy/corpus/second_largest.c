int second_largest(const int *items, int n)
{
    int first = -2147483647 - 1, second = first;
    for (int i = 0; i < n; i++)
        if (items[i] > first) {
            second = first;
            first = items[i];
        } else if (items[i] > second && items[i] < first) {
            second = items[i];
        }
    return second;
}
