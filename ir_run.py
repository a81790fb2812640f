"""What clang says of a C source, and whether LLVM IR behaves like it: the two questions of ir.py, asked in the sandbox.

winners: a source at several optimisation levels, less all text that says nothing about behaviour.
compare: source and texts run on the same inputs. An input decides only where the source is defined (UBSan, two
fillings of the stack) and ends within a number of steps. Steps are basic blocks, counted by sanitizer coverage and not
by a clock, so that the answer depends on the texts, the seed and clang, never on the load of the machine.

Left out: whole programs, pointers, floats, state between calls. What cannot be driven is rejected by name.
"""
import functools
import os
import random
import re
import subprocess
import tempfile
from pathlib import Path

import sandbox

# In the order in which they top up a group of too few distinct winners: O0 always differs, but is long.
FLAGS = {level: f"-{level} -Xclang -disable-O0-optnone" for level in ("O1", "Os", "O2", "Oz", "O3", "O0")}
LEVELS, ORACLE = list(FLAGS), "oracle"
FLAGS[ORACLE] = "-O0 -fsanitize=undefined -fsanitize-trap=undefined"
MAX_SOURCE_BYTES = 64 << 10
COMPILER = sandbox.Limits(cpu_s=10, wall_s=60, memory_bytes=2 << 30, processes=32, stdout_bytes=4 << 20)
PROGRAM = sandbox.Limits(cpu_s=10, wall_s=30, memory_bytes=512 << 20, processes=8)
POOL, INPUTS, MIN_INPUTS = 768, 96, 8  # inputs offered, inputs that decide, and how few of them may


class Rejected(Exception):
    """This source gives no group. The text says why; what comes before its first colon is the kind."""


# ---------------------------------------------------------------------------------------------- winners

@functools.cache
def clang() -> tuple[str, str, int]:
    """(path, version line, major version). Raises RuntimeError that says what to install."""
    for name in "clang-19", "clang", *(f"clang-{n}" for n in range(30, 13, -1)):
        path = f"/usr/bin/{name}"  # the sandbox shows no other folder
        if os.path.exists(path):
            version = subprocess.check_output([path, "--version"], text=True).split("\n")[0]
            return path, version, int(re.search(r"version (\d+)", version)[1])
    raise RuntimeError("no clang in /usr/bin: apt-get install clang-19 (or clang: rows record the version)")


def winners(source: str, levels: list[str]) -> dict[str, str]:
    """level -> normalised IR; one boxed process for all levels, about 30 ms a level. Raises Rejected."""
    if re.search("[\ud800-\udfff]", source):  # what read_sources makes of other bytes
        raise Rejected("not UTF-8")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise Rejected(f"over {MAX_SOURCE_BYTES >> 10} KB")
    command = f"{clang()[0]} -S -emit-llvm -fno-discard-value-names -w -ferror-limit=1 $f source.c -o -"
    script = f'for f; do echo "==== $f"; {command} || exit; done'
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        Path(box, "source.c").write_bytes(source.encode())
        result = sandbox.run(["/bin/sh", "-c", script, "sh", *(FLAGS[level] for level in levels)], box, COMPILER)
    if result.status != "OK":
        error = re.search(r"^.*error: .*$", result.stderr.decode(errors="replace"), re.M)
        raise Rejected(f"does not compile: {error[0] if error else f'clang ended with {result.status}'}")
    texts = re.split(r"^==== .*\n", result.stdout.decode(errors="replace"), flags=re.M)[1:]
    if not all(re.search("^define ", text, re.M) for text in texts):
        raise Rejected("no function")
    return dict(zip(levels, map(normalise, texts)))


PROMISES = re.compile(r"(?<![\w.%@])(?:noundef|dso_local|(?:local_)?unnamed_addr|tail(?= call)|nonnull|nocapture|"
                      r"readonly|readnone|writeonly|returned|range\([^()]*\)|dereferenceable\(\d+\))(?![\w.:]) ?")
BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "ptr": 8}


def normalise(ir: str) -> str:
    """The same code in as little text as assembles: no comments, target, metadata, attributes, lifetime markers,
    natural alignments, promises to the optimiser. What instructions mean stays (nsw, nneg, signext of the ABI)."""
    lines = []
    for line in ir.split("\n"):
        line = re.sub(r'^((?:[^";]|"[^"]*")*);.*', r"\1", line).rstrip()
        intrinsic = re.match(r"declare .*@llvm\.", line) and clang()[2] >= 18  # from there on they declare themselves
        if not line or intrinsic or re.match(r"source_filename|target |attributes |!|.*@llvm\.lifetime\.", line):
            continue
        code, quote, string = line.partition(' c"')  # what a string constant says is not ours to change
        code = PROMISES.sub("", re.sub(r",? ![\w.]+(?: !\d+)?| #\d+", "", code))
        lines.append(re.sub(r"(  (?:%\S+ = )?(?:alloca|load|store) (\w+)\b.*), align (\d+)$",
                            lambda m: m[1] if BYTES.get(m[2]) == int(m[3]) else m[0], code) + quote + string)
    return "\n".join(lines) + "\n"


def canonical(ir: str) -> str:
    """`ir` with its locals and labels numbered as they appear: equal texts are the same code."""
    names, pattern = {}, r"%([\w.$-]+)|^([\w.$-]+)(?=:$)"
    return re.sub(pattern, lambda m: names.setdefault(m[1] or m[2], f"%{len(names)}"), ir, flags=re.M)


# ---------------------------------------------------------------------------------------------- running

# By value, as wide as in the IR, which knows no sign; but the caller has to extend as the ABI says.
C_TYPES = {"i1 zeroext": "_Bool", "i8 signext": "signed char", "i8 zeroext": "unsigned char", "i16 signext": "short",
           "i16 zeroext": "unsigned short", "i32": "int", "i64": "long"}


def signature(oracle: str, source: str) -> tuple[str, str, list[str]]:
    """(name, C return type, IR parameter types) of the one function to drive. Raises Rejected by name."""
    heads = {m[2]: m for m in re.finditer(r"^define (.*)@([\w.$]+)\((.*)\)[^()]*\{$", oracle, re.M)}
    called = {name for name in heads for other, m in heads.items()
              if other != name and f"@{name}(" in oracle[m.end():oracle.index("\n}", m.end())]}
    entries = [name for name, m in heads.items() if "internal" not in m[1] and name not in called]
    if len(entries) != 1:
        raise Rejected(f"no clear entry: {', '.join(entries) or 'every function is static or called'}")
    for what, pattern in (("whole program, it defines", r"^define .*@(main)\("), ("inline", r"\bcall .*\b(asm) "),
                          ("calls", r"^declare .*@(?!llvm\.)([\w.$]+)"), ("global variable", r"^@(\S+) = .*\bglobal ")):
        if m := re.search(pattern, oracle, re.M):
            raise Rejected(f"{what} {m[1]}")
    returns, name, parameters = heads[entries[0]].groups()
    returns = " ".join(reversed(returns.split()))  # "signext i8": like a parameter's
    if returns not in C_TYPES:
        raise Rejected(f"return type {returns}")
    types = [parameter.split(" %")[0] for parameter in parameters.split(", ") if parameter]
    written = re.search(rf"\b{re.escape(name)}\s*\(([^()]*)\)\s*\{{", re.sub(r"(?s)/\*.*?\*/|//[^\n]*", " ", source))
    in_c = [re.sub(r"\w+\s*((\[[^]]*\]\s*)*)$", r"\1", parameter.strip()).strip()
            for parameter in (written[1].split(",") if written else [])]
    for k, ir_type in enumerate(types):
        if ir_type not in C_TYPES or ".coerce" in parameters.split(", ")[k]:  # a struct comes coerced to integers
            raise Rejected(f"parameter type {in_c[k] if len(in_c) == len(types) else ir_type}")
    return name, C_TYPES[returns], types


