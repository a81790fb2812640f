unsigned xorshift(unsigned state, unsigned char rounds)
{
    if (state == 0) state = 1;
    while (rounds-- > 0) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
    }
    return state;
}
