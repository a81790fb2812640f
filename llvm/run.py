"""What clang says of a C source, and whether LLVM IR behaves like it: the two questions of ir.py, asked in the sandbox.

winners: a source at several optimisation levels, less all text that says nothing about behaviour.
compare: source and texts run on the same inputs. An input decides only where the source is defined (UBSan, two
fillings of the stack, of the heap and of what surrounds a buffer) and ends within a number of steps. Steps are basic
blocks, counted by sanitizer coverage and not by a clock, so that the answer depends on the texts, the seed and clang,
never on the load of the machine.

Left out: what drive.py cannot drive, which is rejected by name.
"""

import functools
import os
import random
import re
import subprocess
import tempfile
from pathlib import Path

from judge import sandbox
from llvm.drive import Rejected, entry, entry_h, input_pool

# In the order in which they top up a group of too few distinct winners: O0 always differs, but is long.
FLAGS = {
    level: f"-{level} -Xclang -disable-O0-optnone" for level in ("O1", "Os", "O2", "Oz", "O3", "O0")
}
LEVELS, ORACLE = list(FLAGS), "oracle"
FLAGS[ORACLE] = (
    "-O0 -g -fsanitize=undefined -fsanitize-trap=undefined"  # -g: tells the types of the parameters
)
MAX_SOURCE_BYTES = 64 << 10
COMPILER = sandbox.Limits(
    cpu_s=10, wall_s=60, memory_bytes=2 << 30, processes=32, stdout_bytes=4 << 20
)
PROGRAM = sandbox.Limits(cpu_s=40, wall_s=120, memory_bytes=512 << 20, processes=8)
DRIVER = Path(__file__).with_name("driver.c")
POOL, INPUTS, MIN_INPUTS = 768, 96, 8  # inputs offered, inputs that decide, and how few of them may


# ---------------------------------------------------------------------------------------------- winners


@functools.cache
def clang() -> tuple[str, str, int]:
    """(path, version line, major version). Raises RuntimeError that says what to install."""
    for name in "clang-19", "clang", *(f"clang-{n}" for n in range(30, 13, -1)):
        path = f"/usr/bin/{name}"  # the sandbox shows no other folder
        if os.path.exists(path):
            version = subprocess.check_output([path, "--version"], text=True).split("\n")[0]
            return path, version, int(re.search(r"version (\d+)", version)[1])
    raise RuntimeError(
        "no clang in /usr/bin: apt-get install clang-19 (or clang: rows record the version)"
    )


def winners(source: str, levels: list[str]) -> dict[str, str]:
    """level -> normalised IR. Raises Rejected."""
    return dict(zip(levels, map(normalise, compiled(source, levels))))


def compiled(source: str, levels: list[str]) -> list[str]:
    """What clang prints at each level; one boxed process for all of them, about 30 ms a level. Raises Rejected."""
    if re.search("[\ud800-\udfff]", source):  # what read_sources makes of other bytes
        raise Rejected("not UTF-8")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise Rejected(f"over {MAX_SOURCE_BYTES >> 10} KB")
    command = (
        f"{clang()[0]} -S -emit-llvm -fno-discard-value-names -w -ferror-limit=1 $f source.c -o -"
    )
    script = f'for f; do echo "==== $f"; {command} || exit; done'
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        Path(box, "source.c").write_bytes(source.encode())
        result = sandbox.run(
            ["/bin/sh", "-c", script, "sh", *(FLAGS[level] for level in levels)], box, COMPILER
        )
    if result.status != "OK":
        error = re.search(r"^.*error: .*$", result.stderr.decode(errors="replace"), re.M)
        raise Rejected(
            f"does not compile: {error[0] if error else f'clang ended with {result.status}'}"
        )
    texts = re.split(r"^==== .*\n", result.stdout.decode(errors="replace"), flags=re.M)[1:]
    if not all(re.search("^define ", text, re.M) for text in texts):
        raise Rejected("no function")
    return texts


PROMISES = re.compile(
    r"(?<![\w.%@])(?:noundef|dso_local|(?:local_)?unnamed_addr|tail(?= call)|nonnull|nocapture|"
    r"readonly|readnone|writeonly|returned|range\([^()]*\)|dereferenceable\(\d+\))(?![\w.:]) ?"
)
BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "ptr": 8}


