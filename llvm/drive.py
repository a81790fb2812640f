"""How C code is driven: which function of a source is called, with what, and the C text (entry.h) that ir_driver.c needs for it.

A function takes numbers, and pointers to buffers of 32 numbers or to a string; what it returns and what it leaves in them
is its behaviour. A whole program reads stdin; what it prints and its exit code is its behaviour.
Left out: pointers to structs and to pointers, structs by value, files, state between calls: rejected by name.
"""

import random
import re
import string
from dataclasses import dataclass


class Rejected(Exception):
    """This source gives no group. The text says why; what comes before its first colon is the kind."""


BITS = {
    "_Bool": 1,
    "bool": 1,
    "char": 8,
    "signed char": 8,
    "unsigned char": 8,
    "short": 16,
    "unsigned short": 16,
    "int": 32,
    "unsigned int": 32,
    "long": 64,
    "unsigned long": 64,
    "long long": 64,
    "unsigned long long": 64,
}
FLOATS = "float", "double"
PURE = set(
    "abs labs llabs atoi atol strtol qsort malloc calloc realloc free strlen strcmp strncmp strcpy strncpy strcat strncat strchr "
    "strrchr strstr strspn strcspn memcpy memmove memset memcmp memchr tolower toupper isalpha isdigit isalnum isspace isupper "
    "islower ispunct isxdigit __ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc sqrt sqrtf fabs fabsf floor ceil fmod".split()
)
STDIO = set(
    "printf puts putchar putc fputc fputs fprintf sprintf snprintf fflush getchar getc fgetc ungetc fgets getline scanf sscanf "
    "__isoc99_scanf __isoc99_sscanf __isoc23_scanf __isoc23_sscanf exit".split()
)
LENGTHS = {
    "n",
    "len",
    "length",
    "size",
    "count",
    "cap",
}  # of a buffer, when they are parameters beside one
ELEMENTS = 32  # of a buffer


@dataclass(frozen=True)
class Parameter:
    type: str  # in C, of the element if it is a buffer
    buffer: bool
    length: bool  # how many elements: 0 to ELEMENTS / 2


@dataclass(frozen=True)
class Entry:
    name: str
    returns: str  # in C
    parameters: list[Parameter]
    program: bool = False


def entry(oracle: str) -> Entry:
    """The one function to drive, from IR with debug information. Raises Rejected by name."""
    heads = {
        m[2]: m
        for m in re.finditer(r"^define (.*)@([\w.$]+)\((.*)\)[^()]*!dbg (!\d+).*\{$", oracle, re.M)
    }
    called = {
        name
        for name in heads
        for other, m in heads.items()
        if other != name
        and re.search(rf"@{re.escape(name)}\b", oracle[m.end() : oracle.index("\n}", m.end())])
    }
    entries = [name for name, m in heads.items() if "internal" not in m[1] and name not in called]
    if "main" in heads:
        entries = ["main"]
    if len(entries) != 1:
        raise Rejected(
            f"no clear entry: {', '.join(entries) or 'every function is static or called'}"
        )
    program = entries == ["main"]
    calls = [
        name
        for name in re.findall(r"^declare .*@(?!llvm\.)([\w.$]+)", oracle, re.M)
        if name not in PURE and not (program and name in STDIO)
    ]
    for what, found in (
        ("inline", re.findall(r"\bcall .*\b(asm) ", oracle)),
        ("calls", calls),
        ("global variable", re.findall(r"^@(\S+) = .*\bglobal ", oracle, re.M) * (not program)),
    ):
        if found:
            raise Rejected(f"{what} {found[0]}")
    if program:
        return Entry("main", "int", [], program=True)
    nodes = dict(re.findall(r"^(!\d+) = (?:distinct )?(.*)$", oracle, re.M))
    head = heads[entries[0]]
    types = re.search(r"types: (!\d+)", nodes[re.search(r"type: (!\d+)", nodes[head[4]])[1]])[1]
    returns, *types = (
        spelled(reference, nodes) for reference in re.findall(r"!\d+|null", nodes[types])
    )
    names = re.findall(r"%([\w.]+)(?:,|$)", head[3])
    parameters = []
    for k, type in enumerate(types):
        element = type.removesuffix(" *")
        if element not in BITS and element not in FLOATS:
            raise Rejected(f"parameter type {type}")
        after = k > 0 and parameters[-1].buffer
        length = (
            element == type
            and type not in FLOATS
            and "*" in "".join(types)
            and (names[k] in LENGTHS or after)
        )
        parameters.append(Parameter(element, element != type, length))
    if returns.removesuffix(" *") not in (*BITS, *FLOATS, "void"):
        raise Rejected(f"return type {returns}")
    if returns == "void" and not any(parameter.buffer for parameter in parameters):
        raise Rejected("nothing to compare: returns void and has no buffer")
    return Entry(entries[0], returns, parameters)


