"""Harness problems and MultiPL-E rows.

Every language, both forms, both rules, and what only the guarded rule sees.
"""

import json
from dataclasses import replace

import pytest

from data import question, read_problems
from evaluate import official_minus_guarded, runnable, table
from judge import harnesses, sandbox
from judge.harnesses import HARNESSES, chat_question, guarded_harness, program
from judge.verdict import Verdict
from judging import missing_tools, score, skip_without_tool
from reward import judge, judge_pool

MISSING = missing_tools({name: harness.language for name, harness in HARNESSES.items()})


@pytest.fixture(autouse=True)
def skip(request):
    skip_without_tool(request, MISSING)


@pytest.fixture(scope="module")
def pool():
    with judge_pool(2) as pool:
        yield pool


# HumanEval_53_add as MultiPL-E's translators render it: (its language, prompt, stop tokens, head of
# the tests, an assertion, tail). In every row the second assertion is add(5, 7) == 12, so an answer
# that always says 5 passes the first one only.
CS_IMPORTS = "".join(
    f"using System{name};\n"
    for name in (
        "",
        ".Numerics",
        ".Diagnostics",
        ".Collections.Generic",
        ".Linq",
        ".Text",
        ".Security.Cryptography",
    )
)
JAVA_IMPORTS = "".join(
    f"import {name}.*;\n"
    for name in (
        "java.util",
        "java.lang.reflect",
        "org.javatuples",
        "java.security",
        "java.math",
        "java.io",
        "java.util.stream",
    )
)
NODE_TESTS = (
    "const assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = add;\n",
    "  assert.deepEqual(candidate({0}, {1}),{2});\n",
    "}\n\ntest();",
)
SHAPES = {
    "python": (
        "py",
        'def add(x: int, y: int) -> int:\n    """Add two numbers x and y\n    >>> add(2, 3)\n'
        '    5\n    """\n',
        ["\ndef", "\n#", "\nif", "\nclass"],
        "def check(candidate):\n",
        "    assert candidate({0}, {1}) == {2}\n",
        "\ndef test_check():\n    check(add)\n\ntest_check()\n",
    ),
    "cpp": (
        "cpp",
        "#include<assert.h>\n#include<bits/stdc++.h>\n// Add two numbers x and y\n"
        "// >>> add((2), (3))\n// (5)\nlong add(long x, long y) {\n",
        ["\n}"],
        "}\nint main() {\n    auto candidate = add;\n",
        "    assert(candidate(({0}), ({1})) == ({2}));\n",
        "}\n",
    ),
    "java": (
        "java",
        JAVA_IMPORTS
        + "class Problem {\n    // Add two numbers x and y\n    // >>> add((2l), (3l))\n"
        "    // (5l)\n    public static long add(long x, long y) {\n",
        ["\n    }\n"],
        "    }\n    public static void main(String[] args) {\n",
        "    assert(add(({0}l), ({1}l)) == ({2}l));\n",
        "    }\n\n}\n",
    ),
    "php": (
        "php",
        "<?php\n// Add two numbers x and y\n// >>> add(2, 3)\n// 5\nfunction add($x, $y) {\n",
        ["\nfunction", "\n?>", "\n//", "\n#"],
        "function candidate(...$args) {\n    return add(...$args);\n}\n\nfunction test(): void {\n",
        '    if (candidate({0}, {1}) !== {2}) {{ throw new Exception("Test failed!"); }}\n',
        "}\n\ntest();",
    ),
    "bash": (
        "sh",
        "#!/bin/bash\n# Add two numbers x and y\n# >>> add 2 3\n# 5\n#\n# $1 is an integer\n"
        "# $2 is an integer\nadd() {\n",
        ["\n}"],
        '}\n\ncandidate() {\n    add "$@"\n}\n\nset -e\nrun_test() {\n',
        '    [[ $(candidate "{0}" "{1}") = "{2}" ]]\n',
        "}\n\nrun_test",
    ),
    "javascript": (
        "js",
        "//Add two numbers x and y\n// >>> add(2, 3)\n// 5\nfunction add(x, y){\n",
        ["\nfunction ", "\n/*", "\n//", "\nconsole.log"],
        *NODE_TESTS,
    ),
    "typescript": (
        "ts",
        "//Add two numbers x and y\n// >>> add(2, 3)\n// 5\n"
        "function add(x: number, y: number): number {\n",
        ["\nfunction ", "\n/*", "\n//", "\nclass"],
        "declare var require: any;\n" + NODE_TESTS[0],
        *NODE_TESTS[1:],
    ),
    "go": (
        "go_test.go",
        'package add_test\n\nimport (\n    "testing"\n    "fmt"\n)\n\n// Add two numbers x and y\n'
        "// >>> add(2, 3)\n// 5\nfunc add(x int, y int) int {\n",
        ["\nfunc", "struct", "\n// "],
        "func TestAdd(t *testing.T) {\n  candidate := add\n\ttype test struct {\n"
        "\t\tactual   interface{}\n\t\texpected interface{}\n\t}\n   tests := []test{\n",
        "     {{ actual: candidate({0}, {1}), expected: {2} }},\n",
        "   }\n\n\tfor i, tc := range tests {\n"
        '\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {\n'
        '\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {\n'
        "\t\t\t\tt.Errorf(\"expected '%s', got '%s'\", tc.expected, tc.actual)\n\t\t\t}\n\t\t})\n"
        "\t}\n}\n",
    ),
    "csharp": (
        "cs",
        CS_IMPORTS + "class Problem {\n    // Add two numbers x and y\n"
        "    public static long Add(long x, long y) {\n",
        ["\n    }\n"],
        "    }\n    public static void Main(string[] args) {\n",
        "    Debug.Assert(Add(({0}L), ({1}L)) == ({2}L));\n",
        "    }\n\n}\n",
    ),
    "scala": (
        "scala",
        "import scala.math._\nimport scala.collection.mutable._\nobject Problem {\n"
        "    // Add two numbers x and y\n    def add(x : Long, y : Long) : Long = {\n",
        ["\n    }\n"],
        "    }\n    def main(args: Array[String]) = {\n",
        "    assert(add(({0}l), ({1}l)) == ({2}l));\n",
        "    }\n\n}\n",
    ),
    "haskell": (
        "hs",
        "-- | Add two numbers x and y\n-- >>> add 2 3\n-- 5\nadd :: Int -> Int -> Int\nadd x y =",
        ["\n\n", "\n{-", "\ntype", "\ndata", "\nnewtype"],
        "\nmain :: IO ()\nmain = do\n  let candidate = add\n",
        '  if candidate {0} {1} == {2} then pure () else error "assertion failed"\n',
        "  pure ()\n",
    ),
}


