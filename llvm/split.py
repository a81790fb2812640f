"""A C file with several functions becomes a source for each of them.

    split({"id": "sort", "source": C}) -> [{"id": "sort:swap", "source": C}, ...]

A public function that takes or reads something is a source of its own: the file without main, and
without all functions that this one does not reach. What is not a function stays, and so do comments
beside what stays. A main that reads input or argv is a source too: the file as it is. A main that
does not only calls the others, to try them.

Left out: K&R definitions, functions that a macro defines, overloads. Such a file stays as it is.
"""

import re
from collections import Counter

from llvm.compare import check_driven, emit_oracle
from llvm.compile import Rejected
from llvm.drive import READING, VARIABLE, definitions_in, public_functions, references

NO_CODE = re.compile(
    r'//(?:\\\n|[^\n])*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    r"|^[ \t]*#(?:\\\n|/\*.*?\*/|[^\n])*",
    re.S | re.M,
)


def split(row, cflags=""):
    """The sources in a row {"id", "source"}: list of rows. cflags: str, of emit_ir.

    A row with one clear entry, or that cannot be taken apart, is returned as it is."""
    if row.get("winners"):
        return [row]
    try:
        oracle = emit_oracle(row["source"], cflags)
    except Rejected:
        return [row]
    definitions = definitions_in(oracle)
    named = references(oracle, definitions)
    public = [name for name in public_functions(definitions) if name != "main"]
    called = set()
    for caller, names in named.items():
        called |= names - {caller}
    if "main" not in definitions and len(set(public) - called) == 1:
        return [row]
    tables = set()  # what variables name
    for _, definition in VARIABLE.findall(oracle):
        tables |= set(re.findall(r"@([\w.$]+)", definition))
    spoken = plain(definitions)
    emitted = set()  # not templates, inline functions and lambdas of C++: nobody needs to drop them
    for name, definition in definitions.items():
        if "linkonce" not in definition["linkage"] and "$_" not in name:
            emitted.add(name)
    rows = []
    if "main" in definitions and is_driven(row["source"], cflags):
        rows.append(row)
    for name in public:
        kept = reached([name, *tables], named)
        if f"@{name}()" in definitions[name][0] and not READING & reached([name], named):
            continue  # it takes nothing
        dropped = {spoken[other] for other in emitted - kept}
        source = without(row["source"], dropped, spoken.values())
        if source:
            rows.append({**row, "id": f"{row['id']}:{spoken[name]}", "source": source})
    return rows or [row]


def plain(names):
    """{name of a function: the one that stands in the source}. names: collection of str.

    C++ writes _Z3addii, or _ZL3addii for a static one. What is in a namespace stays as it is, and
    so do overloads: the one name does not tell which of them."""
    found = {}
    for name in names:
        mangled = re.match(r"_ZL?(\d+)(.+)", name)
        found[name] = mangled[2][: int(mangled[1])] if mangled else name
    often = Counter(found.values())
    for name, word in found.items():
        if often[word] > 1:
            found[name] = name
    return found


def is_driven(source, cflags):
    """Whether a program reads what it may be given: bool. As split."""
    try:
        check_driven(source, cflags)
    except Rejected as rejected:
        return not str(rejected).startswith("reads no input")
    return True


def reached(names, named):
    """names, and what they name, and so on: set of str. named: {function: names in it}."""
    found = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += named.get(name, ())
    return found


def without(source, dropped, functions):
    """A C source without some functions and the comments before them: str; "" if not all are found.

    source: str. dropped, functions: collections of str, names; functions are all of them."""
    spans = spans_of(source, functions)
    if not set(dropped) <= spans.keys():
        return ""
    for start, end in sorted((spans[name] for name in dropped), reverse=True):
        source = source[:start] + source[end:]
    return re.sub(r"\n{3,}", "\n\n", source)


def blank(match):
    """Spaces in the place of a text, line by line. match: re.Match -> str."""
    return re.sub(r"[^\n]", " ", match[0])


def spans_of(source, functions):
    """Where functions stand in a C source, and the comments before them: {name: (start, end)}.

    source: str. functions: collection of str, their names."""
    code = NO_CODE.sub(blank, source)
    spans = {}
    depth = 0
    start = 0  # of what stands at the top of the file
    head = ""
    for sign in re.finditer(r"[{};]", code):
        if sign[0] == "{":
            if depth == 0:
                head = code[start : sign.start()]
            depth += 1
            continue
        depth -= sign[0] == "}"
        if depth:
            continue
        names = [name for name in re.findall(r"(\w+)\s*\(", head) if name in functions]
        is_function = sign[0] == "}" and head.rstrip().endswith(")")
        if is_function and names:
            first = start + len(head) - len(head.lstrip())
            for match in NO_CODE.finditer(source, start, first):
                if match[0].lstrip().startswith("#"):
                    start = match.end()
            spans[names[0]] = (start, sign.end())
        if is_function or sign[0] == ";":
            start = sign.end()
            head = ""
    return spans
