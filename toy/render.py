"""Writes a program of the embedded world as source text in seven languages.

In: a Program (world.py) and the name of a language. Out: for "c" a function `int f(int, ...)`, for
the others a program that reads the inputs from one line of stdin and prints the result.

A language is a Syntax: a table of templates for str.format, in which a literal brace is doubled.
What the languages disagree about is the division of negative operands: where a language lacks the
wanted division it is spelled out with the language's own.
"""

from dataclasses import dataclass

from toy.world import TARGETS


@dataclass(frozen=True)
class Syntax:
    """How a language writes a program. The defaults are C's."""

    program: str  # {body}, {names} and {inputs} joined by commas, {formats} of scanf, {result}
    division: dict[str, str]  # fdiv, fmod, tdiv, tmod -> expression of {left} and {right}
    program_of_one_input: str = ""  # where it differs
    body_indent: str = ""
    input: str = "{}"  # one of {inputs}, from its name
    input_separator: str = ", "
    sigil: str = ""  # before every variable
    declare: str = ""  # before the first assignment of a variable
    assign: str = "{declare}{variable} = {value};"
    computed: str = "{}"  # an assigned value that is not a plain number
    if_: str = "if ({}) {{"
    else_: str = "} else {"
    end_if: str = "}"
    for_: str = "for ({declare}{variable} = {low}; {variable} {less} {high}; {variable}++) {{"
    while_positive: str = "while ({} > 0) {{"
    end_loop: str = "}"
    tenth: str = "{} / 10"  # of a number >= 0, without its last digit


def render(program, language) -> str:
    """The program as source text. Raises ValueError for a language that the world does not have."""
    if language not in SYNTAX:
        known = ", ".join(TARGETS)
        raise ValueError(f"the embedded world has no {language}; it has {known} and c")
    syntax = SYNTAX[language]
    names = [name for name, _ in program.inputs]
    template = syntax.program
    if len(names) == 1 and syntax.program_of_one_input:
        template = syntax.program_of_one_input
    return template.format(
        names=", ".join(names),
        inputs=syntax.input_separator.join(map(syntax.input.format, names)),
        formats=" ".join(["%d"] * len(names)),
        body="\n".join(_block(program.body, syntax, set(names), syntax.body_indent)),
        result=program.result,
    )


def _block(body, syntax, declared, indent="    "):
    """Indented lines of a list of statements; a closing line that the language lacks is left out.

    declared: variables that exist already; the first assignment of another one declares it, in
    languages that declare, and adds it to the set."""
    lines = []
    for statement in body:
        lines += _statement(statement, syntax, declared)
    return [indent + line for line in lines if line]


def _statement(statement, syntax, declared):
    match statement:
        case ("set", name, value):
            declare = "" if name in declared else syntax.declare
            declared.add(name)
            text = _expression(value, syntax)
            if value[0] != "num":
                text = syntax.computed.format(text)
            variable = syntax.sigil + name
            return [syntax.assign.format(declare=declare, variable=variable, value=text)]
        case ("if", (comparison, left, right), then, otherwise):
            condition = f"{_expression(left, syntax)} {comparison} {_expression(right, syntax)}"
            lines = [syntax.if_.format(condition), *_block(then, syntax, declared)]
            if otherwise:
                lines += [syntax.else_, *_block(otherwise, syntax, declared)]
            return [*lines, syntax.end_if]
        case ("for", name, low, high, inclusive, inner):
            head = syntax.for_.format(
                declare=syntax.declare,
                variable=syntax.sigil + name,
                low=_expression(low, syntax),
                less="<=" if inclusive else "<",
                high=_expression(high, syntax),
                stop=_expression(_stop(high, inclusive), syntax),
            )
            return [head, *_block(inner, syntax, declared), syntax.end_loop]
        case ("digits", name, inner):
            head = syntax.while_positive.format(syntax.sigil + name)
            inner = [*inner, ("set", name, ("tenth", name))]
            return [head, *_block(inner, syntax, declared), syntax.end_loop]


def _stop(high, inclusive):
    """Where Python's range stops: the first number that the loop does not reach."""
    if not inclusive:
        return high
    return ("num", high[1] + 1) if high[0] == "num" else ("+", high, ("num", 1))