def row(language, prompt=None):
    spelt, asked, stops, head, assertion, tail = SHAPES[language]
    tests = head + "".join(assertion.format(a, b, a + b) for a, b in ((2, 3), (5, 7))) + tail
    return {
        "name": "HumanEval_53_add",
        "language": spelt,
        "prompt": prompt or asked,
        "tests": tests,
        "stop_tokens": stops,
    }


def block(language, code):
    return f"Sure:\n```{language}\n{code}\n```\nIt adds."


# What follows the prompt; a right and a wrong sum, cut where a stop token follows.
SUM = {
    "python": "    return x + y\n",
    "php": "    return $x + $y;\n}\n",
    "bash": "    echo $(($1 + $2))\n}\n",
    "haskell": " x + y\n\n",
    "scala": "        x + y\n    }\n\n",
    "go": "\treturn x + y\n}\n",
    "java": "        return x + y;\n    }\n\n",
    "csharp": "        return x + y;\n    }\n\n",
}
AFTER = {
    "python": "\ndef other(:",
    "cpp": "int main() { oops",
    "java": "oops",
    "csharp": "oops",
    "scala": "oops",
    "bash": "oops",
    "haskell": "oops",
    "php": "function add() {",
    "javascript": "console.log(oops);",
    "typescript": "\nfunction add() {",
    "go": "func add() {",
}


