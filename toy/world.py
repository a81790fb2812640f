"""The embedded world: small programs from a grammar, rendered to seven languages, with tests from evaluating them.

A Program reads one to three integers and prints one. Its body is a list of statements (tuples, tag first):

    ("set", v, e)   ("if", c, then, else)   ("for", v, lo, hi, inclusive, body)   ("digits", v, body)

with expressions ("var", v), ("num", k), ("+" | "-" | "*", l, r), ("digit", v) = last decimal digit of v >= 0, and
("fdiv" | "fmod" | "tdiv" | "tmod", e, k): division that floors (Python's) or truncates (C's). The languages disagree
about negative operands, which is the trap a translator must see: a Python source uses the first pair, a C++ source the
second. Values stay within 32 bits on every test. `rewrite` is the one place where wrong habits live: loop bound off
by one, comparison loosened, operands of minus swapped, the other language's division.
"""

from collections import namedtuple

Program = namedtuple(
    "Program", "inputs body result"
)  # inputs: tuple of (name, role); role: key of RANGES
RANGES = {"count": (-2, 12), "value": (-30, 30), "digits": (0, 99_999)}
HABITS = ("bound", "compare", "minus", "division")
TARGETS = ("python", "cpp", "java", "php", "bash", "javascript")
LIMIT = 2**31 - 1


# ---------------------------------------------------------------------------------------------- meaning


def run(program, values) -> int:
    """The printed integer. Raises OverflowError past 32 bits or 10,000 steps."""
    env, steps = dict(zip((n for n, _ in program.inputs), values)), [10_000]

    def value(e):
        tag = e[0]
        if tag == "num":
            return e[1]
        if tag == "var":
            return env[e[1]]
        if tag == "digit":
            return env[e[1]] % 10
        l, r = value(e[1]), value(e[2])
        v = (
            {"+": l + r, "-": l - r, "*": l * r}[tag]
            if tag in "+-*"
            else l // r
            if tag == "fdiv"
            else l % r
            if tag == "fmod"
            else abs(l) // r * (1 if l >= 0 else -1)
            if tag == "tdiv"
            else abs(l) % r * (1 if l >= 0 else -1)
        )
        if abs(v) > LIMIT:
            raise OverflowError("past 32 bits")
        return v

    def holds(c):
        l, r = value(c[1]), value(c[2])
        return {"<": l < r, ">": l > r, "<=": l <= r, ">=": l >= r, "==": l == r, "!=": l != r}[
            c[0]
        ]

    def block(body):
        for s in body:
            steps[0] -= 1
            if steps[0] < 0:
                raise OverflowError("too many steps")
            if s[0] == "set":
                env[s[1]] = value(s[2])
            elif s[0] == "if":
                block(s[2] if holds(s[1]) else s[3])
            elif s[0] == "for":
                for i in range(value(s[2]), value(s[3]) + s[4]):
                    env[s[1]] = i
                    block(s[5])
            else:
                while env[s[1]] > 0:
                    block(s[2])
                    env[s[1]] //= 10

    block(program.body)
    return env[program.result]


def rewrite(node, wrong):
    """The same tree with wrong(habit) asked at every site, in a fixed order; True makes that site wrong."""
    if isinstance(node, list):
        return [rewrite(x, wrong) for x in node]
    if not isinstance(node, tuple):
        return node
    node = tuple(rewrite(x, wrong) for x in node)
    if node[0] == "for" and wrong("bound"):
        return (*node[:4], not node[4], node[5])
    if node[0] in ("<", ">") and wrong("compare"):
        return (node[0] + "=", *node[1:])
    if node[0] == "-" and wrong("minus"):
        return ("-", node[2], node[1])
    if node[0][1:] in ("div", "mod") and wrong("division"):
        return ("tf"[node[0][0] == "t"] + node[0][1:], *node[1:])
    return node


