"""What clang makes of a C source: IR at several levels, in as little text as assembles.

    winners(source, ["O3", "Oz"]) -> {"O3": IR, "Oz": IR}      candidates for Y_w of Eq. 6 to 9

In two steps, so that an edit can be made between them, and what is edited goes the same way as what
is not: unoptimised() is what the front end gives the optimiser of a level, optimised() runs the
level's pipeline over it. Clang runs in the sandbox. The result is normalised: all text that says
nothing about behaviour goes, and locals are numbered, so that two texts of the same code are equal.

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
CPP = "-x c++ -fno-exceptions -fno-rtti"  # cflags that take a source for C++
NO_FUSION = "-ffp-contract=off"  # or the levels would round differently
COMPILER_LIMITS = sandbox.Limits(
    cpu_s=20, wall_s=120, memory_bytes=2 << 30, processes=32, stdout_bytes=16 << 20
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


@functools.cache
def has_sanitizers():
    """Whether the libraries of AddressSanitizer and MemorySanitizer are installed: bool."""
    command = [clang().path, "-print-resource-dir"]
    folder = subprocess.check_output(command, text=True).strip()
    return any(Path(folder).glob("lib/*/libclang_rt.msan*.a"))


def winners(source, levels):
    """{level: normalised IR} of a C source. source: str. levels: list of str. Raises Rejected."""
    return dict(zip(levels, optimised(unoptimised(source, levels).items())))


def unoptimised(source, levels, cflags=""):
    """{level: IR}, what the optimiser of each level is given. source: str. levels: list of str.

    cflags: str, more flags of clang. Raises Rejected. The levels differ in what they ask of the
    optimiser, such as minsize."""
    return dict(zip(levels, emit_ir(source, levels, cflags)))


def optimised(programs):
    """The pipelines of their levels over some IRs. programs: pairs of (level, IR).

    -> list of str, normalised IR; None for what clang does not take. A level that is not one of
    LEVELS is the name of a table of SLTrans: Oz if it speaks of size, else O3."""
    programs = list(programs)
    command = f"{clang().path} -S -emit-llvm -w {NO_FUSION} -x ir -o - 2>/dev/null"
    lines = []
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        for number, (level, ir) in enumerate(programs):
            Path(box, f"{number}.ll").write_text(ir)
            lines.append(f'echo "==== {number}"; {command} -{pipeline(level)} {number}.ll')
        result = sandbox.run(["/bin/sh", "-c", "\n".join(lines)], box, COMPILER_LIMITS)
    texts = re.split(r"^==== .*\n", result.stdout.decode(errors="replace"), flags=re.M)[1:]
    if len(texts) < len(programs):
        raise Rejected(f"the optimiser ended with {result.status}")
    return [normalise(text) if "define " in text else None for text in texts]


def pipeline(level):
    """The one of LEVELS whose pipeline a level or a table of SLTrans stands for. -> str."""
    if level in LEVELS:
        return level
    return "Oz" if "size" in level.lower() else "O3"


def emit_ir(source, levels, cflags=""):
    """What clang prints at each level. One boxed process compiles them all, about 30 ms per level.

    source: str, C. levels: list of str, of LEVELS or ORACLE. cflags: str, more flags.
    -> list of str, IR.
    Raises Rejected if the source does not compile, defines no function, or is too long."""
    if re.search("[\ud800-\udfff]", source):  # read_sources leaves these for bytes not UTF-8
        raise Rejected("not UTF-8")
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise Rejected(f"over {MAX_SOURCE_BYTES >> 10} KB")
    if clock := re.search("__(DATE|TIME|TIMESTAMP)__", source):
        raise Rejected(f"uses {clock[0]}: it is another program each time")
    options = f"-S -emit-llvm -fno-discard-value-names -w -ferror-limit=1 {NO_FUSION} {cflags}"
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
    return f"-{level} -Xclang -disable-O0-optnone -Xclang -disable-llvm-passes"


# ---------------------------------------------------------------------------------- normalised text

COMMENT = re.compile(r'^((?:[^";]|"[^"]*")*);.*')
NO_BEHAVIOUR = re.compile(
    r"source_filename|target |attributes |!|\$|"
    r".*@llvm\.(lifetime|dbg|experimental\.noalias)\.| +#dbg_"
)
METADATA = re.compile(r",? ![\w.]+(?: !\d+)?| #\d+|,? comdat(?![\w.:])")
# To the optimiser or the linker: the code means the same without them.
PROMISES = re.compile(
    r"(?<![\w.%@])(?:noundef|dso_local|(?:local_)?unnamed_addr|tail(?= call)|nonnull|nocapture|"
    r"readonly|readnone|writeonly|returned|range\([^()]*\)|dereferenceable\(\d+\))(?![\w.:]) ?"
)
ALIGNED = re.compile(r"(  (?:%\S+ = )?(?:alloca|load|store) (\w+)\b.*), align (\d+)$")
NATURAL_ALIGNMENT = {"i8": "1", "i16": "2", "i32": "4", "i64": "8", "ptr": "8"}  # bytes
FUNCTION = re.compile(r"^(define .*\{\n)((?:.*\n)*?)(?=\}$)", re.M)
DEFINED = re.compile(r"^  %([\w.$-]+) = |^([\w.$-]+):$", re.M)  # an instruction or a label
TOKEN = re.compile(r"[%@\w.]+|[^\s\w]")
LOCAL_NAME = re.compile(r"%([\w.$-]+)|^([\w.$-]+)(?=:$)", re.M)


def normalise(ir, keep=None):
    """The same code in as little text as assembles. ir: str -> str. keep: a promise (str) to keep.

    Comments, target, metadata, attributes, lifetime markers, natural alignments and promises to the
    optimiser go. What gives an instruction its meaning stays (nsw, nneg, signext of the ABI).
    Locals are numbered: their names would tell what stood there before an edit."""
    lines = []
    for line in ir.split("\n"):
        line = COMMENT.sub(r"\1", line).rstrip()
        # From LLVM 18 on, intrinsics declare themselves.
        needless_declaration = re.match(r"declare .*@llvm\.", line) and clang().major >= 18
        if line and not needless_declaration and not NO_BEHAVIOUR.match(line):
            lines.append(normalised_line(line, keep))
    return numbered("\n".join(lines) + "\n")


def normalised_line(line, keep=None):
    """line: str -> str, with everything removed that says nothing about behaviour. As normalise."""
    code, quote, string = line.partition(' c"')  # the text of a string constant is not ours to edit
    code = METADATA.sub("", code)
    code = PROMISES.sub(lambda promise: promise[0] if promise[0].strip() == keep else "", code)
    code = ALIGNED.sub(without_natural_alignment, code)
    string = re.sub(r", !dbg !\d+$", "", string)
    return code.rstrip() + quote + string


def without_natural_alignment(access):
    """The text of an access without its alignment if that is natural. access: re.Match -> str."""
    instruction, type, alignment = access.groups()
    natural = NATURAL_ALIGNMENT.get(type) == alignment
    return instruction if natural else access[0]


def numbered(ir):
    """`ir` with the locals and labels of each function numbered as clang numbers nameless ones.

    ir: str -> str. That is in the order of their definitions. The label of the entry goes, but
    takes a number. Equal texts are the same code."""
    return FUNCTION.sub(numbered_function, ir)


def numbered_function(function):
    """function: a match of FUNCTION (re.Match) -> str, with its locals numbered."""
    header, body = function.groups()
    # A name of a type, as in byval(%struct.P), is followed by a bracket and not by what ends here.
    names = re.findall(r" %([\w.$-]+)(?=[,)])", header)
    entry = str(len(names))
    if label := re.match(r"([\w.$-]+):\n", body):
        entry = label[1]
        body = body[label.end() :]
    names.append(entry)
    names += [name[1] or name[2] for name in DEFINED.finditer(body)]
    numbers = {name: str(number) for number, name in enumerate(names)}

    def renamed(name):
        """A name that is not defined here is that of a type."""
        old = name[1] or name[2]
        return name[0].replace(old, numbers.get(old, old))

    return LOCAL_NAME.sub(renamed, header) + LOCAL_NAME.sub(renamed, body)


def length(ir):
    """Tokens of an IR, names, numbers and signs: int. ir: str."""
    return len(TOKEN.findall(ir))
