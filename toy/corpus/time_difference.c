struct clock { int hours, minutes, seconds; };
static struct clock at(unsigned seconds)
{
    seconds %= 86400;
    return (struct clock){seconds / 3600, seconds / 60 % 60, seconds % 60};
}
/* From one time of day to the next occurrence of another, as hhmmss. */
int time_difference(unsigned from, unsigned to)
{
    struct clock a = at(from), b = at(to), d = {b.hours - a.hours, b.minutes - a.minutes, b.seconds - a.seconds};
    if (d.seconds < 0) d.seconds += 60, d.minutes--;
    if (d.minutes < 0) d.minutes += 60, d.hours--;
    if (d.hours < 0) d.hours += 24;
    return d.hours * 10000 + d.minutes * 100 + d.seconds;
}
