"""Edits of C: what makes another program of a source, and so Y_l of Eq. 6 to 9.

    edits(source, rng) -> [Edit, ...]
    applied(source, [edit]) -> another source

They are those of mutation testing: another comparison, operator or constant, operands the other way
round, a dropped statement. They are made in the text of the source. So the result is a source like
any other: it has IR at every level, and inputs on which it is defined or not. A coin decides which
of the two is the source of a group (ir.py). So an edit need not look natural: what it makes wins as
often as what it was made of.

Clang says whether an edit compiles, compare.py whether it behaves differently. without_a_line is
for --loser drop.

Left out: edits of strings, of lines of the preprocessor, and of several places.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter

# a match in a source -> what may stand in its place
Operator = Callable[[re.Match], Iterable[str]]


@dataclass(frozen=True)
class Edit:
    """Another text for a part of a source."""

    operator: str  # the name of an Operator
    start: int  # of the part, in characters
    end: int
    now: str

    def overlaps(self, other):
        """Whether it is of the same place as another Edit: bool."""
        return self.start < other.end and other.start < self.end


def edits(source, rng):
    """All edits of a source, in random order: list of Edit. source: str, C. rng: random.Random.

    Operators take turns, so that none with many edits crowds out the others."""
    code = NOISE.sub(blank, source)  # as long as the source
    queues = []
    for operator, pattern in OPERATORS.items():
        possible = []
        for match in pattern.finditer(code):
            for now in operator(match):
                possible.append(Edit(operator.__name__, *match.span(), now))
        rng.shuffle(possible)
        queues.append(possible)
    rng.shuffle(queues)
    ordered = []
    while any(queues):
        for queue in filter(None, queues):
            ordered.append(queue.pop())
    return ordered


def applied(source, chosen):
    """The source (str) after some edits. chosen: list of Edit, no two of them of one place."""
    for edit in sorted(chosen, key=attrgetter("start"), reverse=True):
        source = source[: edit.start] + edit.now + source[edit.end :]
    return source


# ---------------------------------------------------------------------------------- operators

# Comments, strings, characters such as '"', and lines of the preprocessor with what continues them.
NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\\w])'|^[ \t]*#(?:\\\n|[^\n])*""",
    re.M | re.S,
)
# What may stand for one another.
PAIRS = """< <=  > >=  == !=  + -  * +  / %  && ||  & |  ^ |  << >>
           += -=  *= +=  /= %=  &= |=  ^= |=  <<= >>="""


def blank(match):
    """Spaces in the place of a match (re.Match): str."""
    return re.sub(r"[^\n]", " ", match[0])


def partners(pairs):
    """{word: list of what may stand for it}. pairs: str, two words each. -> dict."""
    words = pairs.split()
    result = {}
    for one, other in zip(words[::2], words[1::2]):
        result.setdefault(one, []).append(other)
        result.setdefault(other, []).append(one)
    return result


OTHERS = partners(PAIRS)


def between_operands(signs):
    """A pattern of signs with an operand and as much space on both sides. -> re.Pattern.

    signs: str, a pattern. "a *p" and "a-- > b" are no products and no differences."""
    return re.compile(rf"(?<=[\w)\]])(?:{signs})(?=[\w(!~.'])|(?<=[\w)\]]\s)(?:{signs})(?=\s)")


def comparison(match):
    """An Operator: < -> <="""
    return OTHERS[match[0]]


def operator(match):
    """An Operator: + -> -, += -> -="""
    return OTHERS[match[0]]


def constant(match):
    """An Operator: 7 -> 8, 7 -> 6, 'a' -> 'b'"""
    word = match[0]
    if match["character"]:
        neighbours = [chr(ord(word) + 1), chr(ord(word) - 1)]
        return [other for other in neighbours if other.isalnum()]
    value = float(word) if "." in word else int(word, 0)
    neighbours = [value + 1, value - 1]
    written = hex if word.lower().startswith("0x") else str
    return [written(other) for other in neighbours if other >= 0]


def swap_operands(match):
    """An Operator: a - b -> b - a"""
    if match["left"] != match["right"]:
        yield match["right"] + match["sign"] + match["left"]


def drop_statement(_):
    """An Operator: drops an assignment or a call"""
    return [""]


OPERATORS = {
    comparison: between_operands("[<>=!]=|<(?!<)|>(?!>)"),
    operator: re.compile(
        between_operands(r"&&|\|\||<<|>>|[-+*/%&|^]").pattern
        + r"|(?<=[\w)\]\s])(?:<<|>>|[-+*/%&|^])=(?!=)"
    ),
    constant: re.compile(
        r"(?<=')(?P<character>[A-Za-z0-9])(?=')|"
        r"(?<![\w.'])(?:0[xX][\da-fA-F]+|[1-9]\d*|0)(?:(?<!x)\.\d*)?(?=[uUlLfF]*(?![\w.]))"
    ),
    swap_operands: re.compile(
        r"(?<![\w.>])(?P<left>[A-Za-z_]\w*)(?P<sign> ?(?:<<|>>|[-/%]) ?)"
        r"(?P<right>[A-Za-z_]\w*)(?![\w(\[.]|->)"
    ),
    drop_statement: re.compile(
        r"(?<=[;{}])\s*(?!(?:for|return)\b)"
        r"(?:\**\w+(?:->\w+|\.\w+|\[[^][;{}]*\])*\s*(?:(?:<<|>>|[-+*/%&|^])?=(?!=)|\()[^;{}]*;)"
    ),
}


def without_a_line(ir):
    """All texts that lack one line of a body, as in the paper's Figure 2: list of str. ir: str."""
    lines = ir.split("\n")
    texts = []
    for place, line in enumerate(lines):
        if line.startswith("  "):
            texts.append("\n".join(lines[:place] + lines[place + 1 :]))
    return texts
