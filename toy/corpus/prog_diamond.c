#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    int size = 3;
    if (scanf("%d", &size) != 1) size = 3;
    size = abs(size % 8);
    for (int row = -size; row <= size; row++) {
        for (int column = -size; column <= size; column++) putchar(abs(row) + abs(column) <= size ? '#' : '.');
        putchar('\n');
    }
    return 0;
}