def input_pool(bits: list[int], source: str, rng: random.Random) -> list[tuple[int, ...]]:
    """Up to POOL different tuples: corners, the neighbourhood of the source's constants (where a loosened comparison
    shows), small, middling and any numbers, wrapped to each parameter's bits."""
    literals = sorted({int(text) for text in re.findall(r"(?<![\w.])(\d{1,18})[uUlL]*(?![\w.])", source)}) or [0]
    kinds = [lambda w: rng.choice([0, 1, -1, 2, -2, 3, 10, -1 << w - 1, (-1 << w - 1) + 1, (1 << w - 1) - 1]),
             lambda w: rng.choice([1, 1, -1]) * rng.choice(literals) + rng.choice([-1, 0, 1]),
             lambda w: rng.randint(-20, 20), lambda w: rng.randint(-20, 20), lambda w: rng.randint(-1000, 1000),
             lambda w: rng.choice([1, -1]) * rng.getrandbits(rng.randint(1, w))]
    pool = {}
    for number in range(8 * POOL):
        kind = kinds[number % len(kinds)]
        values = [rng.choice([kind, kind, *kinds])(w) for w in bits]
        pool[tuple((v + (1 << w - 1)) % (1 << w) - (1 << w - 1) for v, w in zip(values, bits))] = None
    return list(pool)[:POOL]  # in order of appearance: the first of them are a mixture


DRIVER = r"""
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
enum { VALUE, CRASHED, ENDLESS, UNSTABLE };
@DECLARATIONS@
static @RETURNS@ (*const table[])(@PARAMETERS@) = {@TABLE@};  /* the oracle, the variants; 0: did not assemble */
static long long pool[@POOL@][@ARITY@ + 1], expected[@POOL@], steps;
static sigjmp_buf escape;
/* Every block of the code under test calls this. */
void __sanitizer_cov_trace_pc(void) { if (--steps < 0) siglongjmp(escape, ENDLESS); }
static void on_signal(int number) { siglongjmp(escape, CRASHED); }
static __attribute__((noinline)) void smear(int byte)
{
    char area[1 << 15];
    memset(area, byte, sizeof area);
    __asm__ volatile("" : : "r"(area) : "memory");
}
/* A frame between, where smear's own lay: that one holds more than `byte`. */
static __attribute__((noinline)) long long invoke(int k, const long long *x) { return table[k](@ARGUMENTS@); }
/* Twice, on differently filled stacks: a value that depends on what was never written is UNSTABLE. */
static int call(int k, const long long *x, int budget, long long *value)
{
    long long values[2];
    for (volatile int i = 0; i < 2; i++) {
        int how = sigsetjmp(escape, 1);
        if (how) return how;
        steps = budget;
        smear(0xAA * i);
        values[i] = invoke(k, x);
    }
    *value = values[0];
    return values[0] == values[1] ? VALUE : UNSTABLE;
}
int main(void)
{
    for (const char *s = (char[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, 0}; *s; s++) signal(*s, on_signal);
    int inputs = 0;
    for (int i = 0; i < @POOL@ && inputs < @INPUTS@; i++) {
        for (int j = 0; j < @ARITY@; j++) if (scanf("%lld", &pool[inputs][j]) != 1) return 2;
        inputs += call(0, pool[inputs], 20000, &expected[inputs]) == VALUE;
    }
    dprintf(1, "%d\n", inputs);
    for (int k = 1; k < sizeof table / sizeof *table; k++) {
        int count[4] = {0}, status = 0;  /* differs, crashed, endless, unstable */
        if (!table[k]) { dprintf(1, "absent\n"); continue; }
        if (!fork()) {  /* a mutant may write where it should not */
            for (int i = 0; i < inputs && count[ENDLESS] < 8; i++) {
                long long value = 0;
                int how = call(k, pool[i], 1000000, &value);
                count[how] += how != VALUE || value != expected[i];
            }
            dprintf(1, "%d %d %d %d\n", count[VALUE], count[CRASHED], count[ENDLESS], count[UNSTABLE]);
            _exit(0);
        }
        if (wait(&status) < 0) return 3;
        if (status) dprintf(1, "0 1 0 0\n");
    }
}
"""


