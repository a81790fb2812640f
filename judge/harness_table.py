"""The table of harness languages: how the tests of MultiPL-E run, and how they are guarded.

harnesses.py says what a harness and its guard are. All patterns are regular expressions in
multi-line mode. To add a language, add a row to HARNESSES. A row with neither `token_code` nor
`token_rewrite` has the official rule only.
"""

from dataclasses import dataclass, replace

from judge.languages import LANGUAGES, Language

CPP = LANGUAGES["cpp"]

NEVER = r"\A\b\B"  # matches nothing
FRONT = "# oorl: front\n"


@dataclass(frozen=True)
class Rewrite:
    """A change that the guard makes to the text of the harness."""

    pattern: str
    replacement: str


@dataclass(frozen=True)
class Harness:
    """One row of the table."""

    language: Language  # how the whole program, a solution and its tests, is compiled and run
    assertion_failed: str  # what a failed assertion prints: the verdict is WA then, not RE
    function_start: str  # how the definition of a function begins; NAME stands for its name
    failed_silently: str = NEVER  # what stderr holds if a run failed but exits with 0
    # The guard: what copies the token from stdin to stdout, after the last assertion. It is
    # token_rewrite where this pattern matches. Otherwise it is token_code, which is put at the end
    # of the block that main_block opens, or at the end of the file if there is no main_block.
    token_code: str = ""
    main_block: str = ""
    token_rewrite: Rewrite | None = None
    # What else changes in the guarded program: assertions that a program could replace, and code
    # before the program and after the harness. What the guard puts behind FRONT comes first of all.
    rewrites: tuple[Rewrite, ...] = ()
    prologue: str = ""
    epilogue: str = ""


C_LIKE_FUNCTION = (
    r"^[ \t]*(?!(?:return|else|throw|new|await|case)\b)\w[^\n=;(){}]*[\s&*>\]]NAME\s*\([^;{}]*\{"
)
SCRIPT_FUNCTION = (
    r"^[ \t]*(?:export\s+)?(?:async\s+)?(?:function\b[\s*]*|(?:const|let|var)\s+)NAME\b"
)
JVM_MAIN = r"\bdef main\s*\(|\bstatic void main\s*\("

# The part of org.javatuples that the translations use; Debian has no package of it.
PAIR_FILE = "Pair.java"
PAIR_SOURCE = """package org.javatuples;
public class Pair<A, B> {
    private final A a; private final B b;
    public Pair(A a, B b) { this.a = a; this.b = b; }
    public static <A, B> Pair<A, B> with(A a, B b) { return new Pair<>(a, b); }
    public A getValue0() { return a; }
    public B getValue1() { return b; }
    public <X> Pair<X, B> setAt0(X x) { return with(x, b); }
    public <X> Pair<A, X> setAt1(X x) { return with(a, x); }
    public boolean equals(Object o) {
        return o instanceof Pair && java.util.Objects.equals(a, ((Pair<?, ?>) o).a) \
&& java.util.Objects.equals(b, ((Pair<?, ?>) o).b);
    }
    public int hashCode() { return java.util.Objects.hash(a, b); }
    public String toString() { return "[" + a + ", " + b + "]"; }
}
"""

# The guard stands within the tests: what a program makes of `check` while it is called prints no
# token. Results must compare as built-in types do: one that equals everything would pass.
PYTHON_TOKEN = "import os; os.write(1, os.read(0, 64))"
PYTHON_CHECK = (
    """def check(candidate):
    builtin = [t.__eq__ for t in (type(None), int, float, complex, str, bytes, list, tuple, dict, \
set, frozenset)]
    def look(x):
        assert any(type(x).__eq__ is eq for eq in builtin), type(x)
        for y in [*x, *x.values()] if isinstance(x, dict) else x \
if isinstance(x, (list, tuple, set, frozenset)) else ():
            look(y)
        return x
    function = candidate
    candidate = lambda *args: look(function(*args))
"""
    rf"\1    {PYTHON_TOKEN}\n"
)

# A program can replace the loader of modules and the function `test`, but neither a constant nor
# what is within the function.
JAVASCRIPT_TOKEN = 'require("fs").writeSync(1, require("fs").readFileSync(0));'
JAVASCRIPT = Harness(
    language=LANGUAGES["javascript"],
    assertion_failed="AssertionError",
    function_start=SCRIPT_FUNCTION,
    token_code=JAVASCRIPT_TOKEN,
    token_rewrite=Rewrite(r"^\}\s*^test\(\);\s*\Z", f"{JAVASCRIPT_TOKEN}\n}}\n\ntest();\n"),
    rewrites=(Rewrite(r"""\brequire\((["'])(?:node:)?assert\1\)""", "oorlAssert"),),
    prologue='const oorlAssert = Object.freeze(require("node:assert"));\n',
)

