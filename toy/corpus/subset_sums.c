static int count(const int *items, int left, int target)
{
    if (left == 0) return target == 0;
    return count(items + 1, left - 1, target) + count(items + 1, left - 1, target - *items);
}
/* How many subsets of eight fixed weights have a sum. */
int subset_sums(short target)
{
    static const int items[] = {1, 2, 3, 5, 8, 13, 21, 34};
    return count(items, 8, target % 100);
}
