#include <stdio.h>
int main(void)
{
    long m[2][2] = {{1, 1}, {1, 0}}, p[2][2] = {{1, 0}, {0, 1}};
    int times = 0;
    scanf("%d", &times);
    for (times = times < 0 ? 7 : times % 20; times > 0; times--) {
        long q[2][2];
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++) q[i][j] = (p[i][0] * m[0][j] + p[i][1] * m[1][j]) % 1000;
        for (int i = 0; i < 4; i++) p[i / 2][i % 2] = q[i / 2][i % 2];
    }
    for (int i = 0; i < 2; i++) printf("%3ld %3ld\n", p[i][0], p[i][1]);
    return 0;
}
