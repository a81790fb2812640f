"""Every language, every verdict, every cheat; faults of the judge are JE and never 0."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

import reward
from conftest import ROOT
from judge import languages, sandbox, view
from judge.languages import LANGUAGES
from judge.limits import SandboxError
from judging import (
    KINDS,
    SUMS,
    block,
    missing_tools,
    prints,
    problem,
    score,
    skip_without_tool,
    small_disk,
    verdict,
)
from reward import judge
from support import processes_of_slots

MISSING = missing_tools(LANGUAGES)


@pytest.fixture(autouse=True)
def skip(request):
    skip_without_tool(request, MISSING)


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


# ----------------------------------------------------------------------------------------- programs

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
    "java": "class A { static int f(int n) { return f(n + 1) + 1; } public static void "
    "main(String[] a) { f(0); } }",
    "php": "<?php throw new Exception();",
    "bash": "echo 3; exit 3",
    "javascript": "null.x",
    "typescript": "declare const x: any;\nconsole.log(x.y);",
    "go": "package main\nfunc main() { var a []int; a[3] = 1 }",
    "csharp": "using System.Diagnostics; class P { static void Main() { Debug.Assert(false); "
    "System.Environment.Exit(3); } }",
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
    "cpp": "#include <vector>\nint main() { std::vector<char> v; for (;;) v.resize(v.size() + (8 "
    "<< 20), 1); }",
    "java": "class A { public static void main(String[] a) { var l = new "
    "java.util.ArrayList<int[]>(); "
    "for (;;) l.add(new int[1 << 20]); } }",
    "php": "<?php $a = []; while (true) $a[] = str_repeat('x', 1 << 20);",
    "javascript": "const a = []; for (;;) a.push(new Array(1e6).fill(1.5));",
    "typescript": "const a: number[][] = []; for (;;) a.push(new Array(1e6).fill(1.5));",
    "go": "package main\nvar a [][]byte\nfunc main() { for { b := make([]byte, 1 << 22); for i := "
    "range b { b[i] = 1 }; a = append(a, b) } }",
    "csharp": "class P { static void Main() { var a = new "
    "System.Collections.Generic.List<long[]>(); "
    "for (;;) { var b = new long[1 << 19]; for (int i = 0; i < b.Length; i++) b[i] = i; a.Add(b); "
    "} } }",
    "scala": "object A { def main(a: Array[String]): Unit = { var l = List[Array[Int]](); while "
    "(true) l = new Array[Int](1 << 20) :: l } }",
    "haskell": "main :: IO ()\nmain = let a = [1 .. 10 ^ (9 :: Int)] :: [Integer] in print (sum a "
    "+ product (take 3 a) + last a)",
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
        "#include <bits/stdc++.h>\nusing namespace std;\n"
        "int main() { map<string, int> m; string s; while (cin >> s) m[s] += stoi(s); "
        "cout << accumulate(m.begin(), m.end(), 0, [](int a, auto& p) { return a + p.second; }) "
        "<< endl; }",
    ),
    (
        "java",
        "import java.util.*; import java.util.stream.*;\n"
        "public class Solution { public static void main(String[] args) {\n"
        "Scanner in = new Scanner(System.in); System.out.println(IntStream.range(0, 2).map(i -> "
        "in.nextInt()).sum()); } }",
    ),
    (
        "typescript",
        "import * as readline from 'readline';\nimport fs from 'fs';\ninterface P { x: number }\n"
        "const ps: P[] = [];\n"
        "const rl = readline.createInterface({ input: process.stdin });\n"
        "rl.on('line', (line: string) => ps.push({ x: Number(line) }));\n"
        "rl.on('close', () => console.log(ps.reduce((a, p) => a + p.x, 0)));",
    ),
    (
        "typescript",
        "declare const require: any;\ndeclare var process: any;\nconst fs = require('fs');\n"
        "function add(a, b) { return a + b; }\n"
        "const name = fs.readFileSync(0, 'utf8').trim().split('\\n').map(Number);\n"
        "console.log(add(name[0], name[1]));",
    ),
    (
        "go",
        'package main\nimport (\n"bufio"\n"fmt"\n"os"\n"sort"\n"strconv"\n"strings"\n)\n'
        "func main() {\nin := bufio.NewScanner(os.Stdin)\n"
        "var a []int\nfor in.Scan() { x, _ := strconv.Atoi(strings.TrimSpace(in.Text())); a = "
        "append(a, x) }\nsort.Ints(a)\nc := make(chan int)\n"
        "go func() { c <- a[0] + a[1] }()\nfmt.Println(<-c)\n}",
    ),
    (
        "csharp",
        "using System;\nusing System.Collections.Generic;\nusing System.Linq;\n"
        "using System.Numerics;\nusing System.Text;\npublic class Program {\n"
        "public static void Main(string[] args) {\nvar xs = new List<int>(); string line;\n"
        "while ((line = Console.ReadLine()) != null) xs.Add(int.Parse(line));\n"
        'var d = new Dictionary<string, BigInteger> { ["s"] = xs.Sum() };\n'
        'Console.WriteLine($"{d["s"]}"); } }',
    ),
    (
        "scala",
        "import scala.collection.mutable\nimport scala.io.StdIn\n\ncase class P(x: Int)\n\n"
        "object Solution extends App {\n"
        "  val xs = mutable.ArrayBuffer[P]()\n"
        "  for (_ <- 1 to 2) xs += P(StdIn.readLine().trim.toInt)\n"
        "  println(xs.map { case P(x) => x }.sum)\n}",
    ),
    (
        "haskell",
        "module Main where\nimport qualified Data.Map.Strict as M\nimport Data.List (foldl')\n"
        "import Control.Monad\nimport Text.Printf\n\n"
        "main :: IO ()\nmain = do\n  xs <- map read . lines <$> getContents\n"
        "  let m = M.fromListWith (+) [(even x || odd x, x) | x <- xs]\n"
        '  forM_ (M.elems m) $ \\s -> printf "%d\\n" (foldl\' (+) 0 [s :: Int])',
    ),
    (
        "php",
        "<?php\ndeclare(strict_types=1);\nfunction add(int ...$xs): int { return array_sum($xs); "
        "}\n"
        "echo add(...array_map('intval', explode(\"\\n\", trim(stream_get_contents(STDIN))))) . "
        "PHP_EOL;",
    ),
    (
        "javascript",
        "const readline = require('readline');\nconst xs = [];\n"
        "readline.createInterface({ input: process.stdin })\n"
        "  .on('line', l => xs.push(BigInt(l))).on('close', () => "
        "console.log(String(xs.reduce((a, b) => a + b, 0n))));",
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
            "class A { public static void main(String[] a) { for (;;) new Thread(() -> { try { "
            "Thread.sleep(99999); } "
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
            "template <int n> struct A { static const int v = A<n - 1>::v + A<n - 2>::v; A<n * 2> "
            "*p; };\n"
            "int main() { return A<99999>::v; }",
            {"CE"},
        ),
        (
            "cpp",
            "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i; return "
            "s; }\n"
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


# Prints all that it can open outside /usr (the host's own, see below), and ends with 1 and the
# place where it finds what is wanted.
LOOK_ROUND = r"""
import os, re, sys
want = re.compile(b"wan" + b"ted-[0-9a-f]{8}")
print("read", len(sys.stdin.read()))
home = os.getcwd()
print("home", home)
starts = ["/", "/etc", "/tmp", "/sys", os.environ["HOME"], home, os.path.dirname(home)]
walks = [os.walk(start, onerror=lambda e: print("closed", e.filename)) for start in starts]
for folder, folders, files in (found for walk in walks for found in walk):
    hosts = ("/usr", "/proc/sys", "/var/lib/ghc", "/proc/irq")
    folders[:] = [f for f in folders if os.path.join(folder, f) not in hosts]
    for path in [os.path.join(folder, f) for f in files]:
        if not os.path.isfile(path) or re.search("kmsg|kcore|pagemap|/mem$|kpage", path):
            continue
        try:
            found = want.search(path.encode() + open(path, "rb", buffering=0).read(1 << 22))
        except OSError:
            continue
        if not path.startswith("/proc"): print("file", path)
        if found: sys.exit("found in " + path)
