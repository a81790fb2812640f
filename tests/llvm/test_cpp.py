"""C++: what is driven, what is refused, and what a file becomes."""

import json

import pytest

import data
import ir
import llvm
from c_sources import ALIKE, need_clang_and_sandbox, outcomes

need_clang_and_sandbox()

SETTINGS = ir.Settings(["O3", "Oz"], losers=0, loser_mode="verified", seed=0)
# The text that clang makes of it does the same, and one with this edit does not.
SEEN = {
    "references": (
        "struct P { int x; double y; int sum() const { return x + (y > 3); } };\n"
        "bool f(int &a, const P &p) { a += p.sum() % 9; return a > 20; }",
        "i32 %8, 9",
        "i32 %8, 8",
    ),
    "library": (
        "#include <algorithm>\n"
        "int f(int *a, int n) { std::reverse(a, a + n); return std::max(n, 5); }",
        "@llvm.smax",
        "@llvm.smin",
    ),
    "new": (
        "struct node { int value; node *next; };\n"
        "node *f(node *n, int v) { if (v > 3 && n) { node *m = n->next; delete n; return m; } "
        "return new node{v, n}; }",
        "sgt i32 %1, 3",
        "sgt i32 %1, 4",
    ),
    "template": (
        "template <class A, class B> struct both { A a; B b; };\n"
        "template <class T> T twice(T x) { static int calls; calls++; return x + x; }\n"
        "int f(both<int, float> p, int (*g)(int)) { return twice(p.a % 9) + twice(g(3)); }",
        ", 9",
        ", 8",
    ),
    "never null": (  # so O1 reads it on all paths
        "struct P { int x, y; };\n"
        "int f(const P &p, int n) { int r = n; if (n > 3) r = p.x; return r; }",
        "sgt i32 %1, 3",
        "sgt i32 %1, 2",
    ),
    "one name in two scopes": (
        "namespace a { struct P { int x; }; }\nnamespace b { struct P { double x; int y; }; }\n"
        "int f(a::P p, b::P *q) { return q ? p.x % 7 + (q->x > 3) + q->y % 5 : 0; }",
        ", 5",
        ", 6",
    ),
    "static member": (
        "struct A { static const int N = 9; double d; int x; };\n"
        "int f(const A &a) { return a.x % a.N + (a.d > 3); }",
        ", 9",
        ", 8",
    ),
    "predicate": (  # it is not the same for a number and its opposite
        "int f(bool (*is)(int), int a) { a %= 99; return is(a) != is(-a) ? 5 : 3; }",
        " 5",
        " 6",
    ),
    "lambda": (
        "int third(int a) { return a / 3; }\n"
        "int f(int *a) { auto g = [](int b) { return third(b) % 9; }; return g(a[0]) + g(a[1]); }",
        ", 9",
        ", 8",
    ),
}


def compiled(source, level="O1"):
    (text,) = llvm.optimised(llvm.unoptimised(source, [level], llvm.CPP).items())
    return text


@pytest.mark.parametrize("name", SEEN)
def test_what_functions_do_is_seen(name):
    source, was, now = SEEN[name]
    text = compiled(source)
    assert was in text, text
    inputs, (right, wrong) = outcomes(source, [text, text.replace(was, now)], cflags=llvm.CPP)
    assert inputs == 96 and right == ALIKE
    assert sum(wrong[:3]) > 0


BAD = {
    "code before main: a constructor": "#include <iostream>\nint f(int a) { return a; }",
    "parameter type struct vector<int, std::allocator<int> > *": "#include <vector>\n"
    "int f(std::vector<int> &v) { return v.size(); }",
    "parameter type struct A with a constructor": "struct A { int b; ~A(); };\n"
    "int f(const A &a) { return a.b; }",
    "parameter type pointer to a member": "struct A { int b; };\n"
    "int f(A a, int A::*b) { return a.*b; }",
    "calls _ZSt17__throw_bad_allocv of a C++ library": "#include <vector>\n"
    "int f(int n) { std::vector<int> v; v.push_back(n); return v.size(); }",
    "does not compile: source.c:1:23: error: cannot use 'throw'": "int f(int a) { if (a) throw 1; "
    "return a; }",
}


@pytest.mark.parametrize("reason", BAD)
def test_what_cannot_be_driven_is_named(reason):
    with pytest.raises(llvm.Rejected) as rejected:
        llvm.check_driven(BAD[reason], llvm.CPP)
    assert str(rejected.value).startswith(reason)


def test_overloads_and_what_lambdas_call_stay_together():
    """A source of each overload would have the id of the other, and perhaps its text."""
    overloads = "int f(int a) { return a; }\ndouble f(double a) { return a; }\n"
    overloads += "int g(int a) { return a; }\n"
    lambdas = "int third(int a) { return a / 3; }\nint g(int a) { return a; }\n"
    lambdas += "int f(int a) { return [](int b) { return third(b); }(a); }\n"
    for text, ids in ((overloads, ["x"]), (lambdas, ["x:third", "x:g", "x:f"])):
        rows = llvm.split({"id": "x", "source": text}, llvm.CPP)
        assert [row["id"] for row in rows] == ids
    assert "third" in rows[2]["source"] and "int g" not in rows[2]["source"]


def test_a_file_gives_groups_that_hold(tmp_path):
    text = "#include <algorithm>\n#include <cstdlib>\n"
    text += "static int third(int &a) { return a /= 3; }\n"
    text += "int f(int a) { int b = std::abs(a % 1000); return third(b) + std::max(b * 5, 9); }\n"
    text += "int g(int *p, int n) { int s = 0; for (int i = 0; i < n; i++) s ^= p[i]; return s; }\n"
    (tmp_path / "two.cpp").write_text(text)
    groups = []
    for row in ir.split_rows(llvm.read_sources(tmp_path), SETTINGS, 1):
        settings = ir.for_language(row, SETTINGS)
        group = ir.build_group(row, settings).group
        assert group["meta"]["fingerprint"] == ir.fingerprint(row, settings)
        assert group["language"] == "cpp"
        assert group["winners"][0] == compiled(group["source"], "O3")
        result = ir.check_group(group, 100)
        assert result.inputs == 100 and not result.wrong_winners + result.wrong_losers
        groups.append(group)
    assert [group["id"] for group in groups] == ["two.cpp:f", "two.cpp:g"]
    assert "third" in groups[0]["source"] and "third" not in groups[1]["source"]
    assert "@_Z1gPii(" in groups[1]["winners"][0]
    (tmp_path / "g.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
    assert data.read_groups(tmp_path / "g.jsonl") == groups