def body(language):
    return SUM.get(language, "    return x + y;\n}\n")


def wrong(code):
    return code.replace(" + y", " - y").replace(" + $", " - $")


def whole(language):
    """A function as a chat model writes it: without the class and the imports of the prompt."""
    prompt = SHAPES[language][1]
    start = {
        "python": "def",
        "php": "function",
        "bash": "add()",
        "javascript": "function",
        "typescript": "function",
        "go": "func",
        "cpp": "long",
        "java": "    public",
        "csharp": "    public",
        "scala": "    def",
        "haskell": "add ::",
    }[language]
    return prompt[prompt.index(start) :] + body(language).rstrip()


CHAT = {  # other ways to answer
    "python": ["from typing import *\n\n" + whole("python"), "    return x + y"],
    "cpp": [
        "#include <map>\nusing namespace std;\n\nstatic long two(long x) {\n    return x;\n}\n\n"
        "long add(long a, long b)\n{\n    return two(a) + b;\n}",
        "    return x + y;",
    ],
    "java": [
        "import java.util.*;\n\npublic class Solution {\n    /** Adds { two. */\n"
        "    public static long add(long x, long y) {\n        return x + y;\n    }\n}",
        "import java.util.function.*;\n\nstatic long two(long x) { return x; }\n\n"
        "public static long add(long x, long y) {\n    LongBinaryOperator f = (a, b) -> a + b;\n"
        "    return f.applyAsLong(two(x), y);\n}",
        "class Problem {\n    public static long add(long x, long y) {\n"
        "        return Pair.with(x, y).getValue0() + y;\n    }\n}",
    ],
    "php": ["<?php\n\nfunction add($x, $y) {\n    return $x + $y;\n}\n?>"],
    "bash": [
        "#!/bin/bash\nfunction add {\n    echo $(($1 + $2))\n}",
        'one=1\nadd() {\n    one=0\n    echo $(($1 + $2 + one))\n}\n\nadd 2 3\nadd "$1" 3',
    ],
    "javascript": ["'use strict';\nconst add = (x, y) => x + y;", "    return x + y;\n}"],
    "typescript": ["const add = (x: number, y: number): number => x + y;"],
    "go": [
        'package main\n\nimport "fmt"\n\nfunc add(x int, y int) int {\n\treturn x + y\n}\n\n'
        "func main() {\n\tfmt.Println(add(1, 2))\n}",
        'import (\n\t"strconv"\n)\n\nfunc add(x int, y int) int {\n'
        "\tz, _ := strconv.Atoi(strconv.Itoa(x))\n\treturn z + y\n}",
    ],
    "csharp": [
        "using System;\nusing System.IO;\n\npublic class Solution\n{\n"
        "    public static long Add(long x, long y)\n    {\n        return x + y;\n    }\n}"
    ],
    "scala": [
        "object Solution {\n  def add(x: Long, y: Long): Long = x + y\n}",
        "def add(x: Long, y: Long): Long = x + y",
    ],
    "haskell": ["import Data.List (sort)\n\nadd :: Int -> Int -> Int\nadd x y = sum (sort [x, y])"],
}


@pytest.mark.parametrize("language", HARNESSES)
def test_right_and_wrong_in_both_forms(language, pool):
    forms = {
        "completion": body(language) + AFTER[language],
        "chat": block(language, whole(language)),
    }
    good = {form: pool.submit(row(language), text, form) for form, text in forms.items()}
    bad = {form: pool.submit(row(language), wrong(text), form) for form, text in forms.items()}
    for form in forms:
        verdict = good[form].result()
        assert (verdict.status, verdict.reward, verdict.guarded, verdict.detail) == (
            "AC",
            1.0,
            True,
            "",
        ), (form, verdict)
        verdict = bad[form].result()
        assert (verdict.status, verdict.reward, verdict.guarded) == ("WA", 0.0, False), (
            form,
            verdict,
        )


@pytest.mark.parametrize(
    "language, code",
    [(language, code) for language, codes in CHAT.items() for code in codes],
    ids=lambda value: value[:10],
)
def test_other_ways_to_answer(language, code):
    verdict = judge(row(language), block(language, code))
    assert (verdict.status, verdict.guarded) == ("AC", True), verdict