try: pids = list(filter(str.isdigit, os.listdir("/proc")))
except OSError: pids = [str(pid) for pid in range(1, os.getpid() + 20)][-3000:]
for pid in pids:
    for name in ("environ", "cmdline", "cwd", "exe", "root"):
        path = f"/proc/{pid}/{name}"
        try: text = os.readlink(path) if name in ("cwd", "exe", "root") else open(path).read()
        except OSError: continue
        print("process", pid, name, text.encode())
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            print("fd", pid, fd, os.readlink(f"/proc/{pid}/fd/{fd}"))
    except OSError: pass
    try:
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
        maps = open(f"/proc/{pid}/maps").readlines()
    except OSError: continue
    for line in maps if int(pid) != os.getpid() else []:
        a, b = [int(x, 16) for x in line.split()[0].split("-")]
        try:
            memory.seek(a)
            found = want.search(memory.read(b - a))
        except (OSError, OverflowError, ValueError): continue
        if found: sys.exit("found in the memory of " + pid)
in_usr = [os.path.join(folder, f) for folder, _, files in os.walk("/usr") for f in files]
times = [os.stat(path).st_ctime for path in in_usr if not os.path.islink(path)]
print("usr", max(times, default=0))  # a landlock box cannot list /usr
"""


def test_a_wrapped_source_earns_nothing(monkeypatch):
    """The judge runs programs bare: in a box that is not bare the same answer passes."""
    wrapped = "python3 -c 'print(input()[::-1])'"
    tests = [{"stdin": "abc\n", "stdout": "cba\n"}]
    assert verdict("bash", wrapped, tests).reward == 0
    assert verdict("bash", "rev", tests).reward == 1
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda *args, bare=False, **how: real(*args, **how))
    monkeypatch.setattr(view, "_not_needed", lambda tools: ())
    assert verdict("bash", wrapped, tests).reward == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leaks", [False, True])
def test_what_a_program_can_read_holds_no_expected_output(kind, leaks, monkeypatch):
    """All of it is listed: files, processes and their memory, open files.

    A leak into the box would be found.
    """
    monkeypatch.setenv(sandbox.BOX_VARIABLE, kind)
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
    home = next(line.split(" ", 1)[1] for line in seen if line.startswith("home "))
    if leaks:
        assert result.status == "RE" and f"found in {home}/expected".encode() in said[-1].stderr
        return
    assert result.status == "WA", result  # not RE: it went through to the end and found nothing
    files = {line.split(" ", 1)[1] for line in seen if line.startswith("file ")}
    shown = [f"{home}/p.py", *view.READABLE]
    assert f"{home}/p.py" in files and all(path.startswith(tuple(shown)) for path in files), files
    # Nothing in /usr is of this judge, but for links that the box makes.
    assert float(seen[-1].split()[1]) < began
    processes = {line.split()[1] for line in seen if line.startswith("process ")}
    assert processes <= {"1", "2", "3", "4"} if kind == "bwrap" else len(processes) == 1
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


# -------------------------------------------------------------------------- faults are not failures


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


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    monkeypatch.setenv(sandbox.BOX_VARIABLE, request.param)
    return request.param


WRITES = "import os\nopen(os.environ['HOME'] + '/f', 'wb').write(bytes(300_000))\nprint(3)"
FORGETS = f"try:\n exec({WRITES!r})\nexcept OSError: print(4)"
# In the folder of the program, which only a compiler may change, and in that for temporary files.
FILLS = """import os
for n in range(4):
    for folder in (".", os.environ["HOME"]):
        try: open(f"{folder}/{n}", "wb").write(bytes(50 << 20))
        except OSError: pass
