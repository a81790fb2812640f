unsigned linear_congruence(unsigned seed, unsigned char rounds)
{
    for (int i = 0; i <= rounds; i++) seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}
