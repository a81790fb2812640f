int day_of_year(unsigned year, unsigned month, unsigned day)
{
    static const short before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int leap = year % 4 == 0 && (year % 100 || year % 400 == 0);
    month %= 12;
    return before[month] + day % 31 + 1 + (leap && month > 1);
}