def _expression(node, syntax, inner=False):
    """inner: whether it is an operand, which stands in parentheses where precedence asks for it."""
    match node:
        case ("num", number):
            return str(number)
        case ("var", name):
            return syntax.sigil + name
        case ("digit", name):
            return f"{syntax.sigil}{name} % 10"
        case ("tenth", name):
            return syntax.tenth.format(syntax.sigil + name)
    operator, left, right = node
    left = _expression(left, syntax, inner=True)
    right = _expression(right, syntax, inner=True)
    if operator in syntax.division:
        text = syntax.division[operator].format(left=left, right=right)
        parentheses = not text.endswith(")")
    else:
        text = f"{left} {operator} {right}"
        parentheses = operator != "*"
    return f"({text})" if inner and parentheses else text


# ----------------------------------------------------------------------------- the seven languages

# `/` and `%` truncate.
C_DIVISION = {
    "fdiv": "({left} - ({left} % {right} + {right}) % {right}) / {right}",
    "fmod": "({left} % {right} + {right}) % {right}",
    "tdiv": "{left} / {right}",
    "tmod": "{left} % {right}",
}
C = Syntax(
    """\
int f({inputs}) {{
{body}
    return {result};
}}""",
    C_DIVISION,
    body_indent="    ",
    input="int {}",
    declare="int ",
)
CPP = Syntax(
    """\
#include <cstdio>
int main() {{
    int {names};
    scanf("{formats}", {inputs});
{body}
    printf("%d\\n", {result});
}}""",
    C_DIVISION,
    body_indent="    ",
    input="&{}",
    declare="int ",
)
JAVA = Syntax(
    """\
import java.util.Scanner;
public class Main {{
    public static void main(String[] args) {{
        Scanner in = new Scanner(System.in);
        int {inputs};
{body}
        System.out.println({result});
    }}
}}""",
    C_DIVISION,
    body_indent="        ",
    input="{} = in.nextInt()",
    declare="int ",
)
# String(-0) is "0", while console.log(-0) prints "-0".
JAVASCRIPT = Syntax(
    """\
let [{names}] = require("fs").readFileSync(0, "utf8").split(" ").map(Number);
{body}
console.log(String({result}));""",
    C_DIVISION | {"fdiv": "Math.floor({left} / {right})", "tdiv": "Math.trunc({left} / {right})"},
    declare="let ",
    tenth="Math.floor({} / 10)",
)
PHP = Syntax(
    """\
<?php
fscanf(STDIN, "{formats}", {inputs});
{body}
echo ${result}, "\\n";""",
    C_DIVISION | {"fdiv": "(int)floor({left} / {right})", "tdiv": "intdiv({left}, {right})"},
    input="${}",
    sigil="$",
    tenth="intdiv({}, 10)",
)
BASH = Syntax(
    """\
read {inputs}
{body}
echo ${result}""",
    C_DIVISION,
    input_separator=" ",
    assign="{variable}={value}",
    computed="$(({}))",
    if_="if (({})); then",
    else_="else",
    end_if="fi",
    for_="for (({variable} = {low}; {variable} {less} {high}; {variable}++)); do",
    while_positive="while (({} > 0)); do",
    end_loop="done",
)
PYTHON = Syntax(
    """\
{names} = map(int, input().split())
{body}
print({result})""",
    {
        "fdiv": "{left} // {right}",
        "fmod": "{left} % {right}",
        "tdiv": "int({left} / {right})",
        "tmod": "({left} - int({left} / {right}) * {right})",
    },
    program_of_one_input="{names} = int(input())\n{body}\nprint({result})",
    assign="{variable} = {value}",
    if_="if {}:",
    else_="else:",
    end_if="",
    for_="for {variable} in range({low}, {stop}):",
    while_positive="while {} > 0:",
    end_loop="",
    tenth="{} // 10",
)
SYNTAX = {
    "python": PYTHON,
    "cpp": CPP,
    "java": JAVA,
    "php": PHP,
    "bash": BASH,
    "javascript": JAVASCRIPT,
    "c": C,
}