GO_EXIT = 'import "os"\n\nfunc init() { os.Exit(0) }\n\n' + wrong(whole("go"))
CHEATS = [  # official: passes; guarded: fails
    ("python", "import os\n" + wrong(whole("python")) + "\nos._exit(0)"),
    ("python", wrong(whole("python")) + "\nraise SystemExit"),
    ("python", "import atexit, os\natexit.register(os._exit, 0)\n" + wrong(whole("python"))),
    (
        "python",
        "class Same(int):\n    def __eq__(self, other): return True\n\ndef add(x, y):\n"
        "    return Same()",
    ),
    (
        "python",
        "class Same:\n    def __eq__(self, other): return True\n\ndef add(x, y):\n"
        "    return Same()",
    ),
    (
        "python",
        "import sys\n" + wrong(whole("python")) + "\ndef spy(frame, event, arg):\n"
        "    if 'check' in frame.f_globals:\n"
        "        frame.f_globals['check'].__code__ = (lambda candidate: None).__code__\n"
        "sys.setprofile(spy)",
    ),
    (
        "python",
        "import sys\nclass Same(int):\n    def __eq__(self, other): return True\n"
        "def add(x, y):\n    return Same()\ndef spy(frame, event, arg):\n"
        "    for name in ('plain', 'oorl_plain'):\n        if name in frame.f_globals:\n"
        "            frame.f_globals[name].__code__ = (lambda function: function).__code__\n"
        "sys.setprofile(spy)",
    ),
    ("cpp", "struct Leave { Leave() { exit(0); } } leave;\n" + wrong(whole("cpp"))),
    ("cpp", "#undef assert\n#define assert(x)\n" + wrong(whole("cpp"))),
    (
        "cpp",
        wrong(whole("cpp")).replace("return", "signal(SIGABRT, [](int) { _exit(0); }); return"),
    ),
    ("java", "static { System.exit(0); }\n" + wrong(whole("java"))),
    (
        "java",
        wrong(whole("java")).replace(
            "return",
            "Thread.setDefaultUncaughtExceptionHandler((t, e) -> Runtime.getRuntime().halt(0)); "
            "return",
        ),
    ),
    (
        "java",
        wrong(whole("java")).replace(
            "return",
            "Runtime.getRuntime().addShutdownHook(new Thread(() -> "
            "Runtime.getRuntime().halt(0))); return",
        ),
    ),
    ("php", wrong(whole("php")) + "\nexit(0);"),
    ("php", "set_exception_handler(function ($e) { exit(0); });\n" + wrong(whole("php"))),
    ("php", "register_shutdown_function(function () { exit(0); });\n" + wrong(whole("php"))),
    ("bash", wrong(whole("bash")) + "\nexit 0"),
    ("bash", "trap 'exit 0' EXIT\n" + wrong(whole("bash"))),
    ("bash", "shopt -s expand_aliases\nalias '[[=: '\n" + wrong(whole("bash"))),
    ("bash", "shopt -s expand_aliases\nset() { alias '[[=: '; }\n" + wrong(whole("bash"))),
    ("bash", "set() { :; }\nadd() { [[ $1 = 2 ]] && echo 0 || echo 12; }"),
    ("javascript", wrong(whole("javascript")) + "\nprocess.exit(0);"),
    (
        "javascript",
        "process.on('uncaughtException', () => process.exit(0));\n" + wrong(whole("javascript")),
    ),
    (
        "javascript",
        "process.on('exit', () => { process.exitCode = 0; });\n" + wrong(whole("javascript")),
    ),
    ("javascript", "require('assert').deepEqual = () => {};\n" + wrong(whole("javascript"))),
    (
        "javascript",
        "const loader = require('module');\nconst load = loader._load;\n"
        "loader._load = (name, ...more) => name.endsWith('assert') ? { deepEqual() {} } : "
        "load(name, ...more);\n" + wrong(whole("javascript")),
    ),
    (
        "javascript",
        "const real = require;\n"
        "require = (name) => name.endsWith('assert') ? { deepEqual() {} } : real(name);\n"
        + wrong(whole("javascript")),
    ),
    ("javascript", "test = () => {};\n" + wrong(whole("javascript"))),
    ("typescript", wrong(whole("typescript")) + "\nprocess.exit(0);"),
    (
        "typescript",
        "const loader = require('module');\nconst load = loader._load;\n"
        "loader._load = (name, ...more) => name.endsWith('assert') ? { deepEqual() {} } : "
        "load(name, ...more);\n" + wrong(whole("typescript")),
    ),
    (
        "typescript",
        "process.on('uncaughtException', () => process.exit(0));\n" + wrong(whole("typescript")),
    ),
    ("go", GO_EXIT),
    ("go", 'import "os"\n\nfunc TestMain(m *testing.M) { os.Exit(0) }\n\n' + wrong(whole("go"))),
    ("csharp", wrong(whole("csharp")).replace("return", "Environment.Exit(0); return")),
    ("csharp", wrong(whole("csharp")).replace("return", "Debug.Listeners.Clear(); return")),
    ("scala", wrong(whole("scala")).replace("x - y", "sys.exit(0); x - y")),
    ("scala", "def assert(holds: Boolean) = ()\n" + wrong(whole("scala"))),
    (
        "haskell",
        "import System.Exit\nimport System.IO.Unsafe\n\nadd :: Int -> Int -> Int\n"
        "add x y = unsafePerformIO exitSuccess",
    ),
]


