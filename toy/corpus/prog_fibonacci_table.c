#include <stdio.h>
int main(void)
{
    int rows = 5, parsed = scanf("%d", &rows);
    unsigned long a = 0, b = 1;
    if (parsed != 1 || rows < 0) rows = 5;
    for (int i = 0; i < rows % 30; i++) {
        printf("%2d %lu%s\n", i, a, a % 2 ? "" : " even");
        unsigned long next = a + b;
        a = b;
        b = next;
    }
    return 0;
}
