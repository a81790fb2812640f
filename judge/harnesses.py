"""Harness problems, evaluation only: from such a problem and an answer to the program that runs.

    {"id", "source_language", "target_language", "source", "harness"}     code that is appended to a translation
    {"name", "language", "prompt", "tests", "stop_tokens"}                a row of MultiPL-E; its tests are the harness

An answer in chat form is one fenced block: the whole function (glued to the imports and the class of the prompt), a
program, or else the body. In completion form it continues the prompt and is cut at the first stop token.
The official rule is the field's: the program as MultiPL-E writes it exits with 0. The answer shares a process with its
judge, so exit hooks, early exits, handlers and traps pass it. The guarded rule runs the program again with a guard: code
after the last assertion that copies a random token from stdin to stdout. The run must exit with 0 and print the token,
which no file and no argument holds; assertions are rewritten where a program could replace them. What still passes:
a program that reads stdin itself and prints it, or reads its own source to find the expected values; own types that equal
everything (Python's are refused, not those of C++, Java, C#, Scala, Haskell), macros and names that shadow the guard's
own. The gap between the rules is thus a lower bound of the cheating.
Left out: `go vet`, which `go test` runs first; javatuples beyond Pair; tests that end after their own last line (promises).
"""

import re
from dataclasses import dataclass, replace

from judge.languages import JAVA_NOISE, LANGUAGES, Language, file_and_main_class

SPELLINGS = {tag: name for name, row in LANGUAGES.items() for tag in row.tags} | {
    "go_test.go": "go"
}
MULTIPL_E = {"name": str, "language": str, "prompt": str, "tests": str, "stop_tokens": list}
FIELDS = (
    "harness",
    "prompt",
    "stop_tokens",
)  # what a verdict depends on, beside "target_language" and "tests"
FORMS = ("chat", "completion")


@dataclass(frozen=True)
class Harness:
    """How harness programs of a language run. `failed`: an assertion's last words (WA, not RE). `silent`: said on stderr by
    a run that failed though it exits with 0. `defines`: how the function NAME begins. The guard: `prints` stands at the end
    of the block that `shape` opens, without a shape at the end of the file; `rewrites` change the harness; `before` and
    `after` stand around the whole."""

    language: Language
    failed: str
    defines: str
    prints: str = ""
    shape: str = ""
    rewrites: tuple[tuple[str, str], ...] = ()
    before: str = ""
    after: str = ""
    silent: str = r"\A\b\B"  # never


C_LIKE = (
    r"^[ \t]*(?!(?:return|else|throw|new|await|case)\b)\w[^\n=;(){}]*[\s&*>\]]NAME\s*\([^;{}]*\{"
)
SCRIPT = r"^[ \t]*(?:export\s+)?(?:async\s+)?(?:function\b[\s*]*|(?:const|let|var)\s+)NAME\b"
# As much of org.javatuples (no Debian package) as the translations use. -sourcepath: or javac looks for a Pair in no package here.
PAIR = (
    "Pair.java",
    """package org.javatuples;
public class Pair<A, B> {
    private final A a; private final B b;
    public Pair(A a, B b) { this.a = a; this.b = b; }
    public static <A, B> Pair<A, B> with(A a, B b) { return new Pair<>(a, b); }
    public A getValue0() { return a; }
    public B getValue1() { return b; }
    public <X> Pair<X, B> setAt0(X x) { return with(x, b); }
    public <X> Pair<A, X> setAt1(X x) { return with(a, x); }
    public boolean equals(Object o) {
        return o instanceof Pair && java.util.Objects.equals(a, ((Pair<?, ?>) o).a) && java.util.Objects.equals(b, ((Pair<?, ?>) o).b);
    }
    public int hashCode() { return java.util.Objects.hash(a, b); }
    public String toString() { return "[" + a + ", " + b + "]"; }
}
""",
)
PLAIN = """def oorl_plain(function):  # results must compare as built-in types do
    builtin = [t.__eq__ for t in (type(None), int, float, complex, str, bytes, list, tuple, dict, set, frozenset)]
    def look(x):
        assert any(type(x).__eq__ is eq for eq in builtin), type(x)
        for y in [*x, *x.values()] if isinstance(x, dict) else x if isinstance(x, (list, tuple, set, frozenset)) else ():
            look(y)
        return x
    return lambda *args: look(function(*args))
def check(candidate):
    candidate = oorl_plain(candidate)
"""
NODE = dict(
    failed="AssertionError",
    defines=SCRIPT,
    before='Object.freeze(require("node:assert"));\n',
    prints='require("fs").writeSync(1, require("fs").readFileSync(0));',
)
JVM = r"\bdef main\s*\(|\bstatic void main\s*\("

