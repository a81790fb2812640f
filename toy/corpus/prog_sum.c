#include <stdio.h>
int main(void)
{
    long sum = 0;
    int number, count = 0;
    while (scanf("%d", &number) == 1) {
        sum += number;
        count++;
    }
    printf("%ld of %d\n", sum, count);
    return 0;
}
