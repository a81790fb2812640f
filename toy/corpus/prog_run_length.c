#include <stdio.h>
int main(void)
{
    int last = EOF, run = 0, c;
    do {
        c = getchar();
        if (c == last) {
            run++;
            continue;
        }
        if (last != EOF) {
            if (run > 1) printf("%d", run);
            putchar(last);
        }
        last = c;
        run = 1;
    } while (c != EOF);
    return 0;
}
