#include <stdio.h>
int main(void)
{
    int number, least = 0, most = 0, first = 1;
    while (scanf("%d", &number) == 1) {
        if (first || number < least) least = number;
        if (first || number > most) most = number;
        first = 0;
    }
    if (first) puts("no numbers");
    else printf("%d to %d\n", least, most);
    return first;
}
