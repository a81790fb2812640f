int grid_paths(unsigned short blocked)
{
    int ways[4][4] = {{0}};
    for (int row = 0; row < 4; row++)
        for (int column = 0; column < 4; column++) {
            if (blocked >> (row * 4 + column) & 1) continue;
            if (row == 0 && column == 0) ways[row][column] = 1;
            if (row > 0) ways[row][column] += ways[row - 1][column];
            if (column > 0) ways[row][column] += ways[row][column - 1];
        }
    return ways[3][3] + 100 * ways[2][2];
}
