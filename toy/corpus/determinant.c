long determinant(const short *m)
{
    return (long)m[0] * (m[4] * m[8] - m[5] * m[7]) - (long)m[1] * (m[3] * m[8] - m[5] * m[6]) + (long)m[2] * (m[3] * m[7] - m[4] * m[6]);
}
