#include <stdio.h>
int main(void)
{
    int secret = 7, guess, tries = 0;
    while (scanf("%d", &guess) == 1) {
        tries++;
        if (guess == secret) {
            printf("found after %d\n", tries);
            return 0;
        }
        puts(guess < secret ? "higher" : "lower");
        secret = (secret * 5 + 3) % 11;
    }
    printf("given up after %d\n", tries);
    return 1;
}
