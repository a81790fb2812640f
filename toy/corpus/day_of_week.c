/* Zeller's rule, 0 is Sunday. */
int day_of_week(unsigned year, unsigned month, unsigned day)
{
    year = 1600 + year % 1000;
    month = 1 + month % 12;
    day = 1 + day % 28;
    if (month < 3) {
        month += 12;
        year--;
    }
    return (day + 13 * (month + 1) / 5 + year + year / 4 - year / 100 + year / 400 + 6) % 7;
}
