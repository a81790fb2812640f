unsigned long next_power_of_two(unsigned n)
{
    unsigned long power = 1;
    while (power < n) power <<= 1;
    return power;
}