# Aliases, traps and functions of a program could change every assertion. So a shell of its own runs
# the tests, which come first. In another one the program runs, with what it prints itself left out.
BASH_TESTS = rf"""candidate "$@" >&3
{FRONT}program=$(sed '1,/^exit$/d' p.sh)
candidate() {{ /usr/bin/bash --norc -c "$program" p "$@"; }}
\1[[ 1 ]]
}}
run_test < /dev/null && IFS= read -r token && printf '%s\\n' "$token"
exit
"""

HARNESSES = {
    "python": Harness(
        language=LANGUAGES["python"],
        assertion_failed="AssertionError",
        function_start=r"^[ \t]*(?:async[ \t]+)?def[ \t]+NAME\b",
        token_code=PYTHON_TOKEN,
        token_rewrite=Rewrite(
            r"^def check\(candidate\):\n((?:[ \t]+\S.*\n|[ \t]*\n)*)", PYTHON_CHECK
        ),
    ),
    "cpp": Harness(
        language=replace(CPP, compile=CPP.compile.replace("c++20", "c++17")),  # as MultiPL-E
        assertion_failed="Assertion.*failed",
        function_start=C_LIKE_FUNCTION,
        token_code="{ char token[64]; if (fgets(token, 64, stdin)) fputs(token, stdout); }",
        main_block=r"\bint main\s*\(",
        rewrites=(Rewrite(r"\bassert\s*\(", "oorl_assert("),),
        prologue="#include <stdio.h>\n#include <stdlib.h>\n"
        "static void oorl_assert(bool holds) { if (!holds) abort(); }\n",
    ),
    "java": Harness(
        language=replace(
            LANGUAGES["java"],
            beside=(PAIR_FILE, PAIR_SOURCE),
            # Without -sourcepath, javac looks for a Pair that is in no package here.
            compile=f"{LANGUAGES['java'].compile} -sourcepath /tmp {PAIR_FILE}",
        ),
        assertion_failed="AssertionError",
        function_start=C_LIKE_FUNCTION,
        token_code="System.out.println(new java.util.Scanner(System.in).nextLine());",
        main_block=JVM_MAIN,
    ),
    "php": Harness(
        language=LANGUAGES["php"],
        assertion_failed="Test failed!",
        function_start=r"^[ \t]*function\s+&?NAME\b",
        token_code="echo fgets(STDIN);",
    ),
    "bash": Harness(
        language=LANGUAGES["bash"],
        assertion_failed=r"\A\s*\Z",
        function_start=r"^[ \t]*(?:function\s+)?NAME\b[ \t]*(?:\([ \t]*\))?\s*\{",
        # One chain of && needs no `set -e`.
        rewrites=(Rewrite(r"\]\]$", "]] &&"),),
        token_rewrite=Rewrite(
            r"^set -e\s*^(run_test\(\) \{\n(?:.*\n)*)\}\s*^run_test\s*\Z", BASH_TESTS
        ),
        prologue="exec 3>&1 > /dev/null\n",
    ),
    "javascript": JAVASCRIPT,
    "typescript": replace(JAVASCRIPT, language=LANGUAGES["typescript"]),
    "go": Harness(
        language=replace(
            LANGUAGES["go"],
            file="p_test.go",
            compile=LANGUAGES["go"].compile.replace("go build", "go test -c"),
        ),
        assertion_failed="--- FAIL",
        function_start=r"^func\s+NAME\b",
        token_code="if !t.Failed() { var token string; fmt.Scanln(&token); fmt.Println(token) }",
        main_block=r"^func Test\w*\(t \*testing\.T\)",
    ),
    "csharp": Harness(
        language=LANGUAGES["csharp"],
        assertion_failed=r"TraceListener\.Fail|Assertion|Fail:",
        function_start=C_LIKE_FUNCTION,
        failed_silently=r"TraceListener\.Fail",
        token_code="System.Console.WriteLine(System.Console.ReadLine());",
        main_block=r"\bstatic (?:void|int) Main\s*\(",
        rewrites=(Rewrite(r"\bDebug\.Assert\s*\(", "OorlGuard.That("),),
        epilogue="static class OorlGuard { public static void That(bool holds) "
        '{ if (!holds) throw new System.Exception("Assertion"); } }',
    ),
    "scala": Harness(
        language=LANGUAGES["scala"],
        assertion_failed="assertion failed",
        function_start=r"\bdef\s+NAME\b",
        failed_silently=r"\S",
        token_code="_root_.scala.Predef.println(_root_.scala.io.StdIn.readLine())",
        main_block=JVM_MAIN,
        rewrites=(Rewrite(r"\bassert\s*\(", "_root_.scala.Predef.assert("),),
    ),
    "haskell": Harness(
        language=replace(LANGUAGES["haskell"], compile="", run="/usr/bin/runghc {file}"),
        assertion_failed="assertion failed",
        function_start=r"^NAME\b",
        token_rewrite=Rewrite(
            r"^(main\s*=\s*do[ \t]*\n)([ \t]+)((?:.*\n(?!\S))*.*?)\s*\Z",
            r"\1\2\3\n\2getLine >>= putStrLn\n",
        ),
    ),
}
