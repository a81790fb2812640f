#include <stdio.h>
#include <string.h>
int main(void)
{
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        int n = strlen(line);
        if (n && line[n - 1] == '\n') line[--n] = 0;
        for (int i = n - 1; i >= 0; i--) putchar(line[i]);
        putchar('\n');
    }
    return 0;
}
