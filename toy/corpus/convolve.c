void convolve(const short *signal, int n, const short *kernel, int *filtered)
{
    for (int i = 0; i < n; i++) {
        filtered[i] = 0;
        for (int k = 0; k < 3; k++)
            if (i - k >= 0) filtered[i] += signal[i - k] * (kernel[k] % 16);
    }
}
