"""How a C source is driven: which function is called, with what types, by which C code.

    entry(oracle IR) -> Entry           the one function, or the whole program, that is compared
    entry_h(Entry, ...) -> C text       what driver.c includes to call it
    input_line(Entry, values) -> text   an input as driver.c reads it; inputs.py draws the values

A function takes numbers, and pointers to buffers of ELEMENTS numbers or to a string. Its behaviour
is what it returns and what it leaves in the buffers. A whole program reads stdin. Its behaviour is
what it prints and its exit code.

Left out: pointers to structs and to pointers, structs by value, files, state between calls. They
are rejected by name.
"""

import re
from dataclasses import dataclass

from llvm.compile import Rejected

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
FLOATS = ("float", "double")
ELEMENTS = 32  # of a buffer
# Parameters beside a buffer that tell how many elements of it to use.
LENGTH_NAMES = {"n", "len", "length", "size", "count", "cap"}
# What a function under test may call: its result depends on its arguments alone.
PURE_FUNCTIONS = set(
    "abs labs llabs atoi atol atoll atof strtol strtoul strtoll strtoull strtod div ldiv "
    "qsort bsearch malloc calloc realloc free abort __assert_fail __errno_location "
    "strlen strnlen strcmp strncmp strcasecmp strncasecmp strcpy strncpy stpcpy strcat strncat "
    "strchr strrchr strstr strspn strcspn strpbrk strtok strtok_r strdup strndup "
    "memcpy memmove memset memcmp memchr memrchr sprintf snprintf "
    "sscanf __isoc99_sscanf __isoc23_sscanf "
    "tolower toupper isalpha isdigit isalnum isspace isupper islower ispunct isxdigit "
    "isprint isgraph iscntrl isblank __ctype_b_loc __ctype_tolower_loc __ctype_toupper_loc".split()
)
for name in (
    "sqrt cbrt fabs floor ceil trunc round lround llround rint nearbyint lrint fmod remainder "
    "fmin fmax fdim copysign pow exp exp2 expm1 log log2 log10 log1p hypot ldexp frexp modf "
    "sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc tgamma lgamma"
).split():
    PURE_FUNCTIONS |= {name, f"{name}f"}
# What a whole program may call besides: it starts anew for each input.
PROGRAM_FUNCTIONS = set(
    "printf puts putchar putc fputc fputs fprintf fwrite fflush perror "
    "getchar getc fgetc ungetc fgets getline scanf feof ferror fscanf "
    "__isoc99_scanf __isoc23_scanf __isoc99_fscanf __isoc23_fscanf exit rand srand".split()
)


@dataclass(frozen=True)
class Parameter:
    type: str  # in C; of an element if it is a buffer
    is_buffer: bool
    is_length: bool  # how many elements of a buffer to use: 0 to ELEMENTS / 2

    @property
    def is_float(self):
        return self.type in FLOATS

    @property
    def numbers(self):
        """How many numbers of an input it takes."""
        return ELEMENTS if self.is_buffer else 1


@dataclass(frozen=True)
class Entry:
    name: str
    returns: str  # in C
    parameters: list[Parameter]
    is_program: bool = False


# ---------------------------------------------------------------------------------- what is called

DEFINITION = re.compile(
    r"^define (?P<linkage>.*)@(?P<name>[\w.$]+)\((?P<parameters>.*)\)"
    r"[^()]*!dbg (?P<debug>!\d+).*\{$",
    re.M,
)


def entry(oracle):
    """The function to drive, or main. oracle: str, IR with debug information. -> Entry.

    Types come from the debug information and not from the C text: that sees through typedefs,
    enums and arrays. Raises Rejected with a reason that names what cannot be driven."""
    definitions = {match["name"]: match for match in DEFINITION.finditer(oracle)}
    name = entry_name(oracle, definitions)
    is_program = name == "main"
    reject_outside_state(oracle, is_program)
    if is_program:
        return Entry("main", "int", [], is_program=True)
    returns, types = signature(oracle, definitions[name]["debug"])
    names = re.findall(r"%([\w.]+)(?:,|$)", definitions[name]["parameters"])
    parameters = typed_parameters(names, types)
    if returns.removesuffix(" *") not in (*BITS, *FLOATS, "void"):
        raise Rejected(f"return type {returns}: not a number or a pointer to numbers")
    if returns == "void" and not any(parameter.is_buffer for parameter in parameters):
        raise Rejected("nothing to compare: returns void and has no buffer")
    return Entry(name, returns, parameters)