@pytest.mark.parametrize("language, code", CHEATS, ids=lambda value: value[:24].split("\n")[0])
def test_cheats_pass_the_official_rule_only(language, code):
    verdict = judge(row(language), block(language, code))
    assert (verdict.status, verdict.reward, verdict.guarded) == ("AC", 1.0, False), verdict
    assert verdict.detail.startswith("guarded: ")


def test_a_cheat_that_knows_the_guard_passes_it():
    """As harnesses.py's docstring says: the guard bounds the cheating from below."""
    verdict = judge(
        row("python"),
        block(
            "python", "import os\ndef add(x, y):\n    os.write(1, os.read(0, 99))\n    os._exit(0)"
        ),
    )
    assert (verdict.status, verdict.guarded) == ("AC", True)


@pytest.mark.parametrize(
    "language, code, status",
    [
        ("python", "def add(x, y):\n    while True: pass", "TLE"),
        ("python", "def add(x, y):\n    return 1 / 0", "RE"),
        ("cpp", "long add(long x, long y) { return z; }", "CE"),
        ("java", "static long add(long x, long y) { return z; }", "CE"),
        ("go", "func add(x int, y int) int { return z }", "CE"),
        ("csharp", "static long Add(long x, long y) { return z; }", "CE"),
        ("scala", "def add(x: Long, y: Long): Long = z", "CE"),
        ("typescript", "function add(x: number, y: number): number { return z; }", "CE"),
        ("haskell", "add :: Int -> Int -> Int\nadd x y = z", "RE"),
        ("javascript", "function add(x, y) { return z; }", "RE"),
        ("csharp", "static long Add(long x, long y) { throw new Exception(); }", "RE"),
    ],
)
def test_other_verdicts(language, code, status):
    verdict = judge(row(language), block(language, code))
    assert (verdict.status, verdict.reward, verdict.guarded) == (status, 0.0, False), verdict


def test_no_code_and_judge_errors(monkeypatch):
    assert (
        judge(row("python"), "def add(x, y): return x + y").status == "NC"
        and judge(row("python"), "x" * 99_999, "completion").status == "NC"
    )
    assert judge(row("python"), "no").guarded is False
    monkeypatch.setattr(sandbox, "BWRAP", "/usr/bin/false")
    verdict = judge(row("python"), block("python", whole("python")))
    assert (verdict.status, verdict.reward, verdict.guarded) == ("JE", None, None)
    assert judge({**row("python"), "language": "rb"}, "x").status == "JE"