def with_habits(program, rng, rates):
    """One draw of a writer with habits: rates: habit -> probability of the wrong form at each site."""
    return program._replace(body=rewrite(program.body, lambda habit: rng.random() < rates[habit]))


def single_mutants(program) -> list:
    """Every program with exactly one site made wrong."""
    sites = []
    rewrite(
        program.body, lambda habit: sites.append(habit)
    )  # append returns None: nothing is changed
    mutants = []
    for k in range(len(sites)):
        count = iter(range(len(sites)))
        mutants.append(program._replace(body=rewrite(program.body, lambda habit: next(count) == k)))
    return mutants


def shape(program) -> str:
    """The program with names and numbers erased: programs of one shape are the same exercise."""

    def erase(x):
        if isinstance(x, (list, tuple)):
            return x[0] if x[:1] in (("var",), ("num",)) else "(" + " ".join(map(erase, x)) + ")"
        return x if isinstance(x, str) and not (x.isalpha() and len(x) == 1) else "_"

    return erase(program.body)


# ---------------------------------------------------------------------------------------------- text


def _expr(e, language, inner=False):
    tag = e[0]
    if tag == "num":
        return str(e[1])
    if tag == "var":
        return "$" + e[1] if language == "php" else e[1]
    if tag == "digit":
        return _expr(("var", e[1]), language) + " % 10"
    l, r = _expr(e[1], language, True), _expr(e[2], language, True)
    if tag in "+-*":
        text = f"{l} {tag} {r}"
        return f"({text})" if inner and tag != "*" else text
    native = f"{l} % {r}" if tag[1:] == "mod" else f"{l} / {r}"
    floor_mod = f"({l} % {r} + {r}) % {r}"
    if language == "python":
        text = {
            "fdiv": f"{l} // {r}",
            "fmod": native,
            "tdiv": f"int({l} / {r})",
            "tmod": f"({l} - int({l} / {r}) * {r})",
        }[tag]
    elif tag == "fmod":
        text = floor_mod
    elif tag == "tmod":
        text = native
    elif language == "javascript":
        text = f"Math.{'floor' if tag == 'fdiv' else 'trunc'}({l} / {r})"
    elif language == "php":
        text = f"(int)floor({l} / {r})" if tag == "fdiv" else f"intdiv({l}, {r})"
    else:
        text = native if tag == "tdiv" else f"({l} - {floor_mod}) / {r}"
    return f"({text})" if inner and text[-1] != ")" else text


def _block(body, language, indent, declared):
    """Lines of a body. declared: variables that exist already; the first assignment declares in typed languages."""
    pad, lines = "    " * indent, []
    python, bash = language == "python", language == "bash"
    dollar, end = "$" if language == "php" else "", "" if python or bash else ";"
    typed = {"cpp": "int ", "java": "int ", "c": "int ", "javascript": "let "}.get(language, "")
    for s in body:
        if s[0] == "set":
            declare = "" if s[1] in declared else typed
            declared.add(s[1])
            e = _expr(s[2], language)
            if bash:
                lines.append(f"{pad}{s[1]}={e if s[2][0] == 'num' else f'$(({e}))'}")
            else:
                lines.append(f"{pad}{declare}{dollar}{s[1]} = {e}{end}")
            continue
        if s[0] == "if":
            cond = f"{_expr(s[1][1], language)} {s[1][0]} {_expr(s[1][2], language)}"
            head = (
                f"if {cond}:" if python else f"if (({cond})); then" if bash else f"if ({cond}) {{"
            )
            lines += [pad + head, *_block(s[2], language, indent + 1, declared)]
            if s[3]:
                lines += [
                    pad + ("else:" if python else "else" if bash else "} else {"),
                    *_block(s[3], language, indent + 1, declared),
                ]
            lines += [] if python else [pad + ("fi" if bash else "}")]
            continue
        v = dollar + s[1]
        if s[0] == "for":
            lo, hi, test = _expr(s[2], language), _expr(s[3], language), "<=" if s[4] else "<"
            stop = hi if not s[4] else str(s[3][1] + 1) if s[3][0] == "num" else f"{hi} + 1"
            three = f"{typed}{v} = {lo}; {v} {test} {hi}; {v}++"
            head = (
                f"for {v} in range({lo}, {stop}):"
                if python
                else f"for (({three})); do"
                if bash
                else f"for ({three}) {{"
            )
            tail = []
        else:
            head = (
                f"while {v} > 0:"
                if python
                else f"while (({v} > 0)); do"
                if bash
                else f"while ({v} > 0) {{"
            )
            tenth = {
                "python": f"{v} // 10",
                "javascript": f"Math.floor({v} / 10)",
                "php": f"intdiv({v}, 10)",
                "bash": f"$(({v} / 10))",
            }.get(language, f"{v} / 10")
            tail = [f"{pad}    {v}{'=' if bash else ' = '}{tenth}{end}"]
        lines += [pad + head, *_block(s[-1], language, indent + 1, declared), *tail]
        lines += [] if python else [pad + ("done" if bash else "}")]
    return lines


