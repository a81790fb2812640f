#include <stdio.h>
int main(void)
{
    static char open[200];
    int depth = 0, c, line = 1;
    while ((c = getchar()) != EOF) {
        if (c == '\n') line++;
        if (c == '(' || c == '[' || c == '{') open[depth++] = c;
        if (c == ')' || c == ']' || c == '}') {
            if (depth == 0 || (open[depth - 1] == '(' ? c != ')' : c != open[depth - 1] + 2)) {
                printf("line %d: unexpected %c\n", line, c);
                return 1;
            }
            depth--;
        }
    }
    printf("%d open\n", depth);
    return depth != 0;
}