def test_a_judge_error_by_the_guarded_rule_is_no_failed_guard(monkeypatch):
    """It is one of the whole verdict, so that no rule counts it; the gap does not grow."""
    runs, real = [], sandbox.run

    def run(*args, **how):
        runs.append(args)
        if len(runs) % 2 == 0:  # each try is a run by either rule
            raise sandbox.SandboxError("out of luck")
        return real(*args, **how)

    monkeypatch.setattr(sandbox, "run", run)
    verdict = judge(row("python"), block("python", whole("python")))
    assert (verdict.status, verdict.reward, verdict.guarded) == ("JE", None, None)
    assert len(runs) == 4
    rows = [evaluated(["AC", "JE"], [True, None])]
    assert "official 100.0 %, guarded 100.0 %, gap 0.0 points over 1" in official_minus_guarded(
        rows
    )


def own(language, text):
    return {
        "id": "h",
        "source_language": "java",
        "target_language": language,
        "source": "class A {}",
        "harness": text,
    }


@pytest.mark.parametrize(
    "language, code, text",
    [
        ("python", "def f(x): return x + 1", "assert f(1) == 2\n"),
        (
            "cpp",
            "int f(int x) { return x + 1; }",
            "#include <cassert>\nint main() {\n  assert(f(1) == 2);\n  return 0;\n}\n"
            "int late() { return 1; }\n",
        ),
        (
            "java",
            "public class Code { static int f(int x) { return x + 1; }\n"
            " public static void main(String[] a) {} }",
            "class Check { public static void main(String[] a) { if (Code.f(1) != 2) throw new "
            "AssertionError(); } }",
        ),
        (
            "php",
            "<?php function f($x) { return $x + 1; } ?>",
            "<?php if (f(1) !== 2) throw new Exception('Test failed!');",
        ),
        (
            "javascript",
            "function f(x) { return x + 1; }",
            "require('assert').strictEqual(f(1), 2);",
        ),
    ],
)
def test_a_harness_of_ones_own(language, code, text):
    problem = own(language, text)
    assert question(problem).startswith("Translate this Java program")
    good, bad = (
        judge(problem, block(language, c), "completion") for c in (code, code.replace("+ 1", "+ 2"))
    )  # always in chat form
    assert (good.status, good.guarded) == ("AC", True), good
    assert (bad.status, bad.guarded) == ("WA", False), bad


def test_a_harness_without_a_known_shape_has_no_guard():
    problem = own("bash", "test $(f 1) = 2\n")
    assert guarded_harness(problem) is None
    for code, status in (("f() { echo $(($1 + 1)); }", "AC"), ("f() { echo 0; }", "WA")):
        verdict = judge(problem, block("bash", code))
        assert (verdict.status, verdict.guarded) == (status, None)
    assert (
        guarded_harness(own("cpp", "int x;")) is None
        and guarded_harness(own("go", "func main() {}")) is None
        and guarded_harness(own("haskell", "main = print 1\nf = 2\n")) is None
    )


def test_a_row_of_the_table_without_a_guard_has_the_official_rule_only(monkeypatch):
    bare = replace(HARNESSES["bash"], token_rewrite=None)
    for harness in (bare, replace(bare, rewrites=())):
        monkeypatch.setitem(HARNESSES, "bash", harness)
        assert guarded_harness(harnesses.with_common_fields(row("bash"))) is None
        for text, status in ((whole("bash"), "AC"), (wrong(whole("bash")), "WA")):
            verdict = judge(row("bash"), block("bash", text))
            assert (verdict.status, verdict.guarded) == (status, None)
    assert judge(row("bash"), "no code").guarded is None


def test_the_official_program_is_multipl_es():
    for language in SHAPES:
        problem = harnesses.with_common_fields(row(language))
        assert (
            program(problem, "BODY", "completion")
            == problem["prompt"] + "BODY\n" + problem["tests"]
        )
        assert (
            guarded_harness(problem)
            and problem["target_language"] == language
            and problem["id"] == "HumanEval_53_add"
        )
    assert harnesses.continuation({"stop_tokens": ["\n}", "zz"]}, "a\n b zz\n}", 99) == "a\n b "
    assert harnesses.continuation({"stop_tokens": []}, "a", 99) == "a"


