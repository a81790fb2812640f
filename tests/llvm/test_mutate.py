"""llvm/mutate.py: every operator makes small edits of what is code, and most of them compile."""

import random

import pytest

import llvm
from c_sources import LOOP, NUMBERS, POINTERS, need_clang_and_sandbox
from llvm.mutate import OPERATORS

need_clang_and_sandbox()


def results(source):
    """{name of the operator: what it makes of the source}"""
    found = {operator.__name__: set() for operator in OPERATORS}
    for edit in llvm.edits(source, random.Random(0)):
        found[edit.operator].add(llvm.applied(source, [edit]))
    return found


@pytest.mark.parametrize(
    "operator, source, expected",
    [
        ("comparison", "a < b", {"a <= b"}),
        ("comparison", "a[0]>=b", {"a[0]>b"}),
        ("comparison", "p->x << 2 == b", {"p->x << 2 != b"}),
        ("operator", "a + b", {"a - b", "a * b"}),
        ("operator", "int *p = a* b, c = (a)%3;", {"int *p = a* b, c = (a)/3;"}),
        ("operator", "f(&a, -b) && c", {"f(&a, -b) || c"}),
        ("operator", "a <<= i--", {"a >>= i--"}),
        ("operator", "a |= b | c", {"a &= b | c", "a ^= b | c", "a |= b & c", "a |= b ^ c"}),
        ("constant", "7u + x2 + 1e5", {"8u + x2 + 1e5", "6u + x2 + 1e5"}),
        ("constant", "0xFFul", {"0x100ul", "0xfeul"}),
        ("constant", "0 + 0.5f", {"1 + 0.5f", "0 + 1.5f"}),
        ("constant", "c == 'a' || c == '\\0' || c == '9'",
         {"c == 'b' || c == '\\0' || c == '9'", "c == 'a' || c == '\\0' || c == '8'"}),
        ("swap_operands", "i - n", {"n - i"}),
        ("swap_operands", "p->i - n, i - n[0], i - i, i + n, i->n", set()),
        ("drop_statement", "{ a[i] = 3; }", {"{ }"}),
        ("drop_statement", "{ int a = 3; for (a = 0; a < 3; a++) ; return (a == 3); }", set()),
        ("drop_statement", "{ swap(&a, &b); p->n += 1; }", {"{ p->n += 1; }", "{ swap(&a, &b); }"}),
    ],
)  # fmt: skip
def test_operators(operator, source, expected):
    assert results(source)[operator] == expected


def test_what_is_no_code_stays():
    source = "#define N 3 + \\\n  4\n// 5 < 6\n/* 7\n == 8 */ \"9 && \\\"10\"; '\"'; '+'\n"
    assert llvm.edits(source, random.Random(0)) == []


def test_all_edits_once_and_operators_take_turns():
    edits = llvm.edits(LOOP, random.Random(0))
    assert len(set(edits)) == len(edits) > 12
    assert len({edit.operator for edit in edits[:4]}) == 4
    again = llvm.edits(LOOP, random.Random(0))
    assert again == edits != llvm.edits(LOOP, random.Random(1))


def test_edits_together():
    first, second = [
        edit for edit in llvm.edits("a + b < 4", random.Random(0)) if edit.now in ("<=", "5")
    ]
    assert llvm.applied("a + b < 4", [first, second]) == "a + b <= 5"
    assert llvm.applied("a + b < 4", [second, first]) == "a + b <= 5"
    assert first.overlaps(first) and not first.overlaps(second)


def test_most_edits_compile():
    tried = compiled = 0
    for source in {**NUMBERS, **POINTERS}.values():
        for edit in llvm.edits(source, random.Random(0))[:6]:
            tried += 1
            try:
                llvm.unoptimised(llvm.applied(source, [edit]), ["O0"])
                compiled += 1
            except llvm.Rejected:
                pass
    assert compiled > 0.8 * tried
