unsigned reverse_bits(unsigned bits)
{
    unsigned reversed = 0;
    for (int i = 0; i < 32; i++) {
        reversed = reversed << 1 | (bits & 1);
        bits >>= 1;
    }
    return reversed;
}
