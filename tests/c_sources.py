"""C sources for the tests of ir.py and llvm/, and what these tests share."""

import os
import random
import tempfile

import pytest

import llvm
from judge import sandbox
from llvm.compare import assemble

LOOP = """int f(int a, int b) {
    int s = 0;
    for (int i = 1; i <= b; i++) {
        if (a % 3 > i) {
            s = s + i * 2;
        } else {
            s = s - a;
        }
    }
    return s;
}
"""
DIGITS = """int g(int n) {
    int s = 0;
    while (n > 0) {
        s = s + n % 10;
        n = n / 10;
    }
    return s;
}
"""
SWITCH = """static const short T[4] = {3, -1, 4, 1};
short f(unsigned char k, long x) {
    int returned = 0;
    switch (k % 6) { case 0: returned = x % 7; break; case 1: case 2: \
returned = T[k & 3]; break; default: returned = -k; }
    return returned;
}
"""
ARRAY = """_Bool f(unsigned n) {
    int t[8];
    for (int i = 0; i < 8; i++) t[i] = n >> i;
    for (int i = 0; i < 8; i++) if (t[i] == i * 5) return 1;
    return 0;
}
"""
ABS = """long f(unsigned x, int y) {
    return (long)x + (y < 0 ? -(long)y : y);
}
"""
TEXT = """#include <string.h>
void reverse(char *s) {
    int n = strlen(s);
    for (int i = 0; i < n / 2; i++) {
        char t = s[i];
        s[i] = s[n - 1 - i];
        s[n - 1 - i] = t;
    }
}
"""
BUFFERS = """typedef unsigned char byte;
int weigh(const byte *a, int n, short *b) {
    int s = 0;
    for (int i = 0; i < n; i++) {
        s += a[i] * 3;
        b[i] -= s % 7;
    }
    return s;
}
"""
FLOAT = """double dot(const double *a, const float *b, int n, float scale) {
    double s = 0.5;
    for (int i = 0; i < n; i++) s += a[i] * b[i] * scale;
    return s > 100 ? 100 : s;
}
"""
FIND = """const char *find(const char *s, char c) \
{ while (*s && *s != c) s++; return *s ? s : 0; }
"""
ENUM = """enum kind { A, B = 5, C };
typedef enum kind Kind;
int step(Kind k, int x) { switch (k) \
{ case A: return x % 100 + 1; case B: return x / 7; default: return 3; } }
"""
WORDS = """#include <ctype.h>
#include <stdio.h>
int main(void) {
    int c, words = 0, in = 0, lines = 0;
    while ((c = getchar()) != EOF) {
        if (c == '\\n') lines++;
        if (isspace(c)) in = 0;
        else if (!in) { in = 1; words++; }
    }
    printf("%d %d\\n", lines, words);
    return words > 3;
}
"""
SORT = """#include <stdio.h>
#include <stdlib.h>
static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int calls;
int main(void) {
    int n, *a;
    if (scanf("%d", &n) != 1 || n < 0 || n > 50) return 1;
    a = malloc(sizeof(int) * (n + 1));
    while (calls < n && scanf("%d", &a[calls]) == 1) a[calls++] %= 1000;
    qsort(a, calls, sizeof *a, order);
    for (int i = 0; i < calls; i++) fprintf(stdout, "%d ", a[i]);
    puts("");
    free(a);
    return 0;
}
"""
NUMBERS = {"loop": LOOP, "digits": DIGITS, "switch": SWITCH, "array": ARRAY, "abs": ABS}
POINTERS = {
    "text": TEXT,
    "buffers": BUFFERS,
    "float": FLOAT,
    "find": FIND,
    "enum": ENUM,
    "words": WORDS,
    "sort": SORT,
}
ALIKE = [0, 0, 0, 0]  # the outcome of a text that behaves like its source


def need_clang_and_sandbox():
    """Skips the module that calls it where one is missing; on CI that is an error."""
    try:
        llvm.clang()
        sandbox.probe()
    except (RuntimeError, OSError) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"needs clang and the sandbox: {error}", allow_module_level=True)


def assemble_as_one(texts):
    """Whether all texts assemble, in one module."""
    with (
        tempfile.TemporaryDirectory() as box
    ):  # not tmp_path: the box's uid may not enter its parents
        return assemble(texts, box, "echo *.o").stdout.decode().split() == ["all.o"]


def outcomes(source, texts, seed="fresh", cflags=""):
    """(inputs, [differed, crashed, endless, unstable] of each text against the source)"""
    rng = random.Random(seed)
    inputs, compared = llvm.compare_with_source(source, texts, rng, cflags=cflags)
    return inputs, [outcome and list(outcome) for outcome in compared]