def render(program, language) -> str:
    """The program as source text; for "c" a function `int f(int, ...)`, for the others stdin -> stdout."""
    names = [n for n, _ in program.inputs]
    declared, result, k = set(names), program.result, len(names)
    body = lambda indent: "\n".join(_block(program.body, language, indent, declared))
    listed = ", ".join(names)
    if language == "python":
        read = f"{listed} = map(int, input().split())" if k > 1 else f"{listed} = int(input())"
        return f"{read}\n{body(0)}\nprint({result})"
    if language == "cpp":
        return (
            f'#include <cstdio>\nint main() {{\n    int {listed};\n    scanf("{" ".join(["%d"] * k)}", '
            f'{", ".join("&" + n for n in names)});\n{body(1)}\n    printf("%d\\n", {result});\n}}'
        )
    if language == "java":
        reads = ", ".join(f"{n} = in.nextInt()" for n in names)
        return (
            "import java.util.Scanner;\npublic class Main {\n    public static void main(String[] args) {\n"
            f"        Scanner in = new Scanner(System.in);\n        int {reads};\n{body(2)}\n"
            f"        System.out.println({result});\n    }}\n}}"
        )
    if language == "php":
        return (
            f'<?php\nfscanf(STDIN, "{" ".join(["%d"] * k)}", {", ".join("$" + n for n in names)});\n'
            f'{body(0)}\necho ${result}, "\\n";'
        )
    if language == "bash":
        return f"read {' '.join(names)}\n{body(0)}\necho ${result}"
    if language == "javascript":
        return (
            f'let [{listed}] = require("fs").readFileSync(0, "utf8").split(" ").map(Number);\n'
            f"{body(0)}\nconsole.log(String({result}));"
        )  # String(-0) is "0", log(-0) is "-0"
    if language == "c":
        return (
            f"int f({', '.join('int ' + n for n in names)}) {{\n{body(1)}\n    return {result};\n}}"
        )
    raise ValueError(f"the embedded world has no {language}; it has {', '.join(TARGETS)} and c")


# ---------------------------------------------------------------------------------------------- generation


