int popcount(unsigned long bits)
{
    int count = 0;
    for (; bits; bits &= bits - 1) count++;
    return count;
}
