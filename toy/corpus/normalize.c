void normalize(float *items, int n)
{
    float low = items[0], high = items[0];
    for (int i = 1; i < n; i++) {
        if (items[i] < low) low = items[i];
        if (items[i] > high) high = items[i];
    }
    for (int i = 0; i < n; i++) items[i] = high > low ? (items[i] - low) / (high - low) : 0;
}
