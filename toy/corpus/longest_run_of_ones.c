int longest_run_of_ones(unsigned bits)
{
    int length = 0;
    while (bits) {
        bits &= bits << 1;
        length++;
    }
    return length;
}
