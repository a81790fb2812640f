unsigned trace_of_power(const unsigned *matrix, unsigned char exponent)
{
    unsigned power[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, next[9];
    for (int e = exponent % 8; e > 0; e--) {
        for (int i = 0; i < 9; i++) next[i] = power[i / 3 * 3] * matrix[i % 3] + power[i / 3 * 3 + 1] * matrix[3 + i % 3] + power[i / 3 * 3 + 2] * matrix[6 + i % 3];
        for (int i = 0; i < 9; i++) power[i] = next[i];
    }
    return power[0] + power[4] + power[8];
}
