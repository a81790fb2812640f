static int fill(unsigned short *land, int row, int column)
{
    if (row < 0 || row > 3 || column < 0 || column > 3) return 0;
    unsigned short bit = 1 << (row * 4 + column);
    if (!(*land & bit)) return 0;
    *land &= ~bit;
    return 1 + fill(land, row - 1, column) + fill(land, row + 1, column) + fill(land, row, column - 1) + fill(land, row, column + 1);
}
/* The largest island of a four by four map. */
int flood_fill(unsigned short land)
{
    int largest = 0;
    for (int cell = 0; cell < 16; cell++) {
        int size = fill(&land, cell / 4, cell % 4);
        if (size > largest) largest = size;
    }
    return largest;
}
