"""Groups of translations to C++, which stands in for LLVM IR in the worlds of toy/probe.py and
bench/ablation.py: a group is of the same kind, in a language that the warm start can write. And
groups of IR with the same errors, for a warm start that writes IR.

Winners are right translations of one program: as the world writes it, and with operands that
changed places. Loser j is form j with one habit (toy/world.py); a test that it fails shows that it
is wrong. Shapes: n winners, m losers.
"""

import itertools
import random

from tqdm import tqdm

from data import ir_prompt, translation_prompt
from llvm import winners as irs_of
from toy.make import heldout, make_problem
from toy.render import render
from toy.world import run, single_mutants

FORMS = 4  # right translations that a program must have, so that all n x m see the same programs
MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
MIRRORED |= {operator: operator for operator in ("+", "*", "==", "!=")}


def group_rows(count, seed, held):
    """`count` groups of two winners and two losers, as rows of a file of groups.

    seed: a text. held: whether their programs are of the held-out shapes."""
    rows = []
    for row, winners, losers in drawn_groups(seed, held):
        if len(rows) == count:
            return rows
        rows.append(
            {
                "id": f"cpp-{len(rows):03d}",
                "language": row["source_language"],
                "target_language": "cpp",
                "source": row["source"],
                "winners": [text for _, text in winners[:2]],
                "losers": [text for _, text in losers[:2]],
            }
        )


def cpp_rows(seed, n, m):
    """Endless (prompt, fence, winners, losers); the last two are lists of (form, text)."""
    for row, winners, losers in drawn_groups(seed, held=False):
        yield translation_prompt(row), "cpp", winners[:n], losers[:m]


def ir_group_rows(count, seed, held):
    """The same of LLVM IR: winners are a program at O1 and Oz, losers have one habit."""
    rows = []
    for source, winners, losers in tqdm(
        itertools.islice(drawn_ir_groups(seed, held), count),
        total=count,
        desc="groups of IR",
        unit="group",
    ):
        row = {"id": f"ir-{len(rows):03d}", "language": "c", "source": source}
        rows.append({**row, "winners": winners, "losers": losers})
    return rows


def ir_rows_with_habits(seed, held):
    """Endless (prompt, fence, winners, losers), as cpp_rows; a form is an optimisation level."""
    for source, winners, losers in drawn_ir_groups(seed, held):
        yield ir_prompt(source), "llvm", list(enumerate(winners)), list(enumerate(losers))


def drawn_ir_groups(seed, held):
    """Endless (C source, winners, losers), two texts of IR each. Compiled in the sandbox.

    seed: a text. held: whether the programs are of the held-out shapes."""
    rng = random.Random(seed)
    while True:
        program, row = make_problem(rng, "cpp", held)
        source = render(program, "c")
        wrong = wrong_mutants(program, row, "c")
        if not wrong:
            continue
        winners = _irs(source)
        losers = _irs(render(rng.choice(wrong), "c"))
        if len(winners) == len(losers) == 2 and not set(winners) & set(losers):
            yield source, winners, losers


def _irs(source):
    """Its IRs at O1 and Oz; those that are equal once: a list of texts."""
    return list(dict.fromkeys(ir.rstrip("\n") for ir in irs_of(source, ["O1", "Oz"]).values()))


def drawn_groups(seed, held):
    """Endless (row of the problem, winners, losers), FORMS of each as (form, text).

    seed: a text. held: whether their programs are of the held-out shapes."""
    rng = random.Random(seed)
    while True:
        program, row = make_problem(rng, "cpp", held)
        winners, losers = [], []
        for number, form in enumerate(equivalent_forms(program, rng)):
            wrong = wrong_mutants(form, row, "cpp")
            if wrong:
                winners.append((number, render(form, "cpp")))
                losers.append((number, render(rng.choice(wrong), "cpp")))
        if len(losers) == FORMS:
            yield row, winners, losers


def equivalent_forms(program, rng):
    """Up to FORMS programs that compute the same and differ as text; the first is the program.

    All are of held-out shapes, or none."""
    forms = {render(program, "cpp"): program}
    held = heldout(program)
    for _ in range(4 * FORMS):
        form = program._replace(body=commuted(program.body, rng))
        if len(forms) < FORMS and heldout(form) == held:
            forms.setdefault(render(form, "cpp"), form)
    return list(forms.values())


def commuted(node, rng):
    """The same tree; the operands of +, * and of comparisons change places, each by a coin."""
    if isinstance(node, list):
        return [commuted(child, rng) for child in node]
    if not isinstance(node, tuple):
        return node
    node = tuple(commuted(child, rng) for child in node)
    if node[0] in MIRRORED and rng.random() < 0.5:
        operator, left, right = node
        return (MIRRORED[operator], right, left)
    return node


def wrong_mutants(program, row, language):
    """The program with one habit, for each site where the text shows it and a test of row fails."""
    right = render(program, language)
    mutants = []
    for mutant in single_mutants(program):
        if render(mutant, language) != right and not passes(mutant, row["tests"]):
            mutants.append(mutant)
    return mutants


def passes(program, tests):
    for test in tests:
        if run(program, map(int, test["stdin"].split())) != int(test["stdout"]):
            return False
    return True
