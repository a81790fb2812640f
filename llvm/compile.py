"""What clang makes of a C source: IR at several levels, in as little text as assembles.

    winners(source, ["O3", "Oz"]) -> {"O3": IR, "Oz": IR}      candidates for Y_w of Eq. 6 to 9

Clang runs in the sandbox. Its output is normalised: all text that says nothing about behaviour
goes. `canonical` also numbers the names of locals, so that two texts of the same code are equal.

Left out: a check that the levels agree. They do where the source is defined; compare.py runs them
to make sure.
"""

import functools
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from judge import sandbox

# In the order in which they top up a group of too few winners. O0 always differs, but is long.
LEVELS = ["O1", "Os", "O2", "Oz", "O3", "O0"]
ORACLE = "oracle"  # the level at which a source runs when texts are compared with it
MAX_SOURCE_BYTES = 64 << 10
COMPILER_LIMITS = sandbox.Limits(
    cpu_s=10, wall_s=60, memory_bytes=2 << 30, processes=32, stdout_bytes=4 << 20
)


class Rejected(Exception):
    """This source gives no group. The text says why; what precedes its first colon is the kind."""


@dataclass(frozen=True)
class Clang:
    path: str
    version: str  # the first line of --version
    major: int


@functools.cache
def clang():
    """The Clang in use: 19 if it is there. Raises RuntimeError that says what to install."""
    newest_first = [f"clang-{major}" for major in range(30, 13, -1)]
    for name in ["clang-19", "clang", *newest_first]:
        path = f"/usr/bin/{name}"  # the sandbox shows no other folder
        if os.path.exists(path):
            version = subprocess.check_output([path, "--version"], text=True).split("\n")[0]
            major = int(re.search(r"version (\d+)", version)[1])
            return Clang(path, version, major)
    raise RuntimeError(
        "no clang in /usr/bin: apt-get install clang-19 (or clang: rows record the version)"
    )


def winners(source, levels):
    """{level: normalised IR} of a C source. source: str. levels: list of str. Raises Rejected."""
    return dict(zip(levels, map(normalise, emit_ir(source, levels))))


def emit_ir(source, levels):
    """What clang prints at each level. One boxed process compiles them all, about 30 ms per level.

    source: str, C. levels: list of str, of LEVELS or ORACLE. -> list of str, IR.
    Raises Rejected if the source does not compile, defines no function, or is too long."""
    if re.search("[\ud800-\udfff]", source):  # read_sources leaves these for bytes not UTF-8
        raise Rejected("not UTF-8")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise Rejected(f"over {MAX_SOURCE_BYTES >> 10} KB")
    options = "-S -emit-llvm -fno-discard-value-names -w -ferror-limit=1"
    command = f"{clang().path} {options} $f source.c -o -"
    script = f'for f; do echo "==== $f"; {command} || exit; done'
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        Path(box, "source.c").write_bytes(source.encode())
        argv = ["/bin/sh", "-c", script, "sh", *map(flags, levels)]
        result = sandbox.run(argv, box, COMPILER_LIMITS)
    if result.status != "OK":
        error = re.search(r"^.*error: .*$", result.stderr.decode(errors="replace"), re.M)
        why = error[0] if error else f"clang ended with {result.status}"
        raise Rejected(f"does not compile: {why}")
    output = result.stdout.decode(errors="replace")
    texts = re.split(r"^==== .*\n", output, flags=re.M)[1:]
    if not all(re.search("^define ", text, re.M) for text in texts):
        raise Rejected("no function")
    return texts


def flags(level):
    """Clang's flags for a level. level: str -> str.

    The oracle traps on undefined behaviour; its -g tells drive.entry the types."""
    if level == ORACLE:
        return "-O0 -g -fsanitize=undefined -fsanitize-trap=undefined"
    return f"-{level} -Xclang -disable-O0-optnone"


# ---------------------------------------------------------------------------------- normalised text

COMMENT = re.compile(r'^((?:[^";]|"[^"]*")*);.*')
NO_BEHAVIOUR = re.compile(
    r"source_filename|target |attributes |!|.*@llvm\.(lifetime|dbg)\.| +#dbg_"
)
METADATA = re.compile(r",? ![\w.]+(?: !\d+)?| #\d+")
# To the optimiser or the linker: the code means the same without them.
PROMISES = re.compile(
    r"(?<![\w.%@])(?:noundef|dso_local|(?:local_)?unnamed_addr|tail(?= call)|nonnull|nocapture|"
    r"readonly|readnone|writeonly|returned|range\([^()]*\)|dereferenceable\(\d+\))(?![\w.:]) ?"
)
ALIGNED = re.compile(r"(  (?:%\S+ = )?(?:alloca|load|store) (\w+)\b.*), align (\d+)$")
NATURAL_ALIGNMENT = {"i8": "1", "i16": "2", "i32": "4", "i64": "8", "ptr": "8"}  # bytes
LOCAL_NAME = re.compile(r"%([\w.$-]+)|^([\w.$-]+)(?=:$)", re.M)


def normalise(ir):
    """The same code in as little text as assembles. ir: str -> str.

    Comments, target, metadata, attributes, lifetime markers, natural alignments and promises to the
    optimiser go. What gives an instruction its meaning stays (nsw, nneg, signext of the ABI)."""
    lines = []
    for line in ir.split("\n"):
        line = COMMENT.sub(r"\1", line).rstrip()
        # From LLVM 18 on, intrinsics declare themselves.
        needless_declaration = re.match(r"declare .*@llvm\.", line) and clang().major >= 18
        if line and not needless_declaration and not NO_BEHAVIOUR.match(line):
            lines.append(normalised_line(line))
    return "\n".join(lines) + "\n"


def normalised_line(line):
    """line: str -> str, with everything removed that says nothing about behaviour."""
    code, quote, string = line.partition(' c"')  # the text of a string constant is not ours to edit
    code = PROMISES.sub("", METADATA.sub("", code))
    code = ALIGNED.sub(without_natural_alignment, code)
    string = re.sub(r", !dbg !\d+$", "", string)
    return code.rstrip() + quote + string


def without_natural_alignment(access):
    """The text of an access without its alignment if that is natural. access: re.Match -> str."""
    instruction, type, alignment = access.groups()
    natural = NATURAL_ALIGNMENT.get(type) == alignment
    return instruction if natural else access[0]


def canonical(ir):
    """`ir` with its locals and labels numbered as they appear: equal texts are the same code.

    ir: str -> str."""
    numbers = {}

    def numbered(name):
        return numbers.setdefault(name[1] or name[2], f"%{len(numbers)}")

    return LOCAL_NAME.sub(numbered, ir)
