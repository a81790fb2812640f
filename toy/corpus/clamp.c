int clamp(int value, int low, int high)
{
    if (low > high) {
        int swap = low;
        low = high;
        high = swap;
    }
    return value < low ? low : value > high ? high : value;
}
