/* Where a value would be inserted into the sorted squares of the indices plus an offset. */
int binary_search(const int *items, int n, int wanted)
{
    int low = 0, high = n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (items[middle] < wanted) low = middle + 1;
        else high = middle;
    }
    return low;
}
