void moving_average(int *samples, int n, unsigned char width)
{
    int window = width % 5 + 1;
    long sum = 0;
    int old[32];
    for (int i = 0; i < n; i++) old[i] = samples[i];
    for (int i = 0; i < n; i++) {
        sum += old[i];
        if (i >= window) sum -= old[i - window];
        samples[i] = sum / (i < window ? i + 1 : window);
    }
}
