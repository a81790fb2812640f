long dot_product(const int *a, int n, const int *b)
{
    long sum = 0;
    for (int i = 0; i < n; i++) sum += (long)a[i] * (b[i] % 1000);
    return sum;
}
