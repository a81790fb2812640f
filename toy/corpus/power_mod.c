unsigned power_mod(unsigned base, unsigned exponent, unsigned modulus)
{
    unsigned long result = 1, b = base;
    if (modulus == 0) return 0;
    for (b %= modulus; exponent; exponent >>= 1) {
        if (exponent & 1) result = result * b % modulus;
        b = b * b % modulus;
    }
    return result % modulus;
}
