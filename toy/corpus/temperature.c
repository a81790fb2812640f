double temperature(double degrees, unsigned char from, unsigned char to)
{
    double celsius = from % 3 == 0 ? degrees : from % 3 == 1 ? (degrees - 32) * 5 / 9 : degrees - 273.15;
    switch (to % 3) {
    case 0: return celsius;
    case 1: return celsius * 9 / 5 + 32;
    default: return celsius + 273.15;
    }
}
