/* Two by two blocks of unsigned numbers, row by row, of order four. */
void matrix_multiply(const unsigned *a, const unsigned *b, unsigned *product)
{
    for (int row = 0; row < 4; row++)
        for (int column = 0; column < 4; column++) {
            unsigned sum = 0;
            for (int k = 0; k < 4; k++) sum += a[row * 4 + k] * b[k * 4 + column];
            product[row * 4 + column] = sum;
        }
}
