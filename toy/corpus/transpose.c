void transpose(int *matrix)
{
    for (int row = 0; row < 5; row++)
        for (int column = row + 1; column < 5; column++) {
            int swap = matrix[row * 5 + column];
            matrix[row * 5 + column] = matrix[column * 5 + row];
            matrix[column * 5 + row] = swap;
        }
}
