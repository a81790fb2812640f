"""Edits of IR: what may become Y_l of Eq. 6 to 9.

    mutants({"O3": IR, "Oz": IR}, OPERATORS, 12, rng) -> [Mutant, ...]

An operator takes one line of an IR and yields what may stand in its place; None takes the line out.
Most edits leave IR that assembles. ir.py edits the IR that the optimiser is given, and runs the
optimiser over the edits, so that it cleans up after them as after what people write. Whether a
mutant behaves differently, compare.py finds out; what still tells a loser, audit.py.

Every edit has its reverse, and an edit from what C programs often say to what they seldom say is
made as much less often as that is rarer (odds). So a loser should read like other people's code as
often as a winner does: "< 10" becomes "< 9" as seldom as "< 9" becomes "< 10". For the same reason
loops keep their steps and their direction, and nothing is dropped.

Left out: edits of addresses (a wrong index reads whatever lies beside the table, so that chance
would decide), edits of several lines, and edits after which a phi lacks a predecessor.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# line -> what may stand in its place; None: the line goes
Operator = Callable[[str], Iterable[str | None]]


@dataclass
class Mutant:
    """An IR with one line edited, and what running it showed."""

    operator: Operator
    level: str  # of the IR
    line: int  # of the IR before the edit, from 1
    was: str
    now: str | None  # None: the line is gone
    ir: str = ""  # set when the edit is made, and again when it is optimised
    behaviour: str = ""  # differs, traps, equivalent, does-not-assemble, unverified; "": unknown
    distinguishing: int | None = None  # inputs on which it differs or traps; None: not run
    longer: int = 0  # than its winner, in tokens


def mutants(programs, operators, count, rng):
    """Up to `count` mutants of the programs, one edit each, no two of them the same text.

    programs: {level: IR}. operators: list of Operator. count: int. rng: random.Random.
    -> list of Mutant; none of them is the text of a program.
    Operators and levels take turns, so that no operator with many edits crowds out the others."""
    queues = []
    for level, text in programs.items():
        for operator in operators:
            possible = possible_mutants(operator, level, text, rng)
            queues.append(rng.sample(possible, len(possible)))
    rng.shuffle(queues)
    mutant_of_text = {}
    while len(mutant_of_text) < count:
        queues = [queue for queue in queues if queue]
        if not queues:
            break
        for queue in queues:
            mutant = queue.pop()
            mutant.ir = edited(programs[mutant.level], mutant)
            mutant_of_text.setdefault(mutant.ir, mutant)
    return list(mutant_of_text.values())[:count]


def possible_mutants(operator, level, text, rng):
    """All mutants of one operator and one IR, their edits not made yet: list of Mutant.

    operator: Operator. level: str. text: str, the IR of this level. rng: random.Random."""
    possible = []
    for number, line in enumerate(text.split("\n"), 1):
        if not EDITABLE.match(line):
            continue
        for replacement in operator(line):
            if rng.random() < odds(line, replacement):
                possible.append(Mutant(operator, level, number, line, replacement))
    return possible


def odds(was, now):
    """How often an edit is made, of the times that it could be: float. was: str. now: str or None.

    The smaller one of the two directions is taken as often as the larger one (Metropolis)."""
    return 1.0 if now is None else commonness(now) / commonness(was)


def commonness(line):
    """How often C programs say what a line says, in comparison with its edits: float."""
    product = 1.0
    for word in re.findall(r"-?[\w.+-]+", line):
        product *= COMMON.get(word) or commonness_of_number(word)
    return product


def commonness_of_number(word):
    """As commonness. word: str; a word that is no number counts 1."""
    if not re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?", word):
        return 1.0
    value = float(word)
    size = abs(value)
    common = MOST_COMMON.get(size, 0.4 * (1 + size) ** -0.75)
    if size > 9:
        common *= 3 if size in ROUND else 1 / 4
    if value < 0 or value % 1:
        common /= 10
    return common


def edited(text, mutant):
    """The IR (str) that a Mutant makes of `text`, the IR of its level."""
    lines = text.split("\n")
    lines[mutant.line - 1 : mutant.line] = [] if mutant.now is None else [mutant.now]
    return "\n".join(lines)


# ---------------------------------------------------------------------------------- operators

# A line of a body or a constant; the scope of a local tells the optimiser alone.
EDITABLE = re.compile(r"(  (?!%(?:inc|dec))|@)(?!.*@llvm\.lifetime)")
FLAGS = r"(?: nuw| nsw| exact| disjoint| nneg)*"
BINARY = re.compile(
    r"(?P<result>  %\S+ = )"
    r"(?P<opcode>f?add|f?sub|f?mul|[fsu]div|[su]rem|shl|[la]shr|and|or|xor)"
    rf"(?P<type>{FLAGS} (?:\w+|<[^>]*>) )"
    r"(?P<left>[^,<]+), (?P<right>[^,<]+)$"
)
COMMUTATIVE = ("add", "mul", "and", "or", "xor", "fadd", "fmul")
# What may stand for one another: a predicate that is as strict or less, an opcode.
PREDICATES = "slt sle|sgt sge|ult ule|ugt uge|eq ne|olt ole|ogt oge|oeq une"
OPCODES = "add sub|add mul|sdiv srem|udiv urem|shl lshr|shl ashr|and or|or xor|fadd fsub|fmul fdiv"
# How often IR of 210 C functions and programs (toy/corpus) has them, and rough figures for numbers.
COMMON = {
    word: float(count)
    for word, count in re.findall(
        r"(\w+) (\d+)",
        "slt 211 ne 177 eq 123 sgt 76 sge 49 sle 48 ult 10 ule 10 ugt 8 uge 4 "
        "add 273 sub 165 mul 132 srem 80 urem 75 and 65 lshr 32 shl 30 sdiv 30 or 29 udiv 27 "
        "xor 25 ashr 12 fdiv 8 fmul 20 fsub 20 fadd 20",
    )
}
MOST_COMMON = {0: 1.0, 1: 0.35, 2: 0.2}
ROUND = {10, 12, 15, 16, 20, 24, 26, 31, 32, 48, 50, 60, 63, 64, 65, 97, 100, 127, 128, 255}
ROUND |= {256, 1000}


def partners(table):
    """{word: what may stand for it}. table: str, pairs with | between them. -> dict."""
    result = {}
    for pair in table.split("|"):
        one, other = pair.split()
        result.setdefault(one, []).append(other)
        result.setdefault(other, []).append(one)
    return result


OTHER_PREDICATES = partners(PREDICATES)
OTHER_OPCODES = partners(OPCODES)
OPCODE = re.compile(rf" = (?P<opcode>{'|'.join(OTHER_OPCODES)})\b(?P<flags>{FLAGS})")
FIXED_CONSTANTS = re.compile(
    r'alloca|getelementptr|element|shufflevector|@llvm\.mem|^declare|^define| c"'
)
CONSTANT = re.compile(
    r'(?<![\w.%@"+!#-])(?<!align )'
    r"(?:(?P<integer>-?\d+)|(?P<float>-?\d+\.\d+e[+-]\d+)|true|false)"
    r'(?![\w.:"]| x )'
)


def predicate(line):
    """An Operator: icmp slt -> icmp sle"""
    comparison = re.match(r"(  %\S+ = [if]cmp )(\w+)( .*)", line)
    if comparison:
        before, old, after = comparison.groups()
        yield from (before + new + after for new in OTHER_PREDICATES.get(old, []))


def swap_operands(line):
    """An Operator: sub %a, %b -> sub %b, %a"""
    binary = BINARY.match(line)
    if not binary or binary["opcode"] in COMMUTATIVE:
        return
    left, right = binary["left"], binary["right"]
    if left.startswith("%") and right.startswith("%"):
        yield f"{line[: binary.start('left')]}{right}, {left}"


def constant(line):
    """An Operator: 7 -> 8, 7 -> 6, true -> false

    Constants of addresses, sizes and declarations are left alone."""
    if FIXED_CONSTANTS.search(line):
        return
    for match in CONSTANT.finditer(line):
        for new in neighbours(match):
            yield line[: match.start()] + new + line[match.end() :]


def neighbours(match):
    """What a match of CONSTANT (re.Match) may become: list of str."""
    if match["integer"]:
        value = int(match["integer"])
        return [str(value + 1), str(value - 1)]
    if match["float"]:
        value = float(match["float"])
        return [f"{value + 1:e}", f"{value - 1:e}"]
    return ["false" if match[0] == "true" else "true"]


def opcode(line):
    """An Operator: add -> sub"""
    match = OPCODE.search(line)
    if match:
        old = match["opcode"]
        # The flags of the other opcodes mean nothing to what replaces them.
        flags = match["flags"] if old in ("add", "sub", "mul") else ""
        for new in OTHER_OPCODES[old]:
            yield line[: match.start("opcode")] + new + flags + line[match.end() :]


def swap_branch(line):
    """An Operator: br %c, %x, %y -> br %c, %y, %x where both are arms of an if

    No block loses a predecessor, so every phi stays right."""
    branch = re.match(r"(  br i1 .*, )(label %(?:if|cond)\S+), (label %(?:if.else|cond)\S*)$", line)
    if branch:
        yield f"{branch[1]}{branch[3]}, {branch[2]}"


def drop_line(line):
    """An Operator: drops any line of a body, as in the paper's Figure 2

    It is not one of OPERATORS, because nothing stands in for the result of the dropped line."""
    if line.startswith("  "):
        yield None


OPERATORS = [predicate, swap_operands, constant, opcode, swap_branch]