def spelled(reference: str, nodes: dict[str, str]) -> str:
    """The C type behind a node of LLVM's debug information, without typedefs, enums and qualifiers."""
    node = nodes.get(reference, "")  # null: void
    name, base = (re.search(pattern, node) for pattern in (r'name: "([^"]*)"', r"baseType: (!\d+)"))
    inner = spelled(base[1], nodes) if base else "void"
    if node.startswith("!DIBasicType"):
        return name[1]
    if "DW_TAG_pointer" in node:
        return inner + ("*" if inner.endswith("*") else " *")
    if kind := re.match(
        r"!DI(Subroutine|Composite)Type\((?!tag: DW_TAG_enum)(?:tag: DW_TAG_(\w+?)_?(?:type)?,)?",
        node,
    ):
        return (
            "function"
            if kind[1] == "Subroutine"
            else f"{kind[2].replace('structure', 'struct')} {name[1] if name else ''}".strip()
        )
    return inner


def input_pool(called: Entry, source: str, rng: random.Random, count: int) -> list:
    """Up to `count` different inputs. Of a function: tuples of its numbers, those of its buffers in their place: corners, the
    neighbourhood of the source's constants (where a loosened comparison shows), small, middling and any numbers,
    wrapped to each parameter's bits; strings end with 0. Of a program: the bytes of its stdin."""
    literals = sorted(
        {int(text) for text in re.findall(r"(?<![\w.])(\d{1,18})[uUlL]*(?![\w.])", source)}
    ) or [0]
    kinds = [
        lambda w: rng.choice(
            [0, 1, -1, 2, -2, 3, 10, -1 << w - 1, (-1 << w - 1) + 1, (1 << w - 1) - 1]
        ),
        lambda w: rng.choice([1, 1, -1]) * rng.choice(literals) + rng.choice([-1, 0, 1]),
        lambda w: rng.randint(-20, 20),
        lambda w: rng.randint(-20, 20),
        lambda w: rng.randint(-1000, 1000),
        lambda w: rng.choice([1, -1]) * rng.getrandbits(rng.randint(1, w)),
    ]
    own = (
        "".join(
            c
            for pair in re.findall(r"'([^'\\\n])'|\"([^\"\\\n]*)\"", source)
            for c in "".join(pair)
            if c.isprintable()
        )
        or "a"
    )
    alphabets = [
        own,
        own,
        string.digits,
        string.ascii_lowercase[:4],
        string.ascii_letters + "   ",
        string.digits + "+-*/() ",
        string.printable[:95],
    ]

    def text(longest):
        alphabet = rng.choice(alphabets)
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, longest)))

    def values(parameter, kind):
        if parameter.length:
            return [rng.randint(0, ELEMENTS // 2)]
        if parameter.type == "char" and parameter.buffer:
            return [*map(ord, text(ELEMENTS - 1).ljust(ELEMENTS, "\0"))]
        if parameter.type in FLOATS:
            scale = rng.choice([1.0, 0.5, 0.1, 0.01])
            made = [
                rng.choice([kind, *kinds[2:5]])(16) * scale
                for _ in range(ELEMENTS if parameter.buffer else 1)
            ]
            return made[:-1] + [0.0] if parameter.buffer else made
        w = BITS[parameter.type]
        if (
            parameter.buffer
        ):  # alike in size, and mostly small: many programs add or index with them
            kind = rng.choice(
                [
                    kinds[2],
                    kinds[4],
                    lambda w: rng.randint(0, 9),
                    lambda w: rng.randint(0, ELEMENTS - 1),
                    kind,
                ]
            )
            made = [kind(w) for _ in range(ELEMENTS - 1)] + [0]
        else:
            made = [rng.choice([kind, kind, *kinds])(w)]
        return [(v + (1 << w - 1)) % (1 << w) - (1 << w - 1) for v in made]

    def stdin():
        if rng.random() < (0.8 if re.search(r"%l*[dufxi]|atoi|strtol", source) else 0.2):
            kind = rng.choice([*kinds[1:5], lambda w: rng.randint(0, 9)])
            numbers = [kind(32) for _ in range(rng.randint(0, 12))]
            return (
                rng.choice([" ", "\n"]).join(map(str, [len(numbers)] * rng.randint(0, 1) + numbers))
                + "\n"
            )
        return "".join(text(30) + rng.choice(["\n", "\n", " "]) for _ in range(rng.randint(0, 5)))

    pool = {}
    for number in range(8 * count):
        kind = kinds[number % len(kinds)]
        pool[
            stdin()
            if called.program
            else tuple(v for p in called.parameters for v in values(p, kind))
        ] = None
    return list(pool)[:count]  # in order of appearance: the first of them are a mixture


def entry_h(called: Entry, variants: int, pool: int, inputs: int) -> str:
    """What ir_driver.c includes: its sizes, the functions under test, how their buffers are filled and judged."""
    spell = lambda p: p.type + " *" * p.buffer
    fill, arguments, floats, mixed, buffers = [], [], [], [], 0
    for p in called.parameters:
        at, member = len(floats), "d" if p.type in FLOATS else "i"
        floats += [int(member == "d")] * (ELEMENTS if p.buffer else 1)
        if p.buffer:
            fill.append(
                f"for (int j = 0; j < ELEMENTS; j++) (({p.type} *)area[{buffers}].buffer)[j] = x[{at} + j].{member}"
            )
            mixed.append(f"MIX_BUFFER({buffers}, {p.type})")
        arguments.append(f"area[{buffers}].buffer" if p.buffer else f"x[{at}].{member}")
        buffers += p.buffer
    result, call = called.returns, f"table[k]({', '.join(arguments)})"
    if result.endswith("*"):  # which address is chance; where in a buffer is not
        result, call = (
            "long",
            f"char *p = (char *){call}; result = p >= (char *)area && p < (char *)(area + BUFFERS) ? p - (char *)area : !p - 2",
        )
    elif result != "void":
        call = f"result = {call}"
    macros = {
        "POOL": pool,
        "INPUTS": inputs,
        "ELEMENTS": ELEMENTS,
        "PROGRAM": int(called.program),
        "WIDTH": len(floats),
        "BUFFERS": buffers,
        "RESULT": "char" if result == "void" else result,
        "FILL": "; ".join(fill),
        "CALL": call,
        "DIGEST": "; ".join(["MIX(result)", *mixed]),
    }
    types = "int, char **" if called.program else ", ".join(map(spell, called.parameters)) or "void"
    functions = [
        f'{called.returns} v{k}({types}) __asm__("v{k}.{called.name}") __attribute__((weak));'
        for k in range(variants)
    ]
    return "\n".join(
        [
            *(f"#define {name} {value}" for name, value in macros.items()),
            *functions,
            f"static {called.returns} (*const table[])({types}) = {{{', '.join(f'v{k}' for k in range(variants))}}};",
            f"static const char is_float[] = {{{', '.join(map(str, floats)) or 0}}};",
            "",
        ]
    )
