"""The embedded world: small programs from a grammar, what they compute, wrong habits, and tests.

A Program reads one to three integers and prints one. Its body is a list of statements, which are
tuples with the tag first:

    ("set", name, expression)                       ("if", condition, then, otherwise)
    ("for", name, low, high, inclusive, body)       ("digits", name, body)

"digits" runs its body while name > 0 and drops the last decimal digit each time. A condition is
(comparison, left, right). Expressions are

    ("var", name)   ("num", number)   ("digit", name)   ("+" or "-" or "*", left, right)
    ("fdiv" or "fmod" or "tdiv" or "tmod", left, right)

where "digit" is the last decimal digit of a value >= 0, and a division floors (Python's) or
truncates (C's). The languages disagree about negative operands, which is the trap a translator must
see: a Python source has the first pair, a C++ source the second. Values stay within 32 bits on
every test.

`rewrite` is the one place where errors live: a loop bound off by one, a comparison loosened, the
operands of minus swapped, the other language's division. A writer's errors are habits, and their
chance depends on the language that he writes. A reader's are misreadings: their chance depends on
what is read, so that they show in whatever is written.

The order of the random draws is part of the shipped data: another order makes other files.
"""

import itertools
import operator
from typing import NamedTuple

RANGES = {"count": (-2, 12), "value": (-30, 30), "digits": (0, 99_999)}  # role -> least and most
HABITS = ("bound", "compare", "minus", "division")
TARGETS = ("python", "cpp", "java", "php", "bash", "javascript")
MAX_VALUE = 2**31 - 1
MAX_STEPS = 10_000


class Program(NamedTuple):
    inputs: tuple[tuple[str, str], ...]  # (name, role) of each; role: a key of RANGES
    body: list  # statements
    result: str  # name of the variable that is printed


# ----------------------------------------------------------------------------------------- meaning


def truncated_quotient(left, right):
    """Division as C has it, for right > 0; Python's floors."""
    quotient = abs(left) // right
    return quotient if left >= 0 else -quotient


def truncated_remainder(left, right):
    """Remainder as C has it, for right > 0: it has the sign of left."""
    return left - right * truncated_quotient(left, right)


ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "fdiv": operator.floordiv,
    "fmod": operator.mod,
    "tdiv": truncated_quotient,
    "tmod": truncated_remainder,
}
COMPARISONS = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def run(program, values) -> int:
    """The printed integer. Raises OverflowError past 32 bits or MAX_STEPS steps."""
    names = [name for name, _ in program.inputs]
    machine = _Machine(dict(zip(names, values)))
    machine.execute(program.body)
    return machine.variables[program.result]


class _Machine:
    """Runs statements. variables: name -> value."""

    def __init__(self, variables):
        self.variables = variables
        self.steps_left = MAX_STEPS

    def execute(self, body):
        for statement in body:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise OverflowError("too many steps")
            match statement:
                case ("set", name, expression):
                    self.variables[name] = self.value(expression)
                case ("if", condition, then, otherwise):
                    self.execute(then if self.holds(condition) else otherwise)
                case ("for", name, low, high, inclusive, inner):
                    for i in range(self.value(low), self.value(high) + inclusive):
                        self.variables[name] = i
                        self.execute(inner)
                case ("digits", name, inner):
                    while self.variables[name] > 0:
                        self.execute(inner)
                        self.variables[name] //= 10

    def holds(self, condition):
        comparison, left, right = condition
        return COMPARISONS[comparison](self.value(left), self.value(right))

    def value(self, expression):
        match expression:
            case ("num", number):
                return number
            case ("var", name):
                return self.variables[name]
            case ("digit", name):
                return self.variables[name] % 10
        tag, left, right = expression
        result = ARITHMETIC[tag](self.value(left), self.value(right))
        if abs(result) > MAX_VALUE:
            raise OverflowError("past 32 bits")
        return result


def shape(program) -> str:
    """The program with names and numbers erased: programs of one shape are the same exercise."""
    return _erased(program.body)


def _erased(node):
    match node:
        case ("var" | "num" as tag, _):
            return tag
        case list() | tuple():
            return "(" + " ".join(map(_erased, node)) + ")"
        case str() if len(node) > 1 or not node.isalpha():
            return node  # a tag or an operator
        case _:
            return "_"  # a name, or whether a bound is inclusive


# ------------------------------------------------------------------------------------ wrong habits

OTHER_DIVISION = {"fdiv": "tdiv", "fmod": "tmod", "tdiv": "fdiv", "tmod": "fmod"}


