#include <ctype.h>
#include <stdio.h>
int main(void)
{
    int counts[26] = {0}, c;
    while ((c = getchar()) != EOF)
        if (isalpha(c)) counts[tolower(c) - 'a']++;
    for (int i = 0; i < 26; i++) {
        if (!counts[i]) continue;
        printf("%c ", 'a' + i);
        for (int star = 0; star < counts[i]; star++) putchar('*');
        putchar('\n');
    }
    return 0;
}
