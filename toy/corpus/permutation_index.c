/* The place of the order of five items among all their orders. */
int permutation_index(const unsigned char *items)
{
    int index = 0;
    for (int i = 0; i < 5; i++) {
        int smaller = 0;
        for (int j = i + 1; j < 5; j++) smaller += items[j] < items[i];
        index = index * (5 - i) + smaller;
    }
    return index;
}
