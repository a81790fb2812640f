int threshold_image(unsigned char *pixels, int n)
{
    int sum = 0, bright = 0;
    for (int i = 0; i < n; i++) sum += pixels[i];
    for (int i = 0; i < n; i++) {
        pixels[i] = pixels[i] * n > sum ? 255 : 0;
        bright += pixels[i] != 0;
    }
    return bright;
}
