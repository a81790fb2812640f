int hamming_distance(unsigned a, unsigned b)
{
    unsigned differ = a ^ b;
    differ = differ - (differ >> 1 & 0x55555555);
    differ = (differ & 0x33333333) + (differ >> 2 & 0x33333333);
    differ = (differ + (differ >> 4)) & 0x0F0F0F0F;
    return differ * 0x01010101 >> 24;
}