raise SystemExit(1)
"""


def test_a_full_disk_is_je(kind, monkeypatch):
    """No program that wrote to it fails; the /tmp of a bwrap box is not on it."""
    with small_disk("64k") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        for code in (WRITES, FORGETS):
            result = verdict("python", code, prints("3"))
            assert result.status == ("AC" if kind == "bwrap" else "JE"), result
        assert verdict("python", "print(3)", prints("3")).status == "AC"
        Path(folder, "f").write_bytes(bytes(48 << 10))  # the source fits, what it becomes does not
        assert verdict("cpp", LANGUAGES["cpp"].canary).status == "JE"
        Path(folder, "f").write_bytes(bytes(60 << 10))
        for language in ("python", "cpp"):
            assert verdict(language, LANGUAGES[language].canary + "\n#" + "x" * 9000).status == "JE"


def test_a_program_that_fills_a_disk_fails(kind, monkeypatch):
    """Its own writes put no verdict in doubt."""
    with small_disk("160m") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        assert verdict("python", FILLS).status == "RE"
        compiled = replace(LANGUAGES["python"], compile="/usr/bin/python3 {file}")
        monkeypatch.setitem(LANGUAGES, "python", compiled)
        result = verdict("python", FILLS)
        assert (result.status, result.reward) == ("CE", 0.0), result


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


# -------------------------------------------------------------------------------------- the command


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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


def test_command_continues_after_a_row_that_was_cut_short(files):
    """By a kill or a full disk."""
    assert score(files).returncode == 0
    whole = (files / "V").read_bytes()
    (files / "V").write_bytes(whole[: whole.index(b"\n") + 20])
    done = score(files)
    assert done.returncode == 0, done.stderr
    assert [row["verdict"] for row in rows(files / "V")] == ["AC", "WA", "NC", "NC"]


def test_command_loses_no_verdict_on_other_answers(files):
    assert score(files).returncode == 0
    whole = (files / "V").read_bytes()
    (files / "C").write_text(json.dumps({"id": "b", "completion": "none"}) + "\n")
    done = score(files)
    assert done.returncode == 1 and (files / "V").read_bytes() == whole
    assert "reward.py: V:1: a verdict on another answer, problem or --form" in done.stderr
    assert "name another --out" in done.stderr


ODD_TEXTS = [  # what a model may write
    ("", "NC"),
    ("\0", "NC"),
    ("\ud800", "NC"),
    ("x" * 5_000_000, "NC"),
    ("\ud800\0" + "x" * 5_000_000 + "\n" + block("python", LANGUAGES["python"].canary), "AC"),
    (block("python", "x" * 5_000_000), "NC"),
    (block("python", "#\udfff\n" + LANGUAGES["python"].canary), "AC"),
    (block("python", "print(1\0)"), "RE"),
    (block("python", "\udfff"), "RE"),
]


def test_no_completion_is_an_input_error(files):
    texts = [text for text, _ in ODD_TEXTS]
    rows_of_texts = [{"id": "a", "completion": text} for text in texts]
    lines = [json.dumps(row) for row in rows_of_texts]
    # Some programs write half of a surrogate pair as if it were a character.
    lines.append(lines[2].replace("\\ud800", "\ud800 again"))
    content = "".join(line + "\n" for line in lines)
    (files / "C").write_bytes(content.encode(errors="surrogatepass"))
    done = score(files)
    assert done.returncode == 0, done.stderr[-300:]
    assert [row["verdict"] for row in rows(files / "V")] == [
        *[status for _, status in ODD_TEXTS],
        "NC",
    ]
    first = (files / "V").read_bytes()
    assert score(files).returncode == 0 and (files / "V").read_bytes() == first


def test_a_pool_takes_any_text():
    """As the trainer submits it."""
    with reward.judge_pool(2) as pool:
        futures = [pool.submit(problem(), text) for text, _ in ODD_TEXTS]
        # Other languages derive names of files and classes from the program.
        for name in ("java", "scala", "cpp"):
            if name not in MISSING:
                futures.append(pool.submit(problem(name), block(name, "class \ud800\0 {")))
        assert [future.result().status for future in futures] == [
            *[status for _, status in ODD_TEXTS],
            *["CE"] * (len(futures) - len(ODD_TEXTS)),
        ]


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
        env={**os.environ, "PATH": f"{files}/bin:{os.environ['PATH']}", "OORL_SANDBOX": "bwrap"},
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