HARNESSES = {
    "python": Harness(
        LANGUAGES["python"],
        "AssertionError",
        r"^[ \t]*(?:async[ \t]+)?def[ \t]+NAME\b",
        "import os; os.write(1, os.read(0, 64))",
        rewrites=((r"^def check\(candidate\):\n", PLAIN),),
    ),
    "cpp": Harness(
        LANGUAGES["cpp"],
        "Assertion.*failed",
        C_LIKE,
        "{ char token[64]; if (fgets(token, 64, stdin)) fputs(token, stdout); }",
        shape=r"\bint main\s*\(",
        rewrites=((r"\bassert\s*\(", "oorl_assert("),),
        before="#include <stdio.h>\n#include <stdlib.h>\nstatic void oorl_assert(bool holds) { if (!holds) abort(); }\n",
    ),
    "java": Harness(
        replace(
            LANGUAGES["java"],
            beside=PAIR,
            compile=LANGUAGES["java"].compile + " -sourcepath /tmp " + PAIR[0],
        ),
        "AssertionError",
        C_LIKE,
        "System.out.println(new java.util.Scanner(System.in).nextLine());",
        shape=JVM,
    ),
    "php": Harness(
        LANGUAGES["php"], "Test failed!", r"^[ \t]*function\s+&?NAME\b", "echo fgets(STDIN);"
    ),
    # [[ ]] and && are no commands that a function could replace, as it could `set -e`
    "bash": Harness(
        LANGUAGES["bash"],
        r"\A\s*\Z",
        r"^[ \t]*(?:function\s+)?NAME\b[ \t]*(?:\([ \t]*\))?\s*\{",
        rewrites=(
            (r"\]\]$", "]] &&"),
            (
                r"^\}\s*^run_test\s*\Z",
                "[[ 1 ]]\n}\nrun_test < /dev/null && IFS= read -r token && printf '%s\\\\n' \"$token\"\n",
            ),
        ),
    ),
    "javascript": Harness(LANGUAGES["javascript"], **NODE),
    "typescript": Harness(LANGUAGES["typescript"], **NODE),
    "go": Harness(
        replace(
            LANGUAGES["go"],
            file="p_test.go",
            compile=LANGUAGES["go"].compile.replace("go build", "go test -c"),
        ),
        "--- FAIL",
        r"^func\s+NAME\b",
        "if !t.Failed() { var token string; fmt.Scanln(&token); fmt.Println(token) }",
        shape=r"^func Test\w*\(t \*testing\.T\)",
    ),
    "csharp": Harness(
        LANGUAGES["csharp"],
        r"TraceListener\.Fail|Assertion|Fail:",
        C_LIKE,
        "System.Console.WriteLine(System.Console.ReadLine());",
        shape=r"\bstatic (?:void|int) Main\s*\(",
        rewrites=((r"\bDebug\.Assert\s*\(", "OorlGuard.That("),),
        after='static class OorlGuard { public static void That(bool holds) { if (!holds) throw new System.Exception("Assertion"); } }',
        silent=r"TraceListener\.Fail",
    ),
    "scala": Harness(
        LANGUAGES["scala"],
        "assertion failed",
        r"\bdef\s+NAME\b",
        "_root_.scala.Predef.println(_root_.scala.io.StdIn.readLine())",
        shape=JVM,
        rewrites=((r"\bassert\s*\(", "_root_.scala.Predef.assert("),),
        silent=r"\S",
    ),
    "haskell": Harness(
        replace(LANGUAGES["haskell"], compile="", run="/usr/bin/runghc {file}"),
        "assertion failed",
        r"^NAME\b",
        rewrites=(
            (
                r"^(main\s*=\s*do[ \t]*\n)([ \t]+)((?:.*\n(?!\S))*.*?)\s*\Z",
                r"\1\2\3\n\2getLine >>= putStrLn\n",
            ),
        ),
    ),
}


