unsigned integer_sqrt(unsigned n)
{
    unsigned root = 0;
    for (unsigned bit = 1u << 15; bit; bit >>= 1) {
        unsigned candidate = root | bit;
        if (candidate * candidate <= n) root = candidate;
    }
    return root;
}
