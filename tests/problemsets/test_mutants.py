"""Every mutant is one edit away, parses, and kinds of edits take turns."""

import ast
import random

from problem_rows import ALSO_RIGHT
from problemsets import Solution, mutants

CPP = """#include <vector>
// a < b and 5 + 5 in a comment
int main() {
  std::vector<int> v; int a = 7; char c = '3';
  for (int i = 0; i < a; i++) { a += i % 2; v.push_back(a); }
  return a > 1 && v.size() != 3 ? a / 2 : "4 < 5"[0];
}
"""


def texts(language, source, count=1000):
    found = mutants(Solution(language, source), count, random.Random(0))
    assert {mutant.language for mutant in found} <= {language}
    return [mutant.source for mutant in found]


def test_python():
    found = texts("python", ALSO_RIGHT)
    wanted = (
        "range(1, n - 1)",
        "range(2, n + 1)",
        "range(1, n + 2)",
        "i % 3 != 0",
        "i // 3 == 0",
        "i % 4 == 0",
        "s -= i",
        "    pass",
        "s = 1",
    )
    for part in wanted:
        assert any(part in text for text in found), part
    original = ast.unparse(ast.parse(ALSO_RIGHT)).splitlines()
    for text in found:
        differing = [a for a, b in zip(original, text.splitlines()) if a != b]
        assert len(differing) == 1, text


def test_tokens():
    found = texts("cpp", CPP)
    wanted = (
        "i <= a",
        "a -= i % 2",
        "a += i / 2",
        "i % 3",
        "a >= 1",
        "a > 1 || v",
        "v.size() == 3",
        "a * 2",
        "int a = 8",
        "{; v.push_back",
        "+= i % 2;; }",
    )
    for part in wanted:
        assert any(part in text for text in found), part
    for kept in ("vector<int>", "// a < b and 5 + 5", "'3'", '"4 < 5"[', "#include <vector>"):
        assert all(kept in text for text in found), kept


def test_the_count_the_seed_and_what_has_none():
    few = texts("python", ALSO_RIGHT, 4)
    assert len(few) == 4 and few == texts("python", ALSO_RIGHT, 4)
    assert len(set(texts("python", ALSO_RIGHT))) == len(texts("python", ALSO_RIGHT))
    assert texts("python", "print 5") == [] and texts("python", "print(input())\n") == ["pass\n"]


def test_a_long_expression_is_no_error():
    assert texts("python", "print(" + "1+" * 400 + "1)\n") == ["pass\n"]
    assert texts("python", "n = " + "1+" * 400 + "1\n") == []
