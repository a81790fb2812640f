#include <stdio.h>
#include <stdlib.h>
static int order(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}
int main(void)
{
    int numbers[64], n = 0;
    while (n < 64 && scanf("%d", &numbers[n]) == 1) n++;
    qsort(numbers, n, sizeof numbers[0], order);
    for (int i = 0; i < n; i++) printf("%d%s", numbers[i], i + 1 < n ? " " : "\n");
    printf("median %d\n", n ? numbers[n / 2] : 0);
    return 0;
}
