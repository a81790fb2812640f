static int digit(char c)
{
    switch (c) {
    case 'I': return 1;
    case 'V': return 5;
    case 'X': return 10;
    case 'L': return 50;
    case 'C': return 100;
    case 'D': return 500;
    case 'M': return 1000;
    default: return 0;
    }
}
int roman_to_number(const char *roman)
{
    int value = 0;
    for (; *roman; roman++) value += digit(roman[0]) < digit(roman[1]) ? -digit(roman[0]) : digit(roman[0]);
    return value;
}
