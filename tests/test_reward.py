"""Every language, every verdict, every cheat; faults of the judge are JE and never 0."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import reward
from conftest import ROOT
from data import translation_prompt
from judge import languages, sandbox
from judge import pool as pool_module
from judge.answer import extract_code
from judge.languages import LANGUAGES, java_names
from judge.pool import check_canaries
from judge.sandbox import SandboxError
from reward import judge, judge_pool
from support import alive, descendants, gone, processes_of_slots

MISSING = {
    name: mend for name, language in LANGUAGES.items() if (mend := languages.why_missing(language))
}
if not Path(sandbox.BWRAP).exists():
    MISSING = dict.fromkeys(LANGUAGES, "bubblewrap is not installed")
SUMS = [{"stdin": "1\n2\n", "stdout": "3\n"}, {"stdin": "20\n22\n", "stdout": "42\n"}]


@pytest.fixture(autouse=True)
def skip_without_tool(request):
    name = (
        getattr(request.node, "callspec", None)
        and request.node.callspec.params.get("language")
        or "python"
    )
    if name in MISSING and os.environ.get("CI") != "true":
        pytest.skip(MISSING[name])


def problem(language="python", tests=SUMS, **fields):
    return {
        "id": "p",
        "source_language": "java",
        "target_language": language,
        "source": "x\n",
        "tests": tests,
        **fields,
    }


def block(language, code):
    return f"Here it is:\n```{language}\n{code}\n```\nDone."


def verdict(language, code, tests=SUMS):
    return judge(problem(language, tests), block(language, code))


def prints(text):
    return [{"stdin": "", "stdout": text}]


@pytest.fixture
def short(monkeypatch):
    """Tight limits in this process, so that time-outs are quick."""
    for name, language in LANGUAGES.items():
        monkeypatch.setitem(
            LANGUAGES,
            name,
            replace(
                language,
                limits=replace(language.limits, cpu_s=0.9, wall_s=5),
                compile_limits=replace(
                    language.compile_limits, cpu_s=12 if name == "scala" else 3, wall_s=40
                ),
            ),
        )


@pytest.fixture(scope="module")
def pool():
    with judge_pool(2) as pool:
        yield pool


# ---------------------------------------------------------------------------------------------- the text


def test_prompt_to_the_letter():
    asked = {**problem("cpp"), "source": "class A {}\n\n"}
    assert translation_prompt(asked) == (
        "Translate this Java program to C++. Reply with one ```cpp block.\n```java\nclass A {}\n```"
    )
    assert translation_prompt({**asked, "declaration": "int f()"}).endswith(
        "\n```\nSignature: int f()"
    )


@pytest.mark.parametrize(
    "text, code",
    [
        ("```python\na\n```", "a\n"),
        ("so:\n```py\na\n\x0c\n b\n```\nthere", "a\n\x0c\n b\n"),
        ("```Python\r\na\r\n```\r\n", "a\r\n"),
        ("```python\nprint('```')\n```", "print('```')\n"),
        ("", None),
        ("a", None),
        ("```\na\n```", None),
        ("```python\na", None),
        ("```python\n\n```", None),
        ("```java\na\n```", None),
        ("```python\na\n```\n```python\nb\n```", None),
        ("```python\na\n```\n```", None),
        ("```python\n```python\na\n```", None),
        ("```python a```", None),
        ("```python\na\n```x", None),
        ("```python\n" + "a" * 5_000_000 + "\n```", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_extract_code(text, code):
    assert extract_code(text, "python") == code
    if code is None:
        verdict = judge(problem(), text)
        assert (verdict.status, verdict.reward) == (
            "NC",
            0.0,
        ) and "one closed block with the tag python" in verdict.detail


@pytest.mark.parametrize(
    "source, names",
    [
        (
            'class B {} class C { static void main(String[] a) { String s = "}}{"; } }',
            ("C.java", "C"),
        ),
        (
            "/* class Z { */ public final class D { public class E {} } class M { public static void main() {} }",
            ("D.java", "M"),
        ),
        (
            "package x.y; public class A { class B {} public static void main(String... a) {} }",
            ("A.java", "x.y.A"),
        ),
        ("", ("Main.java", "Main")),
        ("class " + "a" * 500 + "{}", ("Main.java", "Main")),
    ],
)
def test_java_names(source, names):
    assert java_names(source) == names


@pytest.mark.parametrize(
    "source, main",
    [
        ("object B { val x = 1 }\nobject A { def main(args: Array[String]): Unit = {} }", "A"),
        ("class C(val x: Int) extends Object {}\nobject D extends App { println(3) }", "D"),
        ("package x.y\nobject E extends C with App {\n}", "x.y.E"),
        ("// object Z extends App {\nobject F { def main(a: Array[String]) {} }", "F"),
        ("", "Main"),
    ],
)
def test_scala_main(source, main):
    assert languages.file_and_main_class(LANGUAGES["scala"], source) == ("p.scala", main)


def test_java_names_are_linear():
    began = time.monotonic()
    for part in ("/*", '"\\"', '"""', "public ", "{", "class "):
        java_names(part * (60_000 // len(part)))
    assert time.monotonic() - began < 2


# ---------------------------------------------------------------------------------------------- programs

SYNTAX_ERROR = {
    "python": "print(",
    "cpp": "int main( {",
    "java": "class A {",
    "php": "<?php echo (;",
    "bash": "if",
    "javascript": "let =",
    "typescript": "const x: string = 3;",
    "go": 'package main\nimport "os"\nfunc main() {}',
    "csharp": "class P { static void Main() { int x } }",
    "scala": "object A { def main(a: Array[String]): Unit = x }",
    "haskell": "main :: IO ()\nmain = putStrLn 3",
}
CRASH = {
    "python": "1 / 0",
    "cpp": "#include <cstdlib>\nint main() { abort(); }",
    "java": "class A { static int f(int n) { return f(n + 1) + 1; } public static void main(String[] a) { f(0); } }",
    "php": "<?php throw new Exception();",
    "bash": "echo 3; exit 3",
    "javascript": "null.x",
    "typescript": "declare const x: any;\nconsole.log(x.y);",
    "go": "package main\nfunc main() { var a []int; a[3] = 1 }",
    "csharp": "using System.Diagnostics; class P { static void Main() { Debug.Assert(false); System.Environment.Exit(3); } }",
    "scala": "object A extends App { println(1 / (args.length)) }",
    "haskell": "main :: IO ()\nmain = print (head [] :: Int)",
}
LOOP = {
    "python": "while True: pass",
    "cpp": "int main() { for (volatile int i = 0;; i++); }",
    "java": "class A { public static void main(String[] a) { for (;;); } }",
    "php": "<?php while (true);",
    "bash": "while :; do :; done",
    "javascript": "for (;;);",
    "typescript": "for (;;);",
    "go": "package main\nfunc main() { for {} }",
    "csharp": "class P { static void Main() { for (;;); } }",
    "scala": "object A { def main(a: Array[String]): Unit = while (true) {} }",
    "haskell": "main :: IO ()\nmain = print (length [1 :: Integer ..])",
}
HUNGER = {
    "python": "a = []\nwhile True: a.append(bytes(1 << 22))",
    "cpp": "#include <vector>\nint main() { std::vector<char> v; for (;;) v.resize(v.size() + (8 << 20), 1); }",
    "java": "class A { public static void main(String[] a) { var l = new java.util.ArrayList<int[]>(); "
    "for (;;) l.add(new int[1 << 20]); } }",
    "php": "<?php $a = []; while (true) $a[] = str_repeat('x', 1 << 20);",
    "javascript": "const a = []; for (;;) a.push(new Array(1e6).fill(1.5));",
    "typescript": "const a: number[][] = []; for (;;) a.push(new Array(1e6).fill(1.5));",
    "go": "package main\nvar a [][]byte\nfunc main() { for { b := make([]byte, 1 << 22); for i := range b { b[i] = 1 }; a = append(a, b) } }",
    "csharp": "class P { static void Main() { var a = new System.Collections.Generic.List<long[]>(); "
    "for (;;) { var b = new long[1 << 19]; for (int i = 0; i < b.Length; i++) b[i] = i; a.Add(b); } } }",
    "scala": "object A { def main(a: Array[String]): Unit = { var l = List[Array[Int]](); while (true) l = new Array[Int](1 << 20) :: l } }",
    "haskell": "main :: IO ()\nmain = let a = [1 .. 10 ^ (9 :: Int)] :: [Integer] in print (sum a + product (take 3 a) + last a)",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language(language, short):
    row = LANGUAGES[language]
    good = verdict(language, row.canary)
    assert (
        (good.status, good.reward, good.detail) == ("AC", 1.0, "")
        and 0 < good.cpu_s < 8
        and good.wall_s > 0
    )
    for code, status in (
        (row.canary.replace(" + ", " - "), "WA"),
        (CRASH[language], "RE"),
        (LOOP[language], "TLE"),
        (SYNTAX_ERROR[language], "CE" if row.compile else "RE"),
    ):
        bad = verdict(language, code)
        assert (bad.status, bad.reward) == (status, 0.0) and bad.detail.isascii(), code


IDIOMS = [  # what programs of each language are wont to use, beside what the canaries do
    (
        "cpp",
        "#include <bits/stdc++.h>\nusing namespace std;\nint main() { map<string, int> m; string s; while (cin >> s) m[s] += stoi(s); "
        "cout << accumulate(m.begin(), m.end(), 0, [](int a, auto& p) { return a + p.second; }) << endl; }",
    ),
    (
        "java",
        "import java.util.*; import java.util.stream.*;\npublic class Solution { public static void main(String[] args) {\n"
        "Scanner in = new Scanner(System.in); System.out.println(IntStream.range(0, 2).map(i -> in.nextInt()).sum()); } }",
    ),
    (
        "typescript",
        "import * as readline from 'readline';\nimport fs from 'fs';\ninterface P { x: number }\nconst ps: P[] = [];\n"
        "const rl = readline.createInterface({ input: process.stdin });\nrl.on('line', (line: string) => ps.push({ x: Number(line) }));\n"
        "rl.on('close', () => console.log(ps.reduce((a, p) => a + p.x, 0)));",
    ),
    (
        "typescript",
        "declare const require: any;\ndeclare var process: any;\nconst fs = require('fs');\nfunction add(a, b) { return a + b; }\n"
        "const name = fs.readFileSync(0, 'utf8').trim().split('\\n').map(Number);\nconsole.log(add(name[0], name[1]));",
    ),
    (
        "go",
        'package main\nimport (\n"bufio"\n"fmt"\n"os"\n"sort"\n"strconv"\n"strings"\n)\nfunc main() {\nin := bufio.NewScanner(os.Stdin)\n'
        "var a []int\nfor in.Scan() { x, _ := strconv.Atoi(strings.TrimSpace(in.Text())); a = append(a, x) }\nsort.Ints(a)\nc := make(chan int)\n"
        "go func() { c <- a[0] + a[1] }()\nfmt.Println(<-c)\n}",
    ),
    (
        "csharp",
        "using System;\nusing System.Collections.Generic;\nusing System.Linq;\nusing System.Numerics;\nusing System.Text;\npublic class Program {\n"
        "public static void Main(string[] args) {\nvar xs = new List<int>(); string line;\n"
        'while ((line = Console.ReadLine()) != null) xs.Add(int.Parse(line));\nvar d = new Dictionary<string, BigInteger> { ["s"] = xs.Sum() };\n'
        'Console.WriteLine($"{d["s"]}"); } }',
    ),
    (
        "scala",
        "import scala.collection.mutable\nimport scala.io.StdIn\n\ncase class P(x: Int)\n\nobject Solution extends App {\n"
        "  val xs = mutable.ArrayBuffer[P]()\n  for (_ <- 1 to 2) xs += P(StdIn.readLine().trim.toInt)\n"
        "  println(xs.map { case P(x) => x }.sum)\n}",
    ),
    (
        "haskell",
        "module Main where\nimport qualified Data.Map.Strict as M\nimport Data.List (foldl')\nimport Control.Monad\nimport Text.Printf\n\n"
        "main :: IO ()\nmain = do\n  xs <- map read . lines <$> getContents\n  let m = M.fromListWith (+) [(even x || odd x, x) | x <- xs]\n"
        '  forM_ (M.elems m) $ \\s -> printf "%d\\n" (foldl\' (+) 0 [s :: Int])',
    ),
    (
        "php",
        "<?php\ndeclare(strict_types=1);\nfunction add(int ...$xs): int { return array_sum($xs); }\n"
        "echo add(...array_map('intval', explode(\"\\n\", trim(stream_get_contents(STDIN))))) . PHP_EOL;",
    ),
    (
        "javascript",
        "const readline = require('readline');\nconst xs = [];\nreadline.createInterface({ input: process.stdin })\n"
        "  .on('line', l => xs.push(BigInt(l))).on('close', () => console.log(String(xs.reduce((a, b) => a + b, 0n))));",
    ),
]


@pytest.mark.parametrize("language, code", IDIOMS, ids=lambda value: value[:10])
def test_idioms(language, code):
    result = verdict(language, code)
    assert result.status == "AC", result.detail


@pytest.mark.parametrize(
    "language, code",
    [*HUNGER.items(), ("javascript", "const a = []; for (;;) a.push(Buffer.alloc(1 << 22, 1));")],
    ids=lambda value: value[:10],
)  # not in V8's heap
def test_memory(language, code):
    assert verdict(language, code).status == "MLE"


@pytest.mark.parametrize(
    "language, code, expected",
    [
        (
            "java",
            "class A { public static void main(String[] a) { for (;;) new Thread(() -> { try { Thread.sleep(99999); } "
            "catch (Exception e) {} }).start(); } }",
            {"RE", "TLE", "MLE"},
        ),
        ("bash", "f() { f | f & }; f; wait", {"WA", "RE", "TLE"}),
        ("php", "echo 3;", {"WA"}),  # no <?php: prints its own source
        ("python", "import time\nprint(3, flush=True)\ntime.sleep(99)", {"TLE"}),
        ("python", "print(3)\nraise SystemExit(3)", {"RE"}),
        ("python", "import os; os._exit(0)", {"WA"}),
        ("python", "exit(0)", {"WA"}),
        ("python", "print('PASSED')", {"WA"}),
        ("python", "print(3)", {"WA"}),
        ("python", "print(3, 42)", {"WA"}),
        ("python", "import atexit\natexit.register(print, 'PASSED')\nprint(3)", {"WA"}),
        ("python", "class Y(str):\n def __eq__(self, o): return True\nprint(Y())", {"WA"}),
        ("python", "print(open('/w/../expected').read())", {"RE"}),
        (
            "python",
            "import glob, json\nprint(glob.glob('/w/*'), glob.glob('/tmp/*'), end='')",
            {"WA"},
        ),
        ("python", "print(int(input()) + int(input()), end=' \\r\\n \\n\\n')", {"AC"}),
        ("python", "print('\\0\\x1b[31m\\xff3')", {"WA"}),
        ("python", "\ufeffprint(int(input()) + int(input()))", {"AC"}),
        ("python", "print(1\0)", {"RE"}),
        ("python", "'\ud800'\nprint(3)", {"WA"}),
        ("cpp", "#include </dev/zero>\nint main() {}", {"CE"}),
        ("cpp", "#include </dev/random>\nint main() {}", {"CE"}),
        ("cpp", "#include </etc/passwd>\nint main() {}", {"CE"}),
        (
            "cpp",
            "template <int n> struct A { static const int v = A<n - 1>::v + A<n - 2>::v; A<n * 2> *p; };\n"
            "int main() { return A<99999>::v; }",
            {"CE"},
        ),
        (
            "cpp",
            "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i; return s; }\n"
            "int main() { constexpr long x = f(1L << 40); return x; }",
            {"CE"},
        ),
        (
            "cpp",
            "#define A(x) x x x x x x x x\n#define B(x) A(A(A(A(x))))\nint main() { B(B(B(1;))) }",
            {"CE"},
        ),
        ("cpp", "int a[1 << 28] = {1}; int main() { return a[0]; }", {"CE"}),
        (
            "cpp",
            "#include <cstdio>\nstatic char a[1 << 30]; int main() { a[0] = 1; puts(a); }",
            {"RE", "MLE"},
        ),
        ("java", "class A { int x = " + "(" * 9000 + "1" + ")" * 9000 + "; }", {"CE"}),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_hostile_programs(language, code, expected, short, own_tmp):
    result = verdict(language, code)
    assert result.status in expected and result.reward == (1.0 if expected == {"AC"} else 0.0), (
        result
    )
    assert result.detail.isascii() and result.detail.isprintable()
    json.dumps(result.detail)
    assert not list(own_tmp.iterdir()) and not processes_of_slots()
    assert verdict("python", LANGUAGES["python"].canary).status == "AC"


@pytest.fixture
def own_tmp(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # slot uids pass through
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


sandbox.LIBC.prctl(36, 1, 0, 0, 0)  # orphans of what is killed here come to this process


# Prints all that it can open outside /usr (the host's own, see below), and ends with 3 where what is wanted stands.
LOOK_ROUND = r"""
import os, re, sys
want = re.compile(b"wan" + b"ted-[0-9a-f]{8}")
print("read", len(sys.stdin.read()))
for folder, folders, files in os.walk("/", onerror=lambda e: print("closed", e.filename)):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in ("/usr", "/proc/sys", "/var/lib/ghc", "/proc/irq")]
    for path in [os.path.join(folder, f) for f in files]:
        if not os.path.isfile(path) or re.search("kmsg|kcore|pagemap|/mem$|kpage", path):
            continue
        try:
            found = want.search(path.encode() + open(path, "rb", buffering=0).read(1 << 22))
        except OSError:
            continue
        if not path.startswith("/proc"): print("file", path)
        if found: sys.exit("found in " + path)
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "cwd", "exe", "root"):
        try: text = os.readlink(f"/proc/{pid}/{name}") if name in ("cwd", "exe", "root") else open(f"/proc/{pid}/{name}").read()
        except OSError: continue
        print("process", pid, name, text.encode())
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"): print("fd", pid, fd, os.readlink(f"/proc/{pid}/fd/{fd}"))
    except OSError: pass
    try: memory, maps = open(f"/proc/{pid}/mem", "rb", buffering=0), open(f"/proc/{pid}/maps").readlines()
    except OSError: continue
    for a, b in [[int(x, 16) for x in line.split()[0].split("-")] for line in maps if int(pid) != os.getpid()]:
        try:
            memory.seek(a)
            found = want.search(memory.read(b - a))
        except (OSError, OverflowError, ValueError): continue
        if found: sys.exit("found in the memory of " + pid)
newest = max((os.lstat(os.path.join(folder, f)).st_ctime for folder, _, files in os.walk("/usr") for f in files))
print("usr", newest)
"""


@pytest.mark.parametrize("leaks", [False, True])
def test_what_a_program_can_read_holds_no_expected_output(leaks, monkeypatch):
    """All of it is listed: files, processes and their memory, open files. A leak into the box would be found."""
    secret, began, said = f"wanted-{os.getpid():08x}", time.time(), []
    real = sandbox.run

    def run(command, box, *args, **how):
        if leaks:
            Path(box, "expected").write_text(secret)
        said.append(real(command, box, *args, **how))
        return said[-1]

    monkeypatch.setattr(sandbox, "run", run)
    result = verdict(
        "python", LOOK_ROUND, prints(secret) + [{"stdin": "second", "stdout": secret + "2"}]
    )
    seen = said[-1].stdout.decode().splitlines()
    if leaks:
        assert result.status == "RE" and b"found in /w/expected" in said[-1].stderr
        return
    assert result.status == "WA", result  # not RE: it went through to the end and found nothing
    files = {line.split(" ", 1)[1] for line in seen if line.startswith("file ")}
    assert "/w/p.py" in files and {path for path in files if path.startswith("/w/")} == {"/w/p.py"}
    assert all(path.startswith(("/w/p.py", *sandbox.READABLE)) for path in files), files
    assert float(seen[-1].split()[1]) < began  # nothing in /usr is of this judge
    assert {line.split()[1] for line in seen if line.startswith("process ")} <= {"1", "2", "3", "4"}
    assert not any(str(ROOT) in line for line in seen)


@pytest.mark.parametrize(
    "printed, wanted, status",
    [
        ("a  \nb\n\n\n", "a\nb", "AC"),
        ("a\r\nb", "a\nb\n", "AC"),
        ("", "\n", "AC"),
        (" a", "a", "WA"),
        ("a\n\nb", "a\nb", "WA"),
        ("YES", "yes", "WA"),
        ("1.0", "1", "WA"),
        ("a b", "a  b", "WA"),
    ],
)
def test_comparison(printed, wanted, status):
    assert (
        verdict("python", f"import sys; sys.stdout.write({printed!r})", prints(wanted)).status
        == status
    )


def test_later_tests_count_and_the_first_failure_stops():
    tests = [*SUMS, {"stdin": "1\n1\n", "stdout": "3\n"}, {"stdin": "", "stdout": "never reached"}]
    result = verdict("python", LANGUAGES["python"].canary, tests)
    assert result.status == "WA" and result.detail == r"test 3: b'2\n', expected b'3\n'"


# ---------------------------------------------------------------------------------------------- faults are not failures


@pytest.mark.parametrize("bwrap", ["/usr/bin/false", "/nonexistent"])
def test_a_broken_sandbox_is_je(bwrap, monkeypatch):
    monkeypatch.setattr(sandbox, "BWRAP", bwrap)
    result = verdict("python", "print(3)")
    assert (result.status, result.reward) == ("JE", None)


def test_a_missing_tool_is_je_and_names_the_mend(monkeypatch):
    monkeypatch.setitem(LANGUAGES, "php", replace(LANGUAGES["php"], run="/usr/bin/no-php {file}"))
    result = verdict("php", "<?php")
    assert (result.status, result.reward) == (
        "JE",
        None,
    ) and "apt-get install php-cli" in result.detail
    assert "php" in languages.installed_toolchains()[1]


def test_a_full_disk_is_je(monkeypatch):
    if os.geteuid():
        pytest.skip("needs root to mount a small file system")
    folder = Path("/tmp/oorl-test-full")
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], check=True)
    try:
        (folder / "f").write_bytes(bytes(60 << 10))
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        for language in ("python", "cpp"):
            assert verdict(language, LANGUAGES[language].canary + "\n#" + "x" * 9000).status == "JE"
            assert verdict(language, LANGUAGES[language].canary).status in ("JE", "AC")
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_judge_never_raises():
    for broken in (
        {},
        {"target_language": "cobol", "tests": []},
        problem(tests=[{}]),
        problem(tests=prints("\ud800")),
    ):
        result = judge(broken, block("python", "print(3)"))
        assert (result.status, result.reward) == ("JE", None)


@pytest.mark.parametrize(
    "first, calls",
    [
        (
            sandbox.Result("TLE", 137, b"", b"", cpu_s=0.1, wall_s=10, queued_s=8),
            3,
        ),  # starved of a CPU: once more
        (sandbox.Result("TLE", 137, b"", b"", cpu_s=0.1, wall_s=10, queued_s=0.1), 1),  # asleep
        (sandbox.Result("TLE", 137, b"", b"", cpu_s=9, wall_s=10, queued_s=8), 1),
        (SandboxError("out of luck"), 3),
    ],
)
def test_doubt_is_asked_once_more(first, calls, monkeypatch):
    answers, real = [first], sandbox.run

    def run(*args, **how):
        asked.append(args)
        if answers:
            if isinstance(answers[0], Exception):
                raise answers.pop()
            return answers.pop()
        return real(*args, **how)

    asked = []
    monkeypatch.setattr(sandbox, "run", run)
    assert verdict("python", LANGUAGES["python"].canary).status == ("AC" if calls == 3 else "TLE")
    assert len(asked) == calls


# ---------------------------------------------------------------------------------------------- the pool

SLEEP = block("python", "import time; time.sleep(1); print(int(input()) + int(input()))")
ONE = [{"stdin": "1\n2\n", "stdout": "3\n"}]


def workers_of(pool):
    return [worker.pid for worker in pool._processes.values()]


def test_pool_judges_equal_programs_once(pool):
    text = block("python", LANGUAGES["python"].canary)
    first = pool.submit(problem(), text)
    assert pool.submit(problem(), "Other words. " + text) is first and first.result().reward == 1.0
    assert pool.submit(problem(tests=prints("x")), text) is not first
    assert (
        pool.submit(problem("bash"), block("bash", LANGUAGES["python"].canary)).result().status
        == "RE"
    )
    assert pool.submit(problem(), "no code").result().status == "NC"


def test_pool_agrees_with_judge(pool):
    codes = [LANGUAGES["python"].canary, "print(3)", "1 / 0", "print(", "print('\ud800\0')"] * 3
    futures = [
        pool.submit(problem(), block("python", code + f"\n#{i}")) for i, code in enumerate(codes)
    ]
    assert [f.result().status for f in futures] == ["AC", "WA", "RE", "RE", "RE"] * 3


def test_a_killed_worker_costs_no_verdict(pool):
    retries = pool.retries
    future = pool.submit(problem(tests=ONE), SLEEP)
    time.sleep(0.5)
    for pid in workers_of(pool):
        os.kill(pid, signal.SIGKILL)
    assert future.result(30).status == "AC" and pool.retries > retries
    assert (
        pool.submit(problem(tests=ONE), block("python", "print(3) # after")).result(30).status
        == "AC"
    )


def test_a_worker_that_always_dies_is_je():
    with judge_pool(1) as pool:
        stop = threading.Event()

        def killer():
            while not stop.wait(0.05):
                for pid in workers_of(pool):
                    os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=killer)
        thread.start()
        verdict = pool.submit(problem(tests=ONE), SLEEP).result(30)
        stop.set()
        thread.join()
        assert (verdict.status, verdict.reward) == ("JE", None) and "died" in verdict.detail
        assert (
            pool.submit(problem(tests=ONE), SLEEP).result(30).status == "AC"
        )  # JE is not remembered


def test_ctrl_c_is_not_for_workers(pool):
    future = pool.submit(problem(tests=ONE), SLEEP + " ")
    time.sleep(0.3)
    for pid in workers_of(pool):
        for process in (pid, *descendants(pid)[:1]):
            os.kill(int(process), signal.SIGINT)
    assert future.result(30).status == "AC" and pool.submit(problem(), "").result().status == "NC"


def test_a_doubt_is_settled_alone(pool, monkeypatch):
    running, most = [], []
    real = pool._ask

    def ask(request):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return real(request)

    monkeypatch.setattr(pool, "_ask", ask)
    with pool._turn(pool.workers):
        future = pool.submit(problem(tests=ONE), block("python", "print(3) # alone"))
        time.sleep(0.3)
        assert not most and not future.done()
    assert future.result(30).status == "AC"


def test_close_is_prompt_and_leaves_nothing():
    pool = judge_pool(2)
    mark = str(60000 + os.getpid())
    futures = [
        pool.submit(
            problem("bash", tests=ONE), block("bash", f"setsid sleep {mark} & sleep {mark} #{i}")
        )
        for i in range(5)
    ]
    time.sleep(0.7)
    pids, folder = workers_of(pool), pool._folder.name
    assert len(pids) == 2
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 2
    assert {future.result(1).status for future in futures} == {"JE"}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids) and not Path(folder).exists()
    assert gone(f"sleep\0{mark}")


def test_folders_of_killed_pools_are_swept(monkeypatch, tmp_path):
    monkeypatch.setattr(pool_module, "STALE_S", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # not among the pools of others
    left = Path(tempfile.mkdtemp(prefix="oorl-judge-"))
    (left / "box").mkdir()
    with judge_pool(1) as held:
        time.sleep(0.05)
        judge_pool(1).close()
        assert not left.exists() and Path(held._folder.name).exists()
    assert not Path(held._folder.name).exists()


@pytest.mark.parametrize("delay_s", [1.0, 0.0, 0.004, 0.008, 0.012, 0.016, 0.02])
def test_a_killed_trainer_leaves_nothing(delay_s):
    """Killed in the middle of a program, or while bwrap builds its box."""
    folder = tempfile.mkdtemp(
        prefix=f"mark{os.getpid()}"
    )  # all that works for this trainer has it on its command line
    os.chmod(folder, 0o755)
    code = (
        "import json, reward, sys, time\npool = reward.judge_pool(2)\nasked = json.load(sys.stdin)\n"
        "for part in asked[:2], asked[2:]:\n [f.result() for f in [pool.submit(*one) for one in part]]\n print(flush=True)"
    )
    asked = [
        (
            problem("bash", tests=ONE),
            block("bash", f"trap : TERM; {'sleep 99' if i > 1 else ''} #{i}"),
        )
        for i in range(4)
    ]
    trainer = subprocess.Popen(
        [sys.executable, "-c", code, folder],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": folder},
    )
    trainer.stdin.write(json.dumps(asked).encode())
    trainer.stdin.close()
    trainer.stdout.readline()
    time.sleep(delay_s)
    workers = descendants(trainer.pid)
    trainer.kill()
    trainer.wait()
    assert len(workers) >= 4 and gone(folder)  # two workers, each with its unshare
    end = time.monotonic() + 3
    while (left := set(alive("reward.py\0--worker")) & set(workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left
    shutil.rmtree(folder)


def test_canaries(pool, monkeypatch):
    check_canaries(pool, ["python", "bash"])
    monkeypatch.setitem(LANGUAGES, "bash", replace(LANGUAGES["bash"], canary="echo 1"))
    with pytest.raises(SandboxError, match="Bash program that must be AC is WA"):
        check_canaries(pool, ["python", "bash"])


def test_workers_import_no_torch():
    code = "import reward, data, sys; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# ---------------------------------------------------------------------------------------------- the command


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def score(folder, *more):
    command = [
        sys.executable,
        str(ROOT / "reward.py"),
        "--problems",
        "P",
        "--completions",
        "C",
        "--out",
        "V",
        "--workers",
        "2",
    ]
    return subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def files(tmp_path):
    problems = [problem("python", id="a"), problem("bash", id="b")]
    texts = [
        ("a", block("python", LANGUAGES["python"].canary)),
        ("b", block("bash", "echo 3")),
        ("a", "none"),
        ("a", "none"),
    ]
    (tmp_path / "P").write_text("".join(json.dumps(row) + "\n" for row in problems))
    (tmp_path / "C").write_text(
        "".join(json.dumps({"id": i, "completion": text}) + "\n" for i, text in texts)
    )
    return tmp_path


def test_command_scores_and_continues(files):
    done = score(files)
    assert done.returncode == 0, done.stderr
    assert "sandbox: bwrap" in done.stdout and "median_s" in done.stdout
    first = rows(files / "V")
    assert [(row["id"], row["verdict"], row["reward"]) for row in first] == [
        ("a", "AC", 1.0),
        ("b", "WA", 0.0),
        ("a", "NC", 0.0),
        ("a", "NC", 0.0),
    ]
    assert {"detail", "cpu_s", "wall_s"} <= first[0].keys() and sorted(
        p.name for p in files.iterdir()
    ) == ["C", "P", "V"]

    first[0]["detail"] = "kept"  # what is there is kept, a JE or a missing row is judged
    first[1].update(verdict="JE", reward=None)
    (files / "V").write_text("".join(json.dumps(row) + "\n" for row in first[:2]))
    assert score(files).returncode == 0
    again = rows(files / "V")
    assert [row["verdict"] for row in again] == ["AC", "WA", "NC", "NC"] and again[0][
        "detail"
    ] == "kept"


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"id": "a"}', r'C:5: "completion" is missing'),
        ('{"id": "zz", "completion": ""}', r'C:5: "id" \'zz\' is in no row of P'),
        ("{", r"C:5: not a JSON row"),
        ('{"id": "a", "completion": 3}', r'C:5: "completion" is a int'),
    ],
)
def test_command_names_the_bad_row(files, line, message):
    with open(files / "C", "a") as f:
        f.write(line + "\n")
    done = score(files)
    assert done.returncode == 1 and not (files / "V").exists()
    assert message.replace("\\'", "'") in done.stderr and "Traceback" not in done.stderr


def test_command_without_a_sandbox_says_what_to_install(files):
    (files / "bin").mkdir()
    (files / "bin/bwrap").write_text("#!/bin/sh\nexit 1\n")
    (files / "bin/bwrap").chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(ROOT / "reward.py"), "--probe"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{files}/bin:{os.environ['PATH']}"},
    )
    assert (
        done.returncode == 1
        and "apt-get install bubblewrap" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_exit_code_3_tells_of_judge_errors(monkeypatch, capsys):
    row = {"verdict": "JE", "reward": None, "wall_s": 0.1}
    monkeypatch.setattr(
        reward, "score", lambda *_: [("python", row), ("python", {**row, "verdict": "AC"})]
    )
    monkeypatch.setattr(
        sys, "argv", ["reward.py", "--problems", "P", "--completions", "C", "--out", "V"]
    )
    assert reward.main() == 3 and "python" in capsys.readouterr().out
