int manhattan_nearest(const float *xs, int n, const float *ys, float x, float y)
{
    int nearest = -1;
    float least = 1e30f;
    for (int i = 0; i < n; i++) {
        float dx = xs[i] > x ? xs[i] - x : x - xs[i], dy = ys[i] > y ? ys[i] - y : y - ys[i];
        if (dx + dy < least) {
            least = dx + dy;
            nearest = i;
        }
    }
    return nearest;
}