def generate(rng, floor: bool) -> Program:
    """A random program. floor: whether `/` and `%` floor (a Python source) or truncate (C++)."""
    names = rng.choice((("a", "b", "c"), ("x", "y", "z"), ("n", "k", "m")))[
        : rng.choice((1, 2, 2, 3))
    ]
    division = "f" if floor else "t"
    var = lambda pool: ("var", rng.choice(pool))
    num = lambda lo, hi: ("num", rng.randint(lo, hi))
    roles, used = {}, list(names)

    def atom(pool):
        return var(pool) if rng.random() < 0.7 else num(1, 9)

    def expr(pool):
        r = rng.random()
        if r < 0.15:
            return var(pool)
        if r < 0.30:
            return (division + rng.choice(("div", "mod", "mod")), var(pool), num(2, 9))
        if r < 0.45:
            return (rng.choice("+-"), ("*", var(pool), num(2, 9)), atom(pool))
        return (rng.choice("+++--*"), var(pool), atom(pool))

    def cond(pool):
        r = rng.random()
        if r < 0.2:
            return (rng.choice(("==", "!=")), (division + "mod", var(pool), num(2, 5)), num(0, 2))
        return (
            rng.choice(("<", ">", "<", ">", "<=", ">=")),
            var(pool),
            var(pool) if len(pool) > 1 and r < 0.6 else num(0, 9),
        )

    def branch(v, pool):
        other = [("set", v, expr(pool))] if rng.random() < 0.65 else []
        return ("if", cond(pool), [("set", v, expr(pool))], other)

    def update(v, pool):
        return ("set", v, (rng.choice("+++-"), ("var", v), expr(pool)))

    def loop(v, i):
        pool = names_left() + [i]
        bound = var(names_left()) if rng.random() < 0.7 else num(3, 9)
        if bound[0] == "var":
            roles[bound[1]] = "count"
        body = (
            [update(v, pool)]
            if rng.random() < 0.6
            else [
                (
                    "if",
                    cond(pool),
                    [update(v, pool)],
                    [update(v, pool)] if rng.random() < 0.5 else [],
                )
            ]
        )
        return ("for", i, num(0, 2), bound, rng.random() < 0.5, body)

    def names_left():
        return [n for n in used if roles.get(n) != "digits"] or ["s"]

    body, kind = [("set", "s", num(0, 5) if rng.random() < 0.6 else expr(names))], rng.random()
    if kind < 0.2:  # digit work
        n = rng.choice(names)
        body = [("set", "s", num(0, 3))]
        roles[n] = "digits"
        if rng.random() < 0.5:
            step = ("set", "s", (rng.choice("++-"), ("var", "s"), ("digit", n)))
        else:
            compare = (
                rng.choice(("<", ">", "==")),
                ("digit", n),
                num(1, 8) if len(names) == 1 else var(names_left()),
            )
            step = (
                "if",
                compare,
                [("set", "s", (rng.choice("+-"), ("var", "s"), ("digit", n)))],
                [],
            )
        body.append(("digits", n, [step]))
        used.remove(n)
        body += [branch("s", names_left() + ["s"])] if rng.random() < 0.5 else []
    elif kind < 0.6:
        body.append(loop("s", "i"))
        body += [branch("s", names_left() + ["s"])] if rng.random() < 0.35 else []
    else:
        body.append(branch("s", [*names, "s"]))
        if rng.random() < 0.5:
            body += [("set", "t", expr([*names, "s"])), branch("s", [*names, "s", "t"])]
    return Program(tuple((n, roles.get(n, "value")) for n in names), body, "s")


def make_tests(program, rng, count=5) -> list | None:
    """`count` or more (inputs, output) that kill every killable single-site mutant, the most telling first; None when
    the program leaves 32 bits or prints too few different numbers to tell anything."""
    pool = list(
        {tuple(rng.randint(*RANGES[role]) for _, role in program.inputs) for _ in range(60)}
    )
    mutants = single_mutants(program)
    try:
        right = {values: run(program, values) for values in pool}
        kills = {
            values: {k for k, m in enumerate(mutants) if run(m, values) != right[values]}
            for values in pool
        }
    except OverflowError:
        return None
    if len(set(right.values())) < 4:
        return None
    chosen, alive = [], set().union(*kills.values())
    while alive:
        chosen.append(
            max((v for v in pool if v not in chosen), key=lambda v: len(kills[v] & alive))
        )
        alive -= kills[chosen[-1]]
    rest = [v for v in pool if v not in chosen]
    chosen += rest[: max(0, count - len(chosen))]
    return [(values, right[values]) for values in chosen]
