"""Edits of winners: what may become Y_l of Eq. 6 to 9.

    mutants({"O3": IR, "Oz": IR}, OPERATORS, 12, rng) -> [Mutant, ...]

An operator takes one line of a winner and yields what may stand in its place; None takes the line
out. Most edits leave IR that assembles. Whether a mutant behaves differently, compare.py finds out.

Left out: edits of addresses (a wrong index reads whatever lies beside the table, so that chance
would decide), edits of several lines, and edits after which a phi lacks a predecessor.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llvm.compile import canonical

# line -> what may stand in its place; None: the line goes
Operator = Callable[[str], Iterable[str | None]]


@dataclass
class Mutant:
    """A winner with one line edited, and what running it showed."""

    operator: Operator
    level: str  # of the winner
    line: int  # from 1
    was: str
    now: str | None  # None: the line is gone
    ir: str = ""  # set when the edit is made
    behaviour: str = ""  # differs, traps, equivalent, does-not-assemble, unverified; "": unknown
    distinguishing: int | None = None  # inputs on which it differs or traps; None: not run


def mutants(winners, operators, count, rng):
    """Up to `count` mutants of the winners, one edit each, no two of them the same code.

    winners: {level: IR}. operators: list of Operator. count: int. rng: random.Random.
    -> list of Mutant; none of them is a winner's own code.
    Operators and winners take turns, so that no operator with many edits crowds out the others."""
    queues = []
    for level, text in winners.items():
        for operator in operators:
            possible = possible_mutants(operator, level, text)
            queues.append(rng.sample(possible, len(possible)))
    rng.shuffle(queues)
    codes_of_winners = set(map(canonical, winners.values()))
    mutant_of_code = {}
    while len(mutant_of_code) < count:
        queues = [queue for queue in queues if queue]
        if not queues:
            break
        for queue in queues:
            mutant = queue.pop()
            mutant.ir = edited(winners[mutant.level], mutant)
            code = canonical(mutant.ir)
            if code not in codes_of_winners:
                mutant_of_code.setdefault(code, mutant)
    return list(mutant_of_code.values())[:count]


def possible_mutants(operator, level, text):
    """All mutants of one operator and one winner, their edits not made yet: list of Mutant.

    operator: Operator. level: str, the winner's. text: str, its IR."""
    possible = []
    for number, line in enumerate(text.split("\n"), 1):
        for replacement in operator(line):
            possible.append(Mutant(operator, level, number, line, replacement))
    return possible


def edited(text, mutant):
    """The IR (str) that a Mutant makes of `text`, the IR of its winner."""
    lines = text.split("\n")
    lines[mutant.line - 1 : mutant.line] = [] if mutant.now is None else [mutant.now]
    ir = "\n".join(lines)
    if mutant.operator is drop_instruction:
        operand = operand_of(mutant.was)
        if operand:
            result = re.escape(mutant.was.split()[0])
            ir = re.sub(result + r"(?![\w.$-])", lambda _: operand, ir)
    return ir


# ---------------------------------------------------------------------------------- operators

FLAGS = r"(?: nuw| nsw| exact| disjoint| nneg)*"
BINARY = re.compile(
    r"(?P<result>  %\S+ = )"
    r"(?P<opcode>f?add|f?sub|f?mul|[fsu]div|[su]rem|shl|[la]shr|and|or|xor)"
    rf"(?P<type>{FLAGS} (?:\w+|<[^>]*>) )"
    r"(?P<left>[^,<]+), (?P<right>[^,<]+)$"
)
COMMUTATIVE = ("add", "mul", "and", "or", "xor", "fadd", "fmul")
# A predicate is replaced by another one of its family.
PREDICATES = {
    "icmp": ["slt sle sgt sge", "ult ule ugt uge", "eq ne"],
    "fcmp": ["olt ole ogt oge oeq one", "ult ule ugt uge ueq une"],
}
OPCODES = dict(
    swap.split(">")
    for swap in (
        "add>sub sub>add mul>add "
        "sdiv>srem srem>sdiv udiv>urem urem>udiv "
        "shl>lshr lshr>shl ashr>shl "
        "and>or or>and xor>or "
        "zext>sext sext>zext "
        "fadd>fsub fsub>fadd fmul>fadd fdiv>fmul "
        "smax>smin smin>smax umax>umin umin>umax"
    ).split()
)
OPCODE = re.compile(rf"(?: = |@llvm\.)(?P<opcode>{'|'.join(OPCODES)})\b(?P<flags>{FLAGS})")
FIXED_CONSTANTS = re.compile(
    r'alloca|getelementptr|element|shufflevector|@llvm\.mem|^declare|^define| c"'
)
CONSTANT = re.compile(
    r'(?<![\w.%@"+-])(?<!align )'
    r"(?:(?P<integer>-?\d+)|(?P<float>-?\d+\.\d+e[+-]\d+)|true|false)"
    r'(?![\w.:"]| x )'
)


def predicate(line):
    """An Operator: icmp slt -> icmp sle"""
    comparison = re.match(r"(  %\S+ = ([if]cmp) )(\w+)( .*)", line)
    if not comparison:
        return
    before, instruction, old, after = comparison.groups()
    for family in PREDICATES[instruction]:
        names = family.split()
        if old in names:
            yield from (before + new + after for new in names if new != old)


def swap_operands(line):
    """An Operator: sub %a, %b -> sub %b, %a; select too"""
    binary = BINARY.match(line)
    select = re.fullmatch(r"(  %\S+ = select [^,]+, )([^,]+), ([^,]+)", line)
    if binary and binary["opcode"] not in COMMUTATIVE:
        before = line[: binary.start("left")]
        yield f"{before}{binary['right']}, {binary['left']}"
    elif select:
        yield f"{select[1]}{select[3]}, {select[2]}"


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
        yield line[: match.start("opcode")] + OPCODES[old] + flags + line[match.end() :]


def drop_instruction(line):
    """An Operator: drops a store, a call without a result, or what has an operand_of."""
    if re.match("  (?:store|call void) ", line) or operand_of(line):
        yield None


def operand_of(line):
    """What can stand for the result of an instruction: an operand of the same type, or None.

    line: str -> str or None. The operand dominates every use of the result, as the instruction
    did."""
    binary = BINARY.match(line)
    if binary:
        return binary["left"]
    select_or_minmax = re.match(
        r"  %\S+ = (?:select [^,]+, \w+|call i\d+ @llvm\.[su]m\w\w\.i\d+\(i\d+) ([^\s,]+), ", line
    )
    if select_or_minmax:
        return select_or_minmax[1]
    return "true" if re.match(r"  %\S+ = icmp \w+ i", line) else None


def swap_branch(line):
    """An Operator: br %c, %x, %y -> br %c, %y, %x

    No block loses a predecessor, so every phi stays right."""
    branch = re.match(r"(  br i1 .*, )(label \S+), (label \S+)$", line)
    if branch:
        yield f"{branch[1]}{branch[3]}, {branch[2]}"


def drop_line(line):
    """An Operator: drops any line of a body, as in the paper's Figure 2

    It is not one of OPERATORS, because nothing stands in for the result of the dropped line."""
    if line.startswith("  "):
        yield None


OPERATORS = [predicate, swap_operands, constant, opcode, drop_instruction, swap_branch]
