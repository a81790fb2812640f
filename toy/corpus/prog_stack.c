#include <stdio.h>
#include <string.h>
/* Reverse Polish notation, a word at a time. */
int main(void)
{
    char word[32];
    long stack[40];
    int depth = 0;
    while (depth < 39 && scanf("%31s", word) == 1) {
        if (strlen(word) == 1 && strchr("+-*", word[0]) && depth >= 2) {
            long b = stack[--depth], a = stack[--depth];
            stack[depth++] = (word[0] == '+' ? a + b : word[0] == '-' ? a - b : a * b) % 100000;
        } else {
            long number = 0;
            for (char *c = word; *c; c++) number = (number * 10 + (*c & 15)) % 100000;
            stack[depth++] = number;
        }
    }
    while (depth) printf("%ld\n", stack[--depth]);
    return 0;
}
