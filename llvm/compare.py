"""Whether LLVM IR behaves like a C source: both run on the same inputs, in the sandbox.

    compare_with_source(source, [IR, ...], rng) -> (inputs that decided, [Outcome or None, ...])

An input decides only where the source is defined and ends. Defined: UBSan does not trap,
AddressSanitizer and MemorySanitizer find nothing, and the result is the same under three fillings
of the stack, of the heap and of what surrounds a buffer, each with addresses of its own.
Ends: within a number of steps. Steps are basic blocks, counted by sanitizer coverage and not by a
clock, so that the answer depends on the texts, the seed and clang, never on the machine's load.

Left out: sources that drive.py cannot drive; they are rejected with a reason. Equivalence is
tested, not proved.
"""

import dataclasses
import functools
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from judge import sandbox
from llvm.compile import COMPILER_LIMITS, ORACLE, Rejected, clang, emit_ir, normalise
from llvm.drive import entry, entry_h, input_file, touches_memory
from llvm.inputs import input_pool

DRIVER = Path(__file__).with_name("driver.c")
SANITIZERS = ("address", "memory")  # of clang; without its runtime library a screen is not built
POOL = 768  # inputs offered
INPUTS = 96  # inputs that decide, at most
MIN_INPUTS = 8  # with fewer a source is rejected
STEPS = 20_000  # basic blocks in which a source must end


ASSEMBLE = (
    "-c -O0 -w -fverify-intermediate-code -fno-crash-diagnostics "
    "-fsanitize-coverage=trace-pc,no-prune"
)
ATTRIBUTES = '"frame-pointer"="all" sanitize_address sanitize_memory'


class Outcome(NamedTuple):
    """Counts of deciding inputs on which an IR differed from the source."""

    differed: int  # returned or left something else
    crashed: int
    endless: int  # ran on past its steps
    unstable: int  # its result depended on memory that was never written

    @property
    def distinguishing(self):
        """Inputs that prove a difference: int. Unstable results do not count."""
        return self.differed + self.crashed + self.endless


def compare_with_source(
    source,
    variants,
    rng,
    inputs=INPUTS,
    pool=POOL,
    excluded=(),
    cflags="",
    steps=STEPS,
    first=False,
):
    """Run source and variants on up to `inputs` of `pool` inputs, none of them among `excluded`.

    source: str, C. variants: list of str, IR. rng: random.Random. inputs, pool: int. excluded:
    inputs as offered_inputs returns them. cflags: str, of emit_ir. steps: int, in which the source
    must end. first: bool, whether to stop at the first input on which a variant differs.
    -> (int, how many inputs decided; list of the variants' Outcomes, None if one does not assemble)
    Raises Rejected if the source cannot be driven, or, where none are excluded, is hardly ever
    defined and ending, or does the same on all inputs."""
    oracle = emit_oracle(source, cflags)
    called = entry(oracle)
    if any(map(touches_memory, variants)):  # of an edited source, the variant may be what prints
        called = dataclasses.replace(called, touches_memory=True)
    excluded = set(excluded)
    offered = [x for x in input_pool(called, source, rng, pool) if x not in excluded]
    if excluded and not offered:
        return 0, []  # all that there are have been tried
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        header = entry_h(called, 1 + len(variants), len(offered), inputs, steps, first)
        Path(box, "entry.h").write_text(header)
        Path(box, "driver.c").write_bytes(DRIVER.read_bytes())
        Path(box, "inputs").write_bytes(input_file(called, offered))
        then = f"{clang().path} -w driver.c *.o -o driver -lm"
        if called.touches_memory:
            then += f" && {build_screens()}"
        # MemorySanitizer looks at every argument that is promised to be defined.
        built = assemble([normalise(oracle, keep="noundef"), *variants], box, then)
        if built.status != "OK":
            error = built.stderr.decode(errors="replace")[:200]
            raise Rejected(f"its driver does not build: {built.status} {error!r}")
        different, decided, lines = run_defined(box, inputs, driver_limits(steps))
    if len(decided) < max(1, min(MIN_INPUTS, len(offered))) and not excluded:
        raise Rejected(
            f"hardly ever defined and ending: on {len(decided)} of {len(offered)} inputs"
        )
    if different < 2 <= len(decided) and not excluded:
        raise Rejected(f"does the same on all {len(decided)} inputs: they tell nothing apart")
    outcomes = []
    for line in lines:
        outcomes.append(None if line == "absent" else Outcome(*map(int, line.split())))
    return len(decided), outcomes


@functools.lru_cache(maxsize=64)
def emit_oracle(source, cflags):
    """The IR (str) of the source that texts are compared with. source, cflags: str."""
    return emit_ir(source, [ORACLE], cflags)[0]


def check_driven(source, cflags=""):
    """Raises Rejected if the source cannot be driven. source: str, C. cflags: str. -> None."""
    entry(emit_oracle(source, cflags))


def driver_limits(steps):
    """sandbox.Limits of a driver. steps: int, in which a source must end."""
    cpu_s = 40 + (steps - STEPS) // 10_000
    return sandbox.Limits(cpu_s, wall_s=3 * cpu_s, memory_bytes=512 << 20, processes=8)