# ---------------------------------------------------------------------------------------------- problems


def is_multipl_e(row: dict) -> bool:
    return "prompt" in row and "name" in row or isinstance(row.get("tests"), str)


def is_harness(row: dict) -> bool:
    return "harness" in row or is_multipl_e(row)


def with_common_fields(row: dict) -> dict:
    """The row with the fields that every problem has; a MultiPL-E row gets its name as id and our name of its language
    (its own one if we have none), and "prompt" for the source language that it lacks."""
    if not is_multipl_e(row) or "target_language" in row:
        return row
    spelt = row["language"].lower()
    return {
        "id": row["name"],
        "source_language": "prompt",
        "target_language": SPELLINGS.get(spelt, spelt),
        **row,
    }


def unsupported_languages(problems) -> dict[str, str]:
    """{language: why it is left out} of the target languages that nothing here can run."""
    return {
        name: f"not one of {', '.join(LANGUAGES)}"
        for p in problems
        if (name := p["target_language"]) not in LANGUAGES
    }


def chat_question(problem: dict) -> str:
    """What a chat model is asked about a MultiPL-E problem."""
    language = LANGUAGES[problem["target_language"]]
    return (
        f"Complete this {language.display} function. Reply with one ```{language.name} block that holds the whole function and "
        f"what it needs, without tests and without main.\n```{language.name}\n{problem['prompt'].rstrip()}\n```"
    )


def continuation(problem: dict, completion: str, most_bytes: int) -> str | None:
    """Completion form: what stands before the first stop token; None if that is too long."""
    code = completion[
        : min(
            (at for stop in problem["stop_tokens"] if (at := completion.find(stop)) >= 0),
            default=None,
        )
    ]
    return code if len(code.encode(errors="replace")) <= most_bytes else None


def describe_rules(rows: list[dict]) -> str:
    """A line on verdict rows: both rules and the gap, over the answers that could be guarded; empty without a harness."""
    judged = [row for row in rows if "guarded" in row and row["verdict"] != "JE"]
    both = [row for row in judged if row["guarded"] is not None]
    official, passed = (
        sum(row["verdict"] == "AC" for row in both),
        sum(row["guarded"] for row in both),
    )
    return (
        f"official {official}, guarded {passed}, gap {official - passed} of {len(both)}; {len(judged) - len(both)} take no guard"
        * bool(judged)
    )


# ---------------------------------------------------------------------------------------------- programs


def guarded(problem: dict) -> str | None:
    """The harness with its guard; None if its shape is unknown. Known from the problem alone, whatever the answer."""
    row, text = HARNESSES[problem["target_language"]], _text(problem)
    plain = text
    for pattern, replacement in row.rewrites:
        text = re.sub(pattern, replacement, text, flags=re.M)
    if not row.prints:
        return (
            text
            if text != plain and all(re.search(p, plain, re.M) for p, _ in row.rewrites[-1:])
            else None
        )
    at = len(text)
    if row.shape:
        opening = re.search(row.shape, text, re.M)
        at = opening and _closing_brace(text, opening.end())
        if not at:
            return None
        at = re.search(
            r"(?:\breturn\b[^;{}]*;\s*)?\Z", text[:at]
        ).start()  # what follows a return would not run
    return f"{text[:at].rstrip()}\n{row.prints}\n{text[at:]}{row.after}\n"


