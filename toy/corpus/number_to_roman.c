void number_to_roman(unsigned short number, char *roman)
{
    static const short values[] = {100, 90, 50, 40, 10, 9, 5, 4, 1};
    static const char *const texts[] = {"C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"};
    int rest = number % 400, k = 0;
    for (int i = 0; i < 9; i++)
        while (rest >= values[i]) {
            for (const char *c = texts[i]; *c; c++) roman[k++] = *c;
            rest -= values[i];
        }
    roman[k] = 0;
}