def run_defined(box, inputs, limits):
    """Runs the driver on the first inputs that decide and to which no sanitizer objects.

    box: str or Path, the folder of the driver. inputs: int, that decide. limits: sandbox.Limits.
    -> (int, how many outcomes the source has; list of str, the numbers of the inputs that decided;
    list of str, a line for each variant)."""
    screened, undefined = set(), set()
    wanted = inputs
    while True:
        _, candidates, _ = run_driver(box, limits, str(wanted))
        new = [number for number in candidates if number not in screened]
        found = undefined_inputs(box, new, limits)
        if not found:
            return run_driver(box, limits)
        screened.update(new)
        undefined.update(found)
        Path(box, "undefined").write_text("\n".join(undefined))
        wanted *= 2  # or a source that is hardly ever defined would take hundreds of rounds


def run_driver(box, limits, *arguments):
    """-> what it prints, as run_defined returns it. box, limits: as there. arguments: str."""
    ran = sandbox.run(["./driver", *arguments], box, limits)
    if ran.status != "OK":
        raise Rejected(f"its driver ends with {ran.status}")
    first, *lines = ran.stdout.decode().splitlines()
    different, *decided = first.split()
    return int(different), decided, lines


def undefined_inputs(box, numbers, limits):
    """Those of the numbers of inputs on which a sanitizer finds the source undefined: set of str.

    box: str or Path, the folder of the driver. numbers: list of str. limits: sandbox.Limits."""
    found = set()
    # Sanitizers reserve more addresses than they use memory.
    limits = dataclasses.replace(limits, address_space=False)
    for sanitizer in SANITIZERS:
        left = [number for number in numbers if number not in found]
        if left and Path(box, sanitizer).exists():
            Path(box, "screened").write_text("\n".join(left))
            ran = sandbox.run([f"./{sanitizer}"], box, limits)
            if ran.status != "OK":
                raise Rejected(f"under the {sanitizer} sanitizer its driver ends with {ran.status}")
            found.update(ran.stdout.decode().split())
    return found


def build_screens():
    """The shell command, a str, that builds driver.c and v0.ll with each of SANITIZERS."""
    c = clang().path
    return (
        f"for s in {' '.join(SANITIZERS)}; do {c} {ASSEMBLE} -fsanitize=$s v0.ll -o $s.o && "
        f"{c} -w -fsanitize=$s -DSCREEN driver.c $s.o -o $s -lm; done 2>/dev/null; true"
    )


def offered_inputs(source, rng, cflags=""):
    """The inputs that compare_with_source offers by default, given an rng in the same state.

    source: str, C. rng: random.Random. cflags: str. -> list of inputs, as input_pool returns
    them."""
    called = entry(emit_oracle(source, cflags))
    return input_pool(called, source, rng, POOL)


def which_assemble(texts):
    """texts: list of str, IR. -> list of bool, whether each assembles."""
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        objects = assemble(texts, box, "echo *.o").stdout.decode().split()
    return ["all.o" in objects or f"v{k}.o" in objects for k in range(len(texts))]


def assemble(texts, box, then):
    """Assemble texts[k] to vK.o in the folder `box`, then run the shell command `then` there.

    If all texts are valid they become one all.o instead, which is faster.
    texts: list of str, IR. box: str or Path. then: str. -> sandbox.Result of the shell.
    Raises SandboxError if the disk is full: what is not there may be valid."""
    modules = {f"v{k}": with_prefix(text, f"v{k}") for k, text in enumerate(texts)}
    modules["all"] = joined(modules.values())
    for name, text in modules.items():
        Path(box, f"{name}.ll").write_text(text)
    build = f"{clang().path} {ASSEMBLE} 2>/dev/null"
    script = f"{build} all.ll || for f in v*.ll; do {build} $f; done; {then}"
    result = sandbox.run(["/bin/sh", "-c", script], box, COMPILER_LIMITS, writable=True)
    sandbox.check_disk()
    return result


def with_prefix(ir, prefix):
    """`ir` with the prefix before every name that it defines, so that many texts fit in one module.

    ir, prefix: str -> str.
    Functions may be built with a sanitizer. They get frame pointers: without them the smallest
    frame is made by pushing a register, which hides what smear() of driver.c left there."""
    names = re.findall(r"^(?:define [^@]*)?@([\w.$]+)(?:\(| = (?!external))", ir, re.M)
    own_name = rf"@({'|'.join(map(re.escape, names))})(?![\w.$-])"
    ir = re.sub(own_name, rf"@{prefix}.\1", ir)
    return re.sub(r"^(define .*) \{$", rf"\1 {ATTRIBUTES} {{", ir, flags=re.M)


def joined(texts):
    """One module of all texts. What several of them declare alike may stand in it only once.

    texts: str, IR, any number. -> str."""
    declarations, code = {}, []  # a dict, because it keeps the order
    for line in "\n".join(texts).split("\n"):
        if re.match(r"declare .*@|@\S+ = external |%\S+ = type ", line):
            declarations[line] = None
        else:
            code.append(line)
    return "\n".join([*declarations, *code])
