"""How a C source is driven: which function is called, with what types, by which C code.

    entry(oracle IR) -> Entry           the one function, or the whole program, that is compared
    entry_h(Entry, ...) -> C text       what driver.c includes to call it
    input_file(Entry, inputs) -> bytes  inputs as driver.c maps them; inputs.py draws the values

A function takes what layout.py can build: numbers, buffers, strings, structs, tables, callbacks.
Its behaviour is what it returns, what it leaves there and in global variables, what it prints, and
what it calls back with. That of a whole program is what it prints and its exit code. Both may read
stdin; argv has the words of it.

Left out: files, the clock. They are rejected by name.
"""

import re
import struct
from dataclasses import dataclass

from llvm.compile import Rejected
from llvm.debug_info import Types, is_number, pointee
from llvm.layout import (
    DEPTHS,
    LENGTH_NAMES,
    STRUCTS,
    Layout,
    TooLarge,
    in_c,
    is_struct,
    length_places,
)

# What a function under test may call: its result depends on its arguments alone.
PURE_FUNCTIONS = set(
    "abs labs llabs atoi atol atoll atof strtol strtoul strtoll strtoull strtod strtof div ldiv "
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
    PURE_FUNCTIONS |= {name, f"{name}f", f"{name}l"}
# operator new and delete of C++
FREEING = set("free realloc _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm".split())
PURE_FUNCTIONS |= FREEING | {"_Znwm", "_Znam"}
# What may be called besides.
PRINTING = set(
    "printf puts putchar putc fputc fputs fprintf fwrite fflush perror vprintf exit".split()
)
READING = set(
    "getchar getc fgetc ungetc fgets getline scanf feof ferror fscanf fread "
    "__isoc99_scanf __isoc23_scanf __isoc99_fscanf __isoc23_fscanf".split()
)
STOPPING = {"abort", "exit", "__assert_fail"}
# Each call has a process of its own, in which glibc's generators start anew.
RANDOM = set("rand srand random srandom rand_r drand48 lrand48 mrand48 srand48".split())
CLOCKS = set("time clock gettimeofday clock_gettime timespec_get times ftime".split())
STREAMS = {"stdin", "stdout", "stderr"}


@dataclass(frozen=True)
class Entry:
    name: str
    returns: str  # in C
    types: list[str]  # of its parameters
    layout: Layout
    is_program: bool = False
    reads: bool = False  # stdin
    takes_words: bool = False  # argv, the words of what it reads
    touches_memory: bool = False  # or prints, or has variables: each call has its own process
    frees: bool = False  # what it is given may have to come from malloc
    variables: tuple[tuple[str, str], ...] = ()  # (name, type) of the global variables to compare

    @property
    def numbers(self):
        """The runs of numbers of an input: list of Numbers."""
        return self.layout.numbers


# ---------------------------------------------------------------------------------- what is called

DEFINITION = re.compile(
    r'^define (?P<linkage>.*?)@"?(?P<name>[\w.$]+)"?\(.*\)[^()]*!dbg (?P<debug>!\d+).*\{$', re.M
)
# In the IR of a function that may read or write where it should not.
TOUCHES_MEMORY = re.compile(r"getelementptr|^declare .*@(?!llvm\.)", re.M)
FAST_MATH = re.compile(
    r" = (?:tail )?(?:f\w+|call) (?:fast|reassoc|nnan|ninf|nsz|arcp|contract|afn)\b"
)
VARIABLE = re.compile(r"^@([\w.$]+) = (.*\bglobal .*)$", re.M)


def entry(oracle):
    """The function to drive, or main. oracle: str, IR with debug information. -> Entry.

    Raises Rejected with a reason that names what cannot be driven."""
    if "@llvm.global_ctors" in oracle:
        raise Rejected("code before main: a constructor, perhaps that of <iostream>")
    definitions = definitions_in(oracle)
    name = entry_name(oracle, definitions)
    is_program = name == "main"
    called = set(re.findall(r"^declare .*@(?!llvm\.)([\w.$]+)", oracle, re.M))
    variables = VARIABLE.findall(oracle)
    reads = bool(called & READING)
    driven = program(oracle, definitions["main"], reads) if is_program else None
    reject_outside_state(oracle, called, variables)
    if driven:
        return driven
    types = Types(oracle)
    returns, parameters = types.signature(definitions[name]["debug"])
    if not parameters and not reads:
        raise Rejected("takes no input: it does the same each time")
    layout = laid_out(types, parameters)
    variables = seen_variables(types, layout, variables)
    is_seen = is_number(returns) or pointee(returns) or layout.can_be_seen(returns)
    if returns != "void" and not is_seen:
        raise Rejected(f"return type {returns}: it cannot be compared")
    is_seen = layout.areas or layout.callbacks or variables or called & PRINTING
    if returns == "void" and not is_seen:
        raise Rejected("nothing to compare: it returns, prints and changes nothing")
    return Entry(
        name,
        returns,
        [type for _, type in parameters],
        layout,
        reads=reads,
        touches_memory=touches_memory(oracle),
        frees=bool(called & FREEING),
        variables=tuple(variables),
    )


def touches_memory(ir):
    """Whether a call of its function may leave something behind, or print: bool. ir: str."""
    return bool(TOUCHES_MEMORY.search(ir) or VARIABLE.search(ir))


def program(oracle, definition, reads):
    """The Entry of main. oracle: str. definition: match of DEFINITION. reads: bool, stdin."""
    layout = Layout({}, {})
    layout.fill = ["arg0 = argc", "arg1 = argv"]
    argv = re.search(r"ptr\b[^,()]* %([\w.]+)\)", definition[0])
    takes_words = bool(argv) and f"load ptr, ptr %{argv[1]}.addr" in oracle
    if not (reads or takes_words):
        raise Rejected("reads no input: a program is compared on what it does with its input")
    returns = "void" if " void @main(" in definition[0] else "int"
    return Entry("main", returns, ["int", "char **"], layout, True, True, takes_words, True)


def definitions_in(oracle):
    """{name of a function: match of DEFINITION} of those that an IR defines. oracle: str."""
    return {match["name"]: match for match in DEFINITION.finditer(oracle)}


def entry_name(oracle, definitions):
    """main, or the one function that is neither static nor called by another: its name, a str.

    oracle: str, IR. definitions: as definitions_in returns them. Raises Rejected."""
    if "main" in definitions:
        return "main"
    called = set()
    for caller, names in references(oracle, definitions).items():
        called |= names - {caller}
    public = public_functions(definitions)
    candidates = [name for name in public if name not in called]
    if len(candidates) != 1:
        names = ", ".join(candidates) or "every function is static or called"
        raise Rejected(f"no clear entry: {names}; leave one public function that no other calls")
    return candidates[0]


def public_functions(definitions):
    """Names, a list of str, of those that are not static. definitions: as of entry_name."""
    public = []
    for name, definition in definitions.items():
        if not re.search("internal|linkonce", definition["linkage"]):  # linkonce: a template
            public.append(name)
    return public


def references(oracle, definitions):
    """What each function names: {str: set of str, functions and others}. As entry_name."""
    named = {}
    for name, definition in definitions.items():
        body = oracle[definition.end() : oracle.index("\n}", definition.end())]
        named[name] = set(re.findall(r'@"?([\w.$]+)', body))
    return named


def reject_outside_state(oracle, called, variables):
    """Raises Rejected where behaviour may depend on more than the input.

    oracle: str, IR. called: set of str, functions that it does not define. variables: matches of
    VARIABLE. -> None."""
    for name in sorted(called & CLOCKS):
        raise Rejected(f"calls {name}: the time is another one at each call")
    allowed = PURE_FUNCTIONS | PRINTING | STOPPING | READING | RANDOM
    elsewhere = [name for name, definition in variables if definition.startswith("external ")]
    obstacles = {
        "inline": re.findall(r"\bcall .*\b(asm) ", oracle),
        "calls": sorted(called - allowed),
        "global variable": [name for name in elsewhere if name not in STREAMS],
    }
    for kind, names in obstacles.items():
        if names:
            library = ""
            if names[0].startswith("_Z"):
                library = " of a C++ library"
            raise Rejected(f"{kind} {names[0]}{library}: it may depend on more than its input")
    if FAST_MATH.search(oracle):
        raise Rejected("fast-math: each level may round differently")
    if re.search(r'c"[^"]*%[-\d]*p', oracle):
        raise Rejected("prints an address (%p): it is another one each time")


def laid_out(types, parameters):
    """The Layout of a function's arguments, with structs as deep as is not too large.

    types: Types. parameters: list of (name, type). Raises Rejected. The first parameters go to
    arg0, arg1 and so on."""
    lengths = length_places(parameters)
    is_told = any(parameters[place][0] in LENGTH_NAMES for place in lengths)
    for depth in DEPTHS:
        layout = Layout(types.structs, types.functions)
        try:
            for place, (_, type) in enumerate(parameters):
                layout.put(type, f"arg{place}", depth, place in lengths, STRUCTS if is_told else 1)
            return layout
        except TooLarge:
            pass
    raise Rejected("takes too much: over 1,024 numbers")


def seen_variables(types, layout, variables):
    """Global variables that others can see: list of (name, type). As entry. layout: Layout."""
    seen = []
    for name, definition in variables:
        debug = re.search(r"!dbg (!\d+)", definition)
        if debug and not re.match("internal|private|external|linkonce", definition):
            type = types.variable(debug[1])
            if layout.can_be_seen(type):
                seen.append((name, type))
    return seen


# ---------------------------------------------------------------------------------- for driver.c


def input_file(called, inputs):
    """Inputs as driver.c maps them: bytes.

    called: Entry. inputs: list of what input_pool returns, a tuple of numbers, or a str of a
    program. An input is its numbers, eight bytes each, and where its text lies and how long it is.
    All texts follow, each with a 0."""
    types = ""
    for numbers in called.numbers:
        types += numbers.count * ("d" if numbers.is_float else "q")
    record = struct.Struct(f"={types}qq")
    records, texts = bytearray(), bytearray()
    for values in inputs:
        text = b""
        if called.reads:
            *values, words = [values] if called.is_program else values
            text = words.encode()
        records += record.pack(*values, len(texts), len(text))
        texts += text + b"\0"
    return records + texts


def entry_h(called, functions, pool, inputs, steps, first):
    """What driver.c includes: sizes, the functions under test, how arguments are built and seen.

    called: Entry. functions, pool, inputs, steps: int. -> C text, a str; driver.c shows an example.
    functions: how many are under test. v0.NAME is the source, v1.NAME and so on are the texts
    compared with it. They are weak symbols: the address is 0 for a text that does not assemble.
    pool: inputs offered. inputs: those that decide, at most. steps: in which the source must
    end. first: bool, whether to stop at the first input on which a text differs."""
    layout = called.layout
    digest = []  # statements that see what can be seen of the call
    sizes = []  # of the areas, in bytes
    if called.returns != "void" and not called.is_program:
        digest.append(f"{layout.seer(called.returns)}(&result)")
    for number, (type, count) in enumerate(layout.areas):
        size = f"sizeof({in_c(type)})"
        sizes.append(f"{count} * {size}")
        digest.append(f"see_area({number}, {layout.seer(type)}, {size}, {count})")
    for number, (_, type) in enumerate(called.variables):
        digest.append(f"{layout.seer(type)}(variables[k][{number}])")
    types = ", ".join(map(in_c, called.types))
    returns = in_c(called.returns)
    arguments, declared = [], []
    for place, type in enumerate(called.types):
        arguments.append(f"arg{place}")
        declared.append(f"static {in_c(type)} arg{place};")
    names = [f"v{k}" for k in range(functions)]
    for name in names:
        weak = "__attribute__((weak))"
        declared.append(f'{returns} {name}({types}) __asm__("{name}.{called.name}") {weak};')
        for variable, _ in called.variables:
            declared.append(f'extern char {name}_{variable}[] __asm__("{name}.{variable}") {weak};')
    rows = []  # of the addresses of variables
    for name in names:
        addresses = ", ".join(f"{name}_{variable}" for variable, _ in called.variables)
        rows.append(f"{{{addresses}}}")
    call = f"table[k]({', '.join(arguments)})"
    declared = "\n".join(declared)
    room = "".join(f", b{number}[{size}]" for number, size in enumerate(sizes))
    return f"""\
#define POOL {pool}
#define INPUTS {inputs}
#define STEPS {steps}
#define FIRST {int(first)}
#define FORK {int(called.touches_memory)}
#define READS {int(called.reads)}
#define ARGV {int(called.takes_words)}
#define FREES {int(called.frees)}
#define WIDTH {layout.width}
#define BUFFERS {len(sizes)}
#define ROOM sizeof(union {{ char none[16]{room}; }})
#define BY_VALUE {int(is_struct(called.returns) and not pointee(called.returns))}
#define RESULT {"char" if called.returns == "void" else returns}
#define FILL {"; ".join(layout.fill)}
#define CALL {call if called.returns == "void" else f"result = {call}"}
#define CODE {"result" if called.is_program else 0}
#define DIGEST {"; ".join(digest)}
{layout.definitions()}
{declared}
static {returns} (*const table[])({types}) = {{{", ".join(names)}}};
static void *const variables[][{len(called.variables) or 1}] = {{{", ".join(rows)}}};
static const int area_bytes[] = {{{", ".join(sizes) or 0}}};
"""
