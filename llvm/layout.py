"""How the arguments of a function lie in memory: C code that builds and sees values of any type.

    layout = Layout(structs)
    layout.put("struct node *", "arg0", 3)     its numbers, its memory, the C that builds it
    layout.seer("struct node *")               a C function that sees such a value

An input is a list of numbers. A pointer to numbers becomes a buffer of ELEMENTS of them, a pointer
to pointers a table of ROWS, a pointer to a struct one struct or, by a number that is 0, none. A
struct is built to a depth of 3, so that a list has up to three nodes; what is deeper is null. A
callback is one of three (called_back in driver.c): it compares, subtracts or mixes its arguments.
What may be seen of a value are its numbers and what its pointers lead to (driver.c).

A union is built and seen as its first field.

Left out: bit-fields, callbacks that take or return structs, structs that the source only names, and
what would take more than MAX_NUMBERS.
"""

import re
from dataclasses import dataclass

from llvm.compile import Rejected
from llvm.debug_info import BITS, FLOATS, elements, is_number, pointee

ELEMENTS = 32  # of a buffer
ROWS = 8  # of a table of pointers, or of arrays
STRUCTS = 4  # where the function is told how many
DEPTHS = (3, 2, 1)  # of structs in structs; the first that is not too large
CALLBACKS = 3  # of a type, for one parameter
MAX_NUMBERS = 1024
MAX_AREAS = 64
# Parameters beside a buffer that tell how many elements of it to use.
LENGTH_NAMES = {"n", "len", "length", "size", "count", "cap"}


@dataclass(frozen=True)
class Numbers:
    """A run of numbers of an input."""

    type: str  # in C
    count: int = 1
    is_buffer: bool = False
    is_length: bool = False  # how many elements of a buffer to use: 0 to ELEMENTS / 2
    is_choice: bool = False  # 0 to 4; 0: the pointer is null

    @property
    def is_float(self):
        return self.type in FLOATS


class TooLarge(Exception):
    """With structs of this depth."""


