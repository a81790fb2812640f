#include <ctype.h>
#include <stdio.h>
int main(void)
{
    int c, characters = 0, words = 0, lines = 0, inside = 0;
    while ((c = getchar()) != EOF) {
        characters++;
        if (c == '\n') lines++;
        if (isspace(c)) {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            words++;
        }
    }
    printf("%d %d %d\n", lines, words, characters);
    return 0;
}
