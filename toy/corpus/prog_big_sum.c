#include <stdio.h>
#include <string.h>
/* The sum of two numbers of any length, digit by digit. */
int main(void)
{
    char a[64], b[64], sum[66];
    if (scanf("%63s %63s", a, b) != 2) return 1;
    int i = strlen(a), j = strlen(b), k = 65, carry = 0;
    sum[k] = 0;
    while ((i > 0 || j > 0 || carry) && k > 0) {
        int digits = carry;
        if (i > 0) digits += (a[--i] & 15) % 10;
        if (j > 0) digits += (b[--j] & 15) % 10;
        sum[--k] = '0' + digits % 10;
        carry = digits / 10;
    }
    puts(sum + k);
    return 0;
}