def suffixed(ir: str, k: int) -> str:
    """`ir` with vK. before every name that it defines, so that many texts fit in one module; and with frame pointers:
    without them the smallest frame is made by pushing a register, which hides what smear left there."""
    names = re.findall(r"^(?:define [^@]*)?@([\w.$]+)(?:\(| =)", ir, re.M)
    ir = re.sub(rf"@({'|'.join(map(re.escape, names))})(?![\w.$-])", rf"@v{k}.\1", ir)
    return re.sub(r"^(define .*) \{$", r'\1 "frame-pointer"="all" {', ir, flags=re.M)


def assemble(texts: list[str], box: str, then: str) -> sandbox.Result:
    """Compile texts[k] to vK.o in `box`, or all to all.o if all are valid, which is faster; then run `then`."""
    texts = {f"v{k}": suffixed(text, k) for k, text in enumerate(texts)}
    for name, text in [*texts.items(), ("all", "\n".join(texts.values()))]:
        Path(box, f"{name}.ll").write_text(text)
    build = f"{clang()[0]} -c -O0 -w -fverify-intermediate-code -fno-crash-diagnostics " \
            "-fsanitize-coverage=trace-pc,no-prune 2>/dev/null"
    script = f"{build} all.ll || for f in v*.ll; do {build} $f; done; {then}"
    return sandbox.run(["/bin/sh", "-c", script], box, COMPILER, writable=True)


def compare(oracle: str, variants: list[str], source: str, rng: random.Random) -> tuple[int, list]:
    """Run the oracle and the variants on one pool of inputs: (inputs that decided, outcomes). An outcome says on how
    many of them it [differed, crashed, ran on endlessly, was unstable]; None: it does not assemble. Raises Rejected."""
    name, returns, types = signature(oracle, source)
    pool = input_pool([int(re.search(r"\d+", t)[0]) for t in types], source, rng)
    parameters, table = ", ".join(C_TYPES[t] for t in types) or "void", range(len(variants) + 1)
    fill = {"POOL": len(pool), "INPUTS": INPUTS, "ARITY": len(types), "RETURNS": returns, "PARAMETERS": parameters,
            "TABLE": ", ".join(f"v{k}" for k in table),
            "ARGUMENTS": ", ".join(f"({C_TYPES[t]})x[{k}]" for k, t in enumerate(types)),
            "DECLARATIONS": "\n".join(f'{returns} v{k}({parameters}) __asm__("v{k}.{name}") __attribute__((weak));'
                                      for k in table)}
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        Path(box, "driver.c").write_text(re.sub(r"@([A-Z]+)@", lambda m: str(fill[m[1]]), DRIVER))
        built = assemble([oracle, *variants], box, f"{clang()[0]} -w driver.c *.o -o driver")
        if built.status != "OK":
            raise Rejected(f"its driver does not build: {built.status} {built.stderr.decode(errors='replace')[:200]!r}")
        numbers = "\n".join(" ".join(map(str, values)) for values in pool)
        ran = sandbox.run(["./driver"], box, PROGRAM, stdin=numbers.encode())
    if ran.status != "OK":
        raise Rejected(f"its driver ends with {ran.status}")
    inputs, *outcomes = ran.stdout.decode().splitlines()
    if int(inputs) < min(MIN_INPUTS, len(pool)):
        raise Rejected(f"hardly ever defined and ending: on {inputs} of {len(pool)} inputs")
    return int(inputs), [None if line == "absent" else list(map(int, line.split())) for line in outcomes]
