#include <stdio.h>
int main(void)
{
    int limit;
    char composite[100] = {0};
    if (scanf("%d", &limit) != 1 || limit < 0) limit = 30;
    limit %= 100;
    for (int i = 2; i < limit; i++) {
        if (composite[i]) continue;
        printf("%d ", i);
        for (int j = 2 * i; j < limit; j += i) composite[j] = 1;
    }
    putchar('\n');
    return 0;
}