def rewrite(node, wrong):
    """The same tree, wrong wherever wrong(habit, site) says so.

    wrong is called at every site where a habit can show, inner sites first, in a fixed order. site:
    the statement, condition or expression; what is inside has been rewritten."""
    if isinstance(node, list):
        return [rewrite(child, wrong) for child in node]
    if not isinstance(node, tuple):
        return node
    node = tuple(rewrite(child, wrong) for child in node)
    match node:
        case ("for", name, low, high, inclusive, body) if wrong("bound", node):
            return ("for", name, low, high, not inclusive, body)
        case ("<" | ">" as comparison, left, right) if wrong("compare", node):
            return (comparison + "=", left, right)
        case ("-", left, right) if wrong("minus", node):
            return ("-", right, left)
        case ("fdiv" | "fmod" | "tdiv" | "tmod" as tag, left, right) if wrong("division", node):
            return (OTHER_DIVISION[tag], left, right)
    return node


def with_other_division(program):
    """The program with every division of the other kind."""
    return program._replace(body=rewrite(program.body, lambda habit, site: habit == "division"))


def with_habits(program, rng, rates):
    """The program as a writer with habits draws it. rates: habit -> probability at every site."""

    def slips(habit, site):
        return rng.random() < rates[habit]

    return program._replace(body=rewrite(program.body, slips))


# What a reader is likely to misread: a habit, and what tells the constructs apart where it shows.
HARD = {("bound", "var"), ("compare", "num"), ("minus", "var"), ("division", "mod")}
MISREAD_HARD, MISREAD_EASY = 0.75, 0.2  # chances at a site


def misread(program, rng):
    """The program as a reader takes it who stumbles at HARD constructs, whatever he writes."""

    def stumbles(habit, site):
        hard = (habit, construct(habit, site)) in HARD
        return rng.random() < (MISREAD_HARD if hard else MISREAD_EASY)

    return program._replace(body=rewrite(program.body, stumbles))


def construct(habit, site):
    """The kind of a site: the tag of the bound or right operand; of a division, which it is."""
    match habit:
        case "bound":
            return site[3][0]
        case "division":
            return site[0][1:]
    return site[2][0]


def single_mutants(program) -> list:
    """Every program with exactly one site made wrong."""
    return [_with_wrong_site(program, i) for i in range(_count_sites(program))]


def _count_sites(program):
    habits = []

    def leave_right(habit, site):
        habits.append(habit)
        return False

    rewrite(program.body, leave_right)
    return len(habits)


def _with_wrong_site(program, number):
    numbers = itertools.count()

    def is_wrong(habit, site):
        return next(numbers) == number

    return program._replace(body=rewrite(program.body, is_wrong))


# -------------------------------------------------------------------------------------- generation


def generate(rng, floor: bool) -> Program:
    """A random program. rng: a random.Random.

    floor: whether its divisions floor (for a Python source) or truncate (for a C++ source)."""
    return _Generator(rng, floor).program()


