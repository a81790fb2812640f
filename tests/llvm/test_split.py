"""llvm/split.py: which functions of a file are sources, and what is left of the file for each."""

import pytest

import llvm
from c_sources import DIGITS, WORDS, need_clang_and_sandbox
from llvm.split import spans_of

need_clang_and_sandbox()

FILE = r"""// A file as people write them: "quotes" and { in a comment.
#include <assert.h>
#include <stdio.h>
#define OPEN '{'
static int twice(int a) { return 2 * a; }
/* Adds.
 */
int add(int a, int b)
{
    if (a == OPEN) puts("}{");
    return twice(a) + b;
}
struct pair { int x, y; };
int (*table[])(int) = {twice};
// It calls add.
int sum(struct pair p) { return add(p.x, p.y); }

static void test(void) { assert(sum((struct pair){1, 2}) == 4); }
#ifdef VERBOSE
#define SAY 1
#endif
int main(void) { test(); return 0; }
"""


def parts(source):
    return {row["id"]: row["source"] for row in llvm.split({"id": "x", "source": source})}


def test_each_public_function_is_a_source_with_what_it_reaches():
    found = parts(FILE)
    assert list(found) == ["x:add", "x:sum"]
    for name, text in found.items():
        assert "int add(" in text and "twice(int a)" in text and "#define SAY 1" in text
        assert "main" not in text and "test(void)" not in text
        assert "It calls add" not in text or name == "x:sum"
        assert llvm.winners(text, ["O1"])  # it compiles
        llvm.check_driven(text)
    assert "sum(" not in found["x:add"] and "struct pair" in found["x:add"]


def test_a_main_that_reads_is_a_source_too():
    reads = FILE.replace("test();", "test(); getchar();")
    assert list(parts(reads)) == ["x", "x:add", "x:sum"]
    assert parts(reads)["x"] == reads


@pytest.mark.parametrize(
    "source",
    [
        DIGITS,
        WORDS,
        DIGITS + "int f(int n) { return g(n) + 1; }",  # one that no other calls
        "int main(void) { return 0; }",
        "int f(int a) { return a +; }",
        "#define F(name) int name(int a) { return a; }\nF(f)\nF(g)\n",
    ],
)
def test_what_is_one_source_stays_as_it_is(source):
    assert parts(source) == {"x": source}


def test_functions_are_found_whatever_stands_around_them():
    source = """#define X { \\
    (
char brace = '{', *text = "}\\" {"; /* { */ // {
__attribute__((noinline)) static
int f(int (*g)(int), int a[2]) { if (a[0]) { return '}'; } return 1; }
int a[] = {1, 2}; struct s { int f; } s = {3};
#if 1
int g(void) { return 2; }
#endif
"""
    spans = spans_of(source, {"f", "g", "h"})
    texts = {name: source[start:end].strip() for name, (start, end) in spans.items()}
    assert texts["g"] == "int g(void) { return 2; }"
    assert texts["f"].startswith("/* { */ // {\n__attr") and texts["f"].endswith("return 1; }")
    assert list(texts) == ["f", "g"]
