void spiral_order(const char *grid, char *path)
{
    int top = 0, bottom = 3, left = 0, right = 4, k = 0;
    while (top <= bottom && left <= right) {
        for (int c = left; c <= right; c++) path[k++] = grid[top * 5 + c];
        for (int r = ++top; r <= bottom; r++) path[k++] = grid[r * 5 + right];
        right--;
        if (top <= bottom)
            for (int c = right; c >= left; c--) path[k++] = grid[bottom * 5 + c];
        bottom--;
        if (left <= right)
            for (int r = bottom; r >= top; r--) path[k++] = grid[r * 5 + left];
        left++;
    }
    path[k] = 0;
}