def normalise(ir: str) -> str:
    """The same code in as little text as assembles: no comments, target, metadata, attributes, lifetime markers,
    natural alignments, promises to the optimiser. What instructions mean stays (nsw, nneg, signext of the ABI)."""
    lines = []
    for line in ir.split("\n"):
        line = re.sub(r'^((?:[^";]|"[^"]*")*);.*', r"\1", line).rstrip()
        intrinsic = (
            re.match(r"declare .*@llvm\.", line) and clang()[2] >= 18
        )  # from there on they declare themselves
        if (
            not line
            or intrinsic
            or re.match(
                r"source_filename|target |attributes |!|.*@llvm\.(lifetime|dbg)\.| +#dbg_", line
            )
        ):
            continue
        code, quote, string = line.partition(
            ' c"'
        )  # what a string constant says is not ours to change
        code = PROMISES.sub("", re.sub(r",? ![\w.]+(?: !\d+)?| #\d+", "", code))
        string = re.sub(r", !dbg !\d+$", "", string)
        lines.append(
            re.sub(
                r"(  (?:%\S+ = )?(?:alloca|load|store) (\w+)\b.*), align (\d+)$",
                lambda m: m[1] if BYTES.get(m[2]) == int(m[3]) else m[0],
                code,
            ).rstrip()
            + quote
            + string
        )
    return "\n".join(lines) + "\n"


def canonical(ir: str) -> str:
    """`ir` with its locals and labels numbered as they appear: equal texts are the same code."""
    names, pattern = {}, r"%([\w.$-]+)|^([\w.$-]+)(?=:$)"
    return re.sub(
        pattern, lambda m: names.setdefault(m[1] or m[2], f"%{len(names)}"), ir, flags=re.M
    )


# ---------------------------------------------------------------------------------------------- running


def suffixed(ir: str, k: int) -> str:
    """`ir` with vK. before every name that it defines, so that many texts fit in one module; and with frame pointers:
    without them the smallest frame is made by pushing a register, which hides what smear left there."""
    names = re.findall(r"^(?:define [^@]*)?@([\w.$]+)(?:\(| = (?!external))", ir, re.M)
    ir = re.sub(rf"@({'|'.join(map(re.escape, names))})(?![\w.$-])", rf"@v{k}.\1", ir)
    return re.sub(r"^(define .*) \{$", r'\1 "frame-pointer"="all" {', ir, flags=re.M)


def assemble(texts: list[str], box: str, then: str) -> sandbox.Result:
    """Compile texts[k] to vK.o in `box`, or all to all.o if all are valid, which is faster; then run `then`."""
    texts = {f"v{k}": suffixed(text, k) for k, text in enumerate(texts)}
    shared, rest = {}, []  # what texts declare alike may stand in a module only once
    for line in "\n".join(texts.values()).split("\n"):
        outside = re.match(r"declare .*@|@\S+ = external |%\S+ = type ", line)
        shared.setdefault(line) if outside else rest.append(line)
    for name, text in [*texts.items(), ("all", "\n".join([*shared, *rest]))]:
        Path(box, f"{name}.ll").write_text(text)
    build = (
        f"{clang()[0]} -c -O0 -w -fverify-intermediate-code -fno-crash-diagnostics "
        "-fsanitize-coverage=trace-pc,no-prune 2>/dev/null"
    )
    script = f"{build} all.ll || for f in v*.ll; do {build} $f; done; {then}"
    return sandbox.run(["/bin/sh", "-c", script], box, COMPILER, writable=True)


def compare(
    source: str,
    variants: list[str],
    rng: random.Random,
    inputs: int = INPUTS,
    pool: int = POOL,
    others=(),
) -> tuple[int, list]:
    """Run source and variants on up to `inputs` of `pool` inputs, none of them among `others`: (inputs that decided,
    outcomes). An outcome says on how many of them it [differed, crashed, ran on endlessly, was unstable]; None: it does
    not assemble. Raises Rejected."""
    (raw,) = compiled(source, [ORACLE])
    called, others = entry(raw), set(others)
    offered = [values for values in input_pool(called, source, rng, pool) if values not in others]
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        Path(box, "driver.c").write_bytes(DRIVER.read_bytes())
        Path(box, "entry.h").write_text(entry_h(called, len(variants) + 1, len(offered), inputs))
        Path(box, "inputs").write_text(
            "".join(
                f"{len(values)}\n{values}"
                if called.program
                else " ".join(v.hex() if isinstance(v, float) else str(v) for v in values) + "\n"
                for values in offered
            )
        )
        built = assemble(
            [normalise(raw), *variants], box, f"{clang()[0]} -w driver.c *.o -o driver -lm"
        )
        if built.status != "OK":
            raise Rejected(
                f"its driver does not build: {built.status} {built.stderr.decode(errors='replace')[:200]!r}"
            )
        ran = sandbox.run(["./driver"], box, PROGRAM)
    if ran.status != "OK":
        raise Rejected(f"its driver ends with {ran.status}")
    decided, *outcomes = ran.stdout.decode().splitlines()
    if int(decided) < max(1, min(MIN_INPUTS, len(offered))):
        raise Rejected(f"hardly ever defined and ending: on {decided} of {len(offered)} inputs")
    return int(decided), [
        None if line == "absent" else list(map(int, line.split())) for line in outcomes
    ]
