double kahan_sum(const float *items, int n)
{
    float sum = 0, lost = 0;
    for (int i = 0; i < n; i++) {
        float item = items[i] - lost, next = sum + item;
        lost = next - sum - item;
        sum = next;
    }
    return sum;
}
