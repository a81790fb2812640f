#include <stdio.h>
/* One operation a line: a number, a sign, a number. */
int main(void)
{
    int a, b;
    char sign;
    while (scanf("%d %c %d", &a, &sign, &b) == 3) {
        long result = 0;
        switch (sign) {
        case '+': result = (long)a + b; break;
        case '-': result = (long)a - b; break;
        case '*': result = (long)a * b; break;
        case '/':
            if (b == 0) {
                puts("division by zero");
                return 1;
            }
            result = (long)a / b;
            break;
        default: result = (long)a - sign;
        }
        printf("%ld\n", result);
    }
    puts("end");
    return 0;
}
