float lerp_clamped(float a, float b, float t)
{
    if (t < 0) t = 0;
    if (t > 1) t = 1;
    return a + (b - a) * t;
}
