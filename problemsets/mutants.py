"""Programs with one edit, to see which tests would catch a wrong translation.

    mutants(Solution("python", "print(1 < 2)"), 12, rng) -> [Solution, ...]

In the spirit of llvm/mutate.py: another comparison, another constant, another operator, a statement
dropped. Python is edited as a tree of `ast`, all other languages as tokens of C, which is what
they have in common; an edit that does not compile is no mutant. Left out: edits of strings, and of
what sets a variable first.
"""

import ast
import re

from problemsets.record import Solution

COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
# Of C: comments, strings, characters, and lines of the preprocessor.
NOISE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|^\s*#[^\n]*", re.M | re.S
)
# kind of edit -> what is edited. A "<" without space around it may be that of a template.
TOKENS = {
    "comparison": r"(?<=\s)[<>](?=\s)|[<>=!]=",
    "operator": r"[-+*]=|&&|\|\||(?<=[\w)\] ])[-+*/%](?=[\w(\[ ])",
    "constant": r"(?<![\w.])\d+(?![\w.])",
    "statement": r"(?<=[;{}])\s*[\w.\[\]]+\s*(?:[-+*/%|&^]=|\.push)[^;{}]*;",
}
OTHER = dict(
    swap.split()
    for swap in ("< <=", "<= <", "> >=", ">= >", "== !=", "!= ==", "+= -=", "-= +=", "*= +=")
)
OTHER |= {"&&": "||", "||": "&&", "+": "-", "-": "+", "*": "+", "/": "*", "%": "/"}


def mutants(solution, count, rng):
    """Up to `count` programs that differ from the solution in one place: list of Solution.

    rng: random.Random. Kinds of edits take turns, so that none crowds out the others."""
    edit = _python_mutants if solution.language == "python" else _token_mutants
    texts = {}  # kind of edit -> programs
    for kind, text in edit(solution.source):
        texts.setdefault(kind, []).append(text)
    for kind in texts:
        rng.shuffle(texts[kind])
    chosen = {}  # a dict, because it keeps the order
    while len(chosen) < count and any(texts.values()):
        for queue in filter(None, texts.values()):
            chosen.setdefault(queue.pop())
    return [Solution(solution.language, text) for text in list(chosen)[:count]]


def _python_mutants(source):
    """(kind, program) of every edit. A source that does not parse has none.

    They end where `ast` cannot write one: an expression of hundreds of terms is too deep."""
    try:
        tree = ast.parse(source)
        for node in list(ast.walk(tree)):
            for kind, place, key, new in _python_edits(node):
                old = place[key]
                place[key] = new
                yield kind, ast.unparse(tree) + "\n"
                place[key] = old
    except (SyntaxError, ValueError, RecursionError):
        return


def _python_edits(node):
    """(kind, dict or list, key, what to put there) of every edit of a node."""
    fields = vars(node)
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            if type(operator) in COMPARISONS:
                yield "comparison", node.ops, i, COMPARISONS[type(operator)]()
    elif type(fields.get("op")) in OPERATORS:
        yield "operator", fields, "op", OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", fields, "value", not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "constant", fields, "value", node.value + 1
        yield "constant", fields, "value", node.value - 1
    for body in ("body", "orelse"):
        statements = fields.get(body)
        for i, statement in enumerate(statements if isinstance(statements, list) else []):
            calls = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            if calls or isinstance(statement, ast.AugAssign):
                yield "statement", statements, i, ast.Pass()


def _token_mutants(source):
    """(kind, program) of every edit outside of NOISE."""
    code = NOISE.sub(_blank, source)  # as long as the source
    for kind, pattern in TOKENS.items():
        for match in re.finditer(pattern, code):
            for new in _token_edits(kind, match[0]):
                yield kind, source[: match.start()] + new + source[match.end() :]


def _token_edits(kind, token):
    if kind == "statement":
        return [";"]
    if kind == "constant":
        return [str(int(token) + 1), str(max(0, int(token) - 1))]
    return [OTHER[token]]


def _blank(match):
    return re.sub(r"[^\n]", " ", match[0])
