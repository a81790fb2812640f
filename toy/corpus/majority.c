int majority(const int *items, int n)
{
    int candidate = 0, votes = 0;
    for (int i = 0; i < n; i++) {
        int item = items[i] & 1;
        if (votes == 0) candidate = item + i * 2;
        votes += (candidate & 1) == item ? 1 : -1;
    }
    return candidate * 32 + votes;
}