def entry_name(oracle, definitions):
    """main, or the one function that is neither static nor called by another: its name, a str.

    oracle: str, IR. definitions: {name of a function: match of DEFINITION}. Raises Rejected."""
    if "main" in definitions:
        return "main"
    called = set()
    for caller, definition in definitions.items():
        body = oracle[definition.end() : oracle.index("\n}", definition.end())]
        for name in definitions.keys() - {caller}:
            if re.search(rf"@{re.escape(name)}\b", body):
                called.add(name)
    public = [name for name in definitions if "internal" not in definitions[name]["linkage"]]
    candidates = [name for name in public if name not in called]
    if len(candidates) != 1:
        names = ", ".join(candidates) or "every function is static or called"
        raise Rejected(f"no clear entry: {names}; leave one public function that no other calls")
    return candidates[0]


def reject_outside_state(oracle, is_program):
    """Raises Rejected where behaviour may depend on more than the input.

    oracle: str, IR. is_program: bool. -> None."""
    allowed = PURE_FUNCTIONS
    if is_program:
        allowed = PURE_FUNCTIONS | PROGRAM_FUNCTIONS
    declared = re.findall(r"^declare .*@(?!llvm\.)([\w.$]+)", oracle, re.M)
    obstacles = {
        "inline": re.findall(r"\bcall .*\b(asm) ", oracle),
        "calls": [name for name in declared if name not in allowed],
    }
    if not is_program:  # a program may have them: it starts anew for each input
        obstacles["global variable"] = re.findall(r"^@(\S+) = .*\bglobal ", oracle, re.M)
    for kind, names in obstacles.items():
        if names:
            raise Rejected(f"{kind} {names[0]}: it may depend on more than its input")
    if re.search(r'c"[^"]*%[-\d]*p', oracle):
        raise Rejected("prints an address (%p): it is another one each time")


def signature(oracle, function_node):
    """The types in C of a function: (str of its return type, list of str of its parameters).

    oracle: str, IR. function_node: str, the node of the function's debug information, as "!17"."""
    nodes = dict(re.findall(r"^(!\d+) = (?:distinct )?(.*)$", oracle, re.M))
    type_node = re.search(r"type: (!\d+)", nodes[function_node])[1]
    list_node = re.search(r"types: (!\d+)", nodes[type_node])[1]
    references = re.findall(r"!\d+|null", nodes[list_node])
    returns, *types = [spelled(reference, nodes) for reference in references]
    return returns, types


def spelled(reference, nodes):
    """The C type behind a node of debug information, without typedefs, enums and qualifiers: str.

    reference: str, the node, or "null". nodes: {"!17": the text of the node}."""
    node = nodes.get(reference, "")  # "null" has no node: it is void
    name = re.search(r'name: "([^"]*)"', node)
    base = re.search(r"baseType: (!\d+)", node)
    inner = spelled(base[1], nodes) if base else "void"
    if node.startswith("!DIBasicType"):
        return name[1]
    if "DW_TAG_pointer" in node:
        return inner + ("*" if inner.endswith("*") else " *")
    if node.startswith("!DISubroutineType("):
        return "function"
    composite = re.match(
        r"!DICompositeType\((?!tag: DW_TAG_enum)(?:tag: DW_TAG_(\w+?)_?(?:type)?,)?", node
    )
    if composite:
        kind = composite[1].replace("structure", "struct")
        return f"{kind} {name[1] if name else ''}".strip()
    return inner