def program(problem: dict, code: str, form: str, guard: bool = False) -> str:
    """The program to run, of an extracted answer. With the guard: guarded(problem) must not be None."""
    row, text = HARNESSES[problem["target_language"]], guarded(problem) if guard else _text(problem)
    if "harness" in problem:
        whole = f"{_php(code) if row.language.name == 'php' else code}\n{text}"
    elif form == "completion":
        whole = f"{problem['prompt']}{code}\n{text}"
    else:
        whole = _glue(problem, row, code, text)
    return (row.before if guard else "") + whole


def file_and_main(language: Language, problem: dict, whole: str) -> tuple[str, str]:
    """What to call the file, and for the JVM the class that holds the harness, whatever else has a main."""
    file, main = file_and_main_class(language, whole)
    if "harness" in problem:
        of_harness = file_and_main_class(language, problem["harness"])[1]
        return file, of_harness if re.search(JVM, problem["harness"]) else main
    return file, "Problem" if re.search(r"\b(?:class|object) Problem\b", whole) else main


def _text(problem):
    text = problem["harness"] if "harness" in problem else problem["tests"]
    return (
        re.sub(r"\A\s*<\?php|\?>\s*\Z", "", text) if problem["target_language"] == "php" else text
    )


def _php(code):
    return "<?php\n" + re.sub(r"\A\s*<\?(?:php)?|\?>\s*\Z", "", code)


def _closing_brace(text, start):
    """Where the first { after start is closed; None if it is not."""
    text = JAVA_NOISE.sub(lambda noise: " " * len(noise[0]), text)
    depth = 0
    for brace in re.finditer("[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if depth <= 0:
            return start + brace.start() if depth == 0 else None


def _glue(problem, row, block, tests):
    """Chat form of MultiPL-E, whose tests begin with the } that closes the function."""
    prompt, language = problem["prompt"], row.language.name
    name = {"python": r"\bdef\s+(\w+)", "haskell": r"^(\w+)\s*::"}.get(
        language, r"(\w+)\s*\([^\n]*\s*\Z"
    )
    name = re.findall(name, prompt, re.M)
    defines = row.defines.replace("NAME", name[-1]) if name else r"\A\b\B"
    where, signature = re.search(defines, block, re.M), re.search(defines, prompt, re.M)
    if not (where and signature):
        return f"{prompt}{block}\n{tests}"  # a body
    preamble, tail = prompt[: signature.start()], re.sub(r"\A\s*\}", "", tests)
    if language == "php":
        return f"{_php(block)}\n{tail}"
    if language == "go":  # imports stand in front, each once
        imports = r"^import\s*\((.*?)^\s*\)|^import[ \t]+([^\n(]+)$"
        lines = {
            line.strip()
            for found in re.findall(imports, f"{prompt}\n{block}", re.M | re.S)
            for line in "\n".join(found).split("\n")
        }
        package = re.match(r"package \w+", prompt)
        block = re.sub(
            r"^package \w+", "", re.sub(imports, "", block, flags=re.M | re.S), flags=re.M
        )
        return f"{package[0] if package else 'package main'}\nimport (\n{chr(10).join(sorted(lines))}\n)\n{block}\n{tail}"
    if language in ("java", "csharp", "scala"):
        imports = r"^[ \t]*(?:import|using)\s[^\n(){}=]*\n"
        head = block[: where.start()]
        own, bare = "".join(re.findall(imports, head, re.M)), JAVA_NOISE.sub(" ", head)
        block = re.sub(imports, "", head, flags=re.M) + block[where.start() :]
        if bare.count("{") > bare.count("}"):  # a class of its own: the tests go into it
            preamble, block = (
                "".join(re.findall(imports, prompt, re.M)),
                block.rstrip().removesuffix("}"),
            )
        return f"{own}{preamble}{block}\n{tail}"
    return f"{preamble}{block}\n{tail}"


def status(row: Harness, result, token: bytes = b"") -> str:
    """OK, or the verdict on a run (a sandbox.Result); with a token by the guarded rule."""
    if result.status == "OK":
        failed = re.search(row.silent.encode(), result.stderr) or token not in result.stdout
        return "WA" if failed else "OK"
    wrong = result.status == "RE" and re.search(row.failed.encode(), result.stderr + result.stdout)
    return "WA" if wrong else result.status