def test_chat_question():
    assert chat_question(harnesses.with_common_fields(row("bash"))) == (
        "Complete this Bash function. Reply with one ```bash block that holds the whole function "
        "and what it needs, without tests and without main.\n"
        "```bash\n" + SHAPES["bash"][1] + "```"
    )


def test_glue_is_linear():
    import time

    began = time.monotonic()
    for language in SHAPES:
        for part in (
            "add(",
            "(",
            ")",
            "{",
            "\n",
            " ",
            "a",
            "import (",
            "long add(\n",
            "import a\n",
            "using ",
            "/*",
            "function ",
            "async ",
        ):
            problem = harnesses.with_common_fields(row(language))
            program(problem, part * (60_000 // len(part)), "chat")
            program(problem, part * (60_000 // len(part)) + "\n" + whole(language), "chat")
    assert time.monotonic() - began < 20


# -------------------------------------------------------------------------------- rows and commands


@pytest.mark.parametrize(
    "bad, message",
    [
        ({**row("python"), "tests": " "}, r':3: "tests" is empty'),
        ({**row("python"), "stop_tokens": [""]}, r':3: "stop_tokens" must be a list of strings'),
        (
            {k: v for k, v in row("python").items() if k != "stop_tokens"},
            r':3: "stop_tokens" is missing; add it \(list\)',
        ),
        ({**row("python"), "language": 3}, r':3: "language" is a int; it must be a str'),
        (row("python"), r":3: \"id\" 'first' is already on line 1; ids must be unique; give"),
        (own("python", " "), r':3: "harness" must be a string'),
        (
            {**own("python", "x"), "tests": []},
            r':3: "harness" and "tests" are both given; keep one',
        ),
        ({**own("python", "x"), "source": " "}, r':3: "source" is empty'),
        ({**own("cobol", "x")}, r':3: "target_language" is \'cobol\''),
    ],
)
def test_bad_rows_are_named(bad, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    if "already" in message:
        bad = {**bad, "name": "first"}
    path.write_text(json.dumps({**row("php"), "name": "first"}) + "\n\n" + json.dumps(bad) + "\n")
    with pytest.raises(ValueError, match="rows.jsonl" + message):
        read_problems(path, harness=True)


@pytest.mark.parametrize("bad", [row("python"), own("python", "assert f(1) == 2")])
def test_training_refuses_them(bad, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(bad) + "\n")
    with pytest.raises(
        ValueError,
        match=r"rows.jsonl:1: .* training problems are stdin -> stdout.*"
        r"evaluate.py and reward.py read",
    ):
        read_problems(tmp_path / "rows.jsonl")


def test_rows_are_read_as_they_are(tmp_path, capsys):
    rows = [{**row(language), "id": language} for language in SHAPES] + [
        {**row("python"), "language": "rb", "id": f"r{i}"} for i in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    problems = read_problems(tmp_path / "rows.jsonl", harness=True)
    assert [p["target_language"] for p in problems] == [*SHAPES, "rb", "rb", "rb"] and all(
        r.items() <= p.items() for r, p in zip(rows, problems)
    )
    assert len(runnable(problems, {})) == 11
    assert (
        "3 of 14 problems left out: rb is missing (not one of python, cpp"
        in capsys.readouterr().out
    )


def test_the_pool_agrees_and_knows_the_forms(pool):
    problem, ordinary = (
        row("python"),
        {"target_language": "python", "tests": [{"stdin": "", "stdout": "3"}]},
    )
    cheat = block("python", CHEATS[0][1])
    futures = [
        pool.submit(problem, block("python", whole("python"))),
        pool.submit(problem, body("python"), "completion"),
        pool.submit(problem, body("python")),
        pool.submit(problem, cheat),
        pool.submit(ordinary, block("python", "print(3)")),
    ]
    got = [(f.result().status, f.result().guarded) for f in futures]
    assert got == [("AC", True), ("AC", True), ("NC", False), ("AC", False), ("AC", None)]


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_reward_command(form, tmp_path):
    problems = [
        row("python"),
        {**row("php"), "name": "b"},
        {**row("python"), "language": "rb", "name": "c"},
        own("bash", "test $(f) = 1"),
        {**own("python", ""), "id": "t", "tests": [{"stdin": "", "stdout": "3"}]},
    ]
    del problems[-1]["harness"]
    code = body if form == "completion" else lambda language: block(language, whole(language))
    cheat = "    import os; os._exit(0)" if form == "completion" else block("python", CHEATS[0][1])
    completions = [
        ("HumanEval_53_add", code("python")),
        ("HumanEval_53_add", cheat),
        ("b", code("php")),
        ("c", code("python")),
        ("h", block("bash", "f() { echo 1; }")),
        ("t", block("python", "print(3)")),
    ]
    (tmp_path / "P").write_text("".join(json.dumps(p) + "\n" for p in problems))
    (tmp_path / "C").write_text(
        "".join(json.dumps({"id": i, "completion": text}) + "\n" for i, text in completions)
    )
    done = score(tmp_path, "--form", form)
    assert done.returncode == 3, done.stderr  # for the Ruby row, whose judge we are not
    rows = [json.loads(line) for line in (tmp_path / "V").read_text().splitlines()]
    assert [(r["id"], r["verdict"], r.get("guarded", "none")) for r in rows] == [
        ("HumanEval_53_add", "AC", True),
        ("HumanEval_53_add", "AC", False),
        ("b", "AC", True),
        ("c", "JE", "none"),
        ("h", "AC", None),
        ("t", "AC", "none"),
    ]
    assert "not one of python, cpp" in rows[3]["detail"]
    assert (
        "official 2, guarded 1, gap 1 of 2; 0 take no guard" in done.stdout
        and "official 0, guarded 0, gap 0 of 0; 1 take no guard" in done.stdout
    )


def evaluated(verdicts, guarded):
    return {
        "id": "x",
        "source_language": "prompt",
        "target_language": "php",
        "completions": [],
        "verdicts": verdicts,
        "guarded": guarded,
        "n": sum(v != "JE" for v in verdicts),
        "passed": verdicts.count("AC"),
    }


def test_the_gap_is_told():
    rows = [
        evaluated(["AC", "AC"], [True, False]),
        evaluated(["AC", "WA"], [None, None]),
        evaluated(["WA", "JE"], [False, None]),
    ]
    assert (
        official_minus_guarded(rows)
        == "harness problems: official 50.0 %, guarded 25.0 %, gap 25.0 points over 2; 1 take no "
        "guard"
    )
    assert "run: harness problems: official" in table(
        {"run": rows}
    ) and "prompt -> php" not in table({"run": rows})
    assert "prompt -> php" in table({"run": rows + [{**rows[0], "source_language": "java"}]})


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_evaluate_asks_in_the_form(form, tiny):
    from concurrent.futures import Future
    from types import SimpleNamespace

    from evaluate import evaluate

    asked = []

    class Pool:
        def submit(self, problem, text, form="chat"):
            asked.append(form)
            future = Future()
            future.set_result(Verdict("AC", 1.0, guarded=False))
            return future

    tokenizer = SimpleNamespace(
        eos_ids={0},
        decode=str,
        decode_continuation=lambda ids: f" {ids}",
        chat_prompt=lambda text: asked.append(text) or [1, 2],
        plain_prompt=lambda text: asked.append(text) or [3],
    )
    rows = evaluate(
        tiny,
        tokenizer,
        [harnesses.with_common_fields(row("php"))],
        Pool(),
        max_new_tokens=2,
        form=form,
    )
    text = SHAPES["php"][1].rstrip()
    assert asked == [
        chat_question(harnesses.with_common_fields(row("php"))) if form == "chat" else text,
        form,
    ]
    assert (
        rows[0]["guarded"] == [False]
        and rows[0]["passed"] == 1
        and rows[0]["completions"][0].startswith(" ") == (form == "completion")
        and rows[0]["source_language"] == "prompt"
    )