def typed_parameters(names, types):
    """names, types: lists of str, of a function's parameters. -> list of Parameter.

    Raises Rejected. A function with `...` has more types than names: one is void, and so it is
    rejected."""
    has_pointers = "*" in "".join(types)
    parameters = []
    for position, type in enumerate(types):
        element = type.removesuffix(" *")
        if element not in BITS and element not in FLOATS:
            raise Rejected(f"parameter type {type}: not a number, a buffer of them or a string")
        is_buffer = element != type
        is_length = False
        if has_pointers and type in BITS:
            follows_buffer = position > 0 and parameters[-1].is_buffer
            is_length = names[position] in LENGTH_NAMES or follows_buffer
        parameters.append(Parameter(element, is_buffer, is_length))
    return parameters


# ---------------------------------------------------------------------------------- for driver.c


def input_line(called, values):
    """An input as driver.c reads it: str.

    called: Entry. values: one of the inputs of input_pool, a tuple of numbers, or a str of a
    program."""
    if called.is_program:
        return f"{len(values)}\n{values}"
    words = [value.hex() if isinstance(value, float) else str(value) for value in values]
    return " ".join(words) + "\n"


def entry_h(called, functions, pool, inputs):
    """What driver.c includes: sizes, the functions under test, how buffers are filled and judged.

    called: Entry. functions, pool, inputs: int. -> C text, a str; driver.c shows an example.
    functions: how many are under test. v0.NAME is the source, v1.NAME and so on are the texts
    compared with it. They are weak symbols: the address is 0 for a text that does not assemble.
    pool: inputs offered. inputs: those that decide, at most."""
    arguments = []  # of the call
    fill = []  # statements that copy an input into buffers
    digest = ["MIX(result)"]  # statements that hash what can be seen of the call
    expose = []  # statements that allow the code under test to read and write the buffers
    is_float = []  # of each number of an input: 0 or 1
    buffers = 0
    for parameter in called.parameters:
        first = len(is_float)  # of its numbers in x, the input
        member = "d" if parameter.is_float else "i"
        is_float += [str(int(parameter.is_float))] * parameter.numbers
        if not parameter.is_buffer:
            arguments.append(f"x[{first}].{member}")
            continue
        elements = f"({parameter.type} *)area[{buffers}].buffer"
        fill.append(f"for (int j = 0; j < ELEMENTS; j++) ({elements})[j] = x[{first} + j].{member}")
        digest.append(f"MIX_BUFFER({buffers}, {parameter.type})")
        expose.append(f"EXPOSE_BUFFER({buffers}, {parameter.type})")
        arguments.append(f"area[{buffers}].buffer")
        buffers += 1
    result_type, call = call_statement(called.returns, arguments)
    types = "int, char **"
    if not called.is_program:
        types = ", ".join(map(spelled_in_c, called.parameters)) or "void"
    names = [f"v{k}" for k in range(functions)]
    declarations = "\n".join(
        f'{called.returns} {name}({types}) __asm__("{name}.{called.name}") __attribute__((weak));'
        for name in names
    )
    return f"""\
#define POOL {pool}
#define INPUTS {inputs}
#define ELEMENTS {ELEMENTS}
#define PROGRAM {int(called.is_program)}
#define WIDTH {len(is_float)}
#define BUFFERS {buffers}
#define RESULT {result_type}
#define FILL {"; ".join(fill)}
#define CALL {call}
#define DIGEST {"; ".join(digest)}
#define EXPOSE {"; ".join(expose)}
{declarations}
static {called.returns} (*const table[])({types}) = {{{", ".join(names)}}};
static const char is_float[] = {{{", ".join(is_float) or 0}}};
"""


def spelled_in_c(parameter):
    """The type of a Parameter as C text: str."""
    return parameter.type + (" *" if parameter.is_buffer else "")


def call_statement(returns, arguments):
    """(type of the variable `result`, C statements that call function k and set it), two str.

    returns: str, the function's return type. arguments: list of str, C expressions."""
    call = f"table[k]({', '.join(arguments)})"
    if returns == "void":
        return "char", call
    if not returns.endswith("*"):
        return returns, f"result = {call}"
    # The address itself is left to chance; where in a buffer it points is not. -1: null; -2: a
    # pointer to something else.
    inside = "p >= (char *)area && p < (char *)(area + BUFFERS)"
    return "long", f"char *p = (char *){call}; result = {inside} ? p - (char *)area : !p ? -1 : -2"