class Layout:
    """structs, functions: as those of debug_info.Types."""

    def __init__(self, structs, functions):
        self.structs = structs
        self.functions = functions
        self.numbers = []  # list of Numbers, in the order of an input
        self.width = 0  # how many numbers they are
        self.fill = []  # C statements
        self.areas = []  # (type of an element, how many)
        self.seers = {}  # type -> (name, body) of a C function
        self.callbacks = {}  # type -> name of a C array of functions

    # ------------------------------------------------------------------------------ in

    def put(self, type, place, depth, is_length=False, structs=1):
        """Has a value filled from an input.

        type, place: str, its type and its C lvalue. depth: int, of structs that may follow.
        structs: int, where it points to structs."""
        base, count = elements(type)
        if is_number(type):
            self.take(Numbers(type, is_length=is_length), f"{place} = NUMBER")
        elif count != 1 and is_number(base):
            taken = Numbers(base, self.bounded(count, type), is_buffer=True)
            self.take(taken, f"for (int j = 0; j < {count}; j++) {place}[j] = NUMBER")
        elif count != 1:
            for number in range(self.bounded(count, type)):
                self.put(base, f"{place}[{number}]", depth)
        elif self.fields(type):
            lengths = length_places(self.fields(type))
            for number, (_, field) in enumerate(self.fields(type)):
                self.put(field, f"{place}.m{number}", depth, number in lengths)
        elif pointee(type):
            self.point(pointee(type), place, depth, structs, type.endswith("&"))
        else:
            raise Rejected(f"parameter type {type}: it cannot be built from numbers")

    def point(self, target, place, depth, structs, is_reference):
        """As put, for a pointer to `target`, a str. is_reference: bool, it is never null."""
        base, count = elements(target)
        if target in self.functions:
            callbacks = self.callback(target)
            self.take(
                Numbers("int", is_choice=True), f"{place} = {callbacks}[NUMBER % {CALLBACKS}]"
            )
            return
        if target == "void":
            base = "unsigned char"
        if is_number(base):
            total = ELEMENTS if count == 1 else ROWS * self.bounded(count, target)
            area = self.area(base, total)
            self.fill.append(f"{place} = {area}")
            to = f"(({base} *){area})[j] = NUMBER"
            taken = Numbers(base, total, is_buffer=True)
            self.take(taken, f"for (int j = 0; j < {total}; j++) {to}")
            return
        if pointee(target):
            inner = pointee(target)
            rows = ROWS if is_number(inner) else 1
            area = self.area(target, rows)
            for row in range(rows):
                self.put(target, f"((void **){area})[{row}]", depth)
            self.fill.append(f"{place} = {area}")
            return
        if not self.fields(target):
            raise Rejected(f"parameter type {target} *: it cannot be built from numbers")
        if not depth:
            self.fill.append(f"{place} = 0")
            return
        area = self.area(target, structs)
        if is_reference:
            self.fill.append(f"{place} = {area}")
        else:
            self.take(Numbers("int", is_choice=True), f"{place} = NUMBER ? {area} : 0")
        for number in range(structs):
            self.put(target, f"(({in_c(target)} *){area})[{number}]", depth - 1)

    def callback(self, type):
        """The name (str) of a C array of functions of a type."""
        returns, parameters = self.functions[type]
        values = list(parameters)
        if returns != "void":
            values.append(returns)
        for one in values:
            if not (is_number(one) or pointee(one)):
                raise Rejected(f"parameter type {type} *: no callback with {one} can be offered")
        return self.callbacks.setdefault(type, f"callbacks_{len(self.callbacks)}")

    def take(self, numbers, statement):
        """Adds numbers to the input. statement: str, C in which NUMBER is number j of the run."""
        index = str(self.width) if numbers.count == 1 else f"{self.width} + j"
        member = "d" if numbers.is_float else "i"
        self.fill.append(statement.replace("NUMBER", f"x[{index}].{member}"))
        self.numbers.append(numbers)
        self.width += numbers.count
        if self.width > MAX_NUMBERS:
            raise TooLarge

    def area(self, type, count):
        """C, a str: the address of new memory for `count` values of a type."""
        self.areas.append((type, count))
        if len(self.areas) > MAX_AREAS:
            raise TooLarge
        return f"at[{len(self.areas) - 1}]"

    def bounded(self, count, type):
        if not 0 < count <= MAX_NUMBERS:
            raise Rejected(f"parameter type {type}: too large an array")
        return count

    # ------------------------------------------------------------------------------ out

    def seer(self, type):
        """The name (str) of a C function that takes the address of a value and sees the value."""
        if type not in self.seers:
            name = f"see_{len(self.seers)}"
            self.seers[type] = (name, "")  # a struct may lead to itself
            self.seers[type] = (name, self.seeing(type))
        return self.seers[type][0]

    def seeing(self, type):
        """The body of seer's function: str."""
        base, count = elements(type)
        if is_number(type):
            return f"SEE(*({type} *)p)"
        if count > 0 and base != type:
            return f"see_all({self.seer(base)}, p, sizeof({in_c(base)}), {count})"
        if pointee(type):
            target, count = elements(pointee(type))
            if target in self.functions:
                return "see_pointer(p, 0, 0)"  # not the code that is there
            if self.can_be_seen(target):
                return f"see_pointer(p, sizeof({in_c(target)}), {self.seer(target)})"
            return "see_pointer(p, 1, 0)"
        calls = []
        for number, (_, field) in enumerate(self.fields(type)):
            calls.append(f"{self.seer(field)}(&(({in_c(type)} *)p)->m{number})")
        return "; ".join(calls)

    def can_be_seen(self, type):
        """Whether a value of a type holds nothing but numbers and pointers: bool."""
        base, count = elements(type)
        if count < 1:
            return False
        if is_number(base) or pointee(base):
            return True
        fields = self.fields(base)
        return bool(fields) and all(self.can_be_seen(field) for _, field in fields)

    def fields(self, type):
        """Those of a struct; the first one of a union; none of libc's own. -> list."""
        if type not in self.structs or "_IO_" in type:
            return []
        fields = self.structs[type].fields
        return fields[:1] if type.startswith("union ") else fields

    # ------------------------------------------------------------------------------ C text

    def definitions(self):
        """C text, a str: the structs, the callbacks, and the functions that see."""
        lines = {}
        for type in self.structs:
            self.define(type, lines)
        text = list(lines.values())
        for type, name in self.callbacks.items():
            text += self.callback_definitions(type, name)
        seers = self.seers.values()
        text += [f"static void {name}(void *p);" for name, _ in seers]
        text += [f"static void {name}(void *p) {{ {body}; }}" for name, body in seers]
        return "\n".join(text)

    def callback_definitions(self, type, name):
        """As definitions, of an array `name` of functions: list of str."""
        returns, types = self.functions[type]
        declared = ", ".join(f"{in_c(one)} a{place}" for place, one in enumerate(types)) or "void"
        numbers = "".join(f"{self.telling(one, f'a{place}')}, " for place, one in enumerate(types))
        result = "return "
        given = ""
        if returns == "void":
            result = ""
        elif returns in ("_Bool", "bool"):
            result = "return 0 < "  # so that one to compare with is an order
        elif returns in BITS:
            result = "return (long long)"
        elif pointee(returns):
            given = f", a{types.index(returns)}" if returns in types else ", 0"
        text = []
        for kind in range(CALLBACKS):
            call = f"called_back({kind}, {len(types)}, (double[]){{{numbers}0, 0}}){given}"
            text.append(f"static {in_c(returns)} {name}_{kind}({declared}) {{ {result}{call}; }}")
        names = ", ".join(f"{name}_{kind}" for kind in range(CALLBACKS))
        return [*text, f"static void *const {name}[] = {{{names}}};"]

    def telling(self, type, place):
        """C, a str: a number that tells values of a type apart. place: str, where one is, in C."""
        if is_number(type):
            return place
        target = pointee(type)
        if target == "void":
            target = "int"
        if is_number(target):
            return f"{place} ? *({target} *){place} : 0"
        for number, (_, field) in enumerate(self.fields(target)):
            if is_number(field) and self.can_be_seen(target):
                return f"{place} ? (({in_c(target)} *){place})->m{number} : 0"
        return f"!!{place}"

    def define(self, type, lines):
        """Adds the definition of a struct to lines, {type: str}, after those that it holds."""
        if type in lines or not self.can_be_seen(type):
            return
        members = []
        for number, (_, field) in enumerate(self.structs[type].fields):
            base, count = elements(field)
            if base in self.structs:
                self.define(base, lines)
            dimension = f"[{count}]" if base != field else ""
            members.append(f"{in_c(base)} m{number}{dimension};")
        size = self.structs[type].bytes
        check = f'_Static_assert(sizeof({in_c(type)}) == {size}, "{type} is packed");'
        lines[type] = f"{in_c(type)} {{ {' '.join(members)} }}; {check}"


def in_c(type):
    """A type in entry.h: str. Structs get names that no header has."""
    if pointee(type):
        return "void *"
    kind, _, name = type.partition(" ")
    if kind in ("struct", "union"):
        name = re.sub(r"\W", "_", name)  # a<b> is a template of C++
        return f"{kind} under_test_{name}"
    return type


def length_places(fields):
    """The places of the integers that tell how many elements of a buffer to use: set of int.

    fields: list of (name, type), of a function's parameters or a struct."""
    places = set()
    before = ""
    has_pointers = any("*" in type or "[" in type for _, type in fields)
    for place, (name, type) in enumerate(fields):
        if has_pointers and type in BITS and (name in LENGTH_NAMES or is_buffer(before)):
            places.add(place)
        before = type
    return places


def is_buffer(type):
    """Whether a type is an array, or a pointer to numbers or to pointers: bool."""
    others = ("struct ", "union ", "function ")
    return "[" in type or type.endswith("*") and not type.startswith(others)


def is_struct(type):
    return type.startswith(("struct ", "union "))
