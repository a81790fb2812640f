#include <stdio.h>
int main(void)
{
    char line[128];
    int number = 0;
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == '\n') continue;
        printf("%4d  %s", ++number, line);
    }
    return number == 0;
}