class _Generator:
    """Draws one program, which works on "s" and prints it.

    A method's `names` are the variables that it may read. roles: inputs that the program uses as a
    loop bound ("count") or digit by digit ("digits"); the others are plain values."""

    def __init__(self, rng, floor):
        self.rng = rng
        self.choice = rng.choice
        self.division = "f" if floor else "t"
        names = rng.choice((("a", "b", "c"), ("x", "y", "z"), ("n", "k", "m")))
        self.inputs = names[: rng.choice((1, 2, 2, 3))]
        self.roles = {}

    def program(self):
        names = [*self.inputs, "s"]
        start = self.number(0, 5) if self.chance(0.6) else self.expression(self.inputs)
        body = [("set", "s", start)]
        kind = self.rng.random()
        if kind < 0.2:
            body = self.digit_work()  # which has a start of its own
        elif kind < 0.6:
            body.append(self.loop())
            if self.chance(0.35):
                body.append(self.branch(names))
        else:
            body.append(self.branch(names))
            if self.chance(0.5):
                body.append(("set", "t", self.expression(names)))
                body.append(self.branch([*names, "t"]))
        inputs = tuple((name, self.roles.get(name, "value")) for name in self.inputs)
        return Program(inputs, body, "s")

    # statements

    def digit_work(self):
        name = self.choice(self.inputs)
        self.roles[name] = "digits"
        digit = ("digit", name)
        others = [other for other in self.inputs if other != name]
        start = ("set", "s", self.number(0, 3))
        if self.chance(0.5):
            step = self.update("++-", digit)
        else:
            comparison = self.choice(("<", ">", "=="))
            limit = self.variable(others) if others else self.number(1, 8)
            step = ("if", (comparison, digit, limit), [self.update("+-", digit)], [])
        body = [start, ("digits", name, [step])]
        if self.chance(0.5):
            body.append(self.branch([*(others or ["s"]), "s"]))
        return body

    def loop(self):
        names = [*self.inputs, "i"]
        if self.chance(0.7):
            bound = self.variable(self.inputs)
            self.roles[bound[1]] = "count"
        else:
            bound = self.number(3, 9)
        body = [self.add(names) if self.chance(0.6) else self.conditional_add(names)]
        return ("for", "i", self.number(0, 2), bound, self.chance(0.5), body)

    def conditional_add(self, names):
        condition = self.condition(names)
        then = [self.add(names)]
        return ("if", condition, then, [self.add(names)] if self.chance(0.5) else [])

    def branch(self, names):
        otherwise = [self.assign(names)] if self.chance(0.65) else []
        return ("if", self.condition(names), [self.assign(names)], otherwise)

    def assign(self, names):
        return ("set", "s", self.expression(names))

    def add(self, names):
        sign = self.choice("+++-")
        return ("set", "s", (sign, ("var", "s"), self.expression(names)))

    def update(self, signs, digit):
        return ("set", "s", (self.choice(signs), ("var", "s"), digit))

    # conditions and expressions

    def condition(self, names):
        kind = self.rng.random()
        if kind < 0.2:
            comparison = self.choice(("==", "!="))
            remainder = (self.division + "mod", self.variable(names), self.number(2, 5))
            return (comparison, remainder, self.number(0, 2))
        comparison = self.choice(("<", ">", "<", ">", "<=", ">="))
        left = self.variable(names)
        if len(names) > 1 and kind < 0.6:
            return (comparison, left, self.variable(names))
        return (comparison, left, self.number(0, 9))

    def expression(self, names):
        kind = self.rng.random()
        if kind < 0.15:
            return self.variable(names)
        if kind < 0.30:
            tag = self.division + self.choice(("div", "mod", "mod"))
            return (tag, self.variable(names), self.number(2, 9))
        if kind < 0.45:
            sign = self.choice("+-")
            product = ("*", self.variable(names), self.number(2, 9))
            return (sign, product, self.atom(names))
        return (self.choice("+++--*"), self.variable(names), self.atom(names))

    def atom(self, names):
        return self.variable(names) if self.chance(0.7) else self.number(1, 9)

    def variable(self, names):
        return ("var", self.choice(names))

    def number(self, least, most):
        return ("num", self.rng.randint(least, most))

    def chance(self, probability):
        return self.rng.random() < probability


# ------------------------------------------------------------------------------------------- tests


def make_tests(program, rng, count=5) -> list | None:
    """`count` or more (inputs, output) that kill every single-site mutant that can be killed.

    A mutant is killed by inputs on which it prints another number. The tests that kill most come
    first. None if the program leaves 32 bits, or prints too few different numbers to tell
    anything."""
    pool = list({_draw_inputs(program, rng) for _ in range(60)})
    mutants = single_mutants(program)
    try:
        outputs = {inputs: run(program, inputs) for inputs in pool}
        killed = {inputs: _killed(mutants, inputs, outputs[inputs]) for inputs in pool}
    except OverflowError:
        return None
    if len(set(outputs.values())) < 4:
        return None
    chosen = _greedy_cover(killed)
    unused = [inputs for inputs in pool if inputs not in chosen]
    chosen += unused[: max(0, count - len(chosen))]
    return [(inputs, outputs[inputs]) for inputs in chosen]


def _draw_inputs(program, rng):
    return tuple(rng.randint(*RANGES[role]) for _, role in program.inputs)


def _killed(mutants, inputs, output):
    """Indices of the mutants that the test (inputs, output) kills."""
    return {i for i, mutant in enumerate(mutants) if run(mutant, inputs) != output}


def _greedy_cover(killed):
    """Inputs that together kill what can be killed; each kills the most of what is still alive.

    killed: inputs -> indices of the mutants that they kill."""
    chosen = []
    alive = set().union(*killed.values())
    while alive:
        unused = [inputs for inputs in killed if inputs not in chosen]
        best = max(unused, key=lambda inputs: len(killed[inputs] & alive))
        chosen.append(best)
        alive -= killed[best]
    return chosen
