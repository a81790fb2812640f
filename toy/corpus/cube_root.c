int cube_root(unsigned n)
{
    unsigned long low = 0, high = 1626;
    while (low < high) {
        unsigned long middle = (low + high) / 2;
        if (middle * middle * middle < n) low = middle + 1;
        else high = middle;
    }
    return low;
}
