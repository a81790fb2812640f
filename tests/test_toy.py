"""The embedded world is honest.

Every rendering means what the evaluator says, and the shipped files are what they claim to be."""

import collections
import itertools
import json
import os
import random
import subprocess

import numpy as np
import pytest

from conftest import ROOT
from data import (
    ir_prompt,
    ir_response,
    load_tokenizer,
    read_groups,
    read_problems,
    translation_prompt,
)
from judge.languages import LANGUAGES, why_missing
from reward import judge
from toy import make
from toy.make import heldout, make_problem
from toy.render import render
from toy.world import (
    HABITS,
    TARGETS,
    Program,
    generate,
    make_tests,
    misread,
    rewrite,
    run,
    shape,
    single_mutants,
    with_habits,
)

PROBLEMS = read_problems(ROOT / "toy" / "problems.jsonl")
HELD_OUT = read_problems(ROOT / "toy" / "heldout.jsonl")


def programs(count, seed=0):
    """`count` pairs of a program and its tests, as rows have them."""
    rng = random.Random(seed)
    while count:
        program = generate(rng, rng.random() < 0.5)
        tests = make_tests(program, rng)
        if tests:
            count -= 1
            yield program, [as_row(inputs, output) for inputs, output in tests]


def as_row(inputs, output):
    return {"stdin": " ".join(map(str, inputs)) + "\n", "stdout": f"{output}\n"}


@pytest.mark.parametrize("language", TARGETS)
def test_every_rendering_passes_the_tests(language):
    mend = why_missing(LANGUAGES[language])
    if mend and os.environ.get("CI") != "true":
        pytest.skip(mend)
    for program, tests in programs(3 if language == "java" else 8, seed=language):
        text = render(program, language)
        verdict = judge(
            {"target_language": language, "tests": tests}, f"```{language}\n{text}\n```"
        )
        assert verdict.status == "AC", f"{text}\n{verdict}"


def test_c_functions_compute_the_same(tmp_path):
    for program, tests in programs(6):
        arity = len(program.inputs)
        reads = "".join(f'scanf("%d", v + {i});' for i in range(arity))
        values = ", ".join(f"v[{i}]" for i in range(arity))
        (tmp_path / "f.c").write_text(
            f"#include <stdio.h>\n{render(program, 'c')}\nint main() {{ int v[3]; {reads} "
            f'printf("%d\\n", f({values})); }}'
        )
        subprocess.run(["gcc", "-w", "-o", tmp_path / "f", tmp_path / "f.c"], check=True)
        for test in tests:
            ran = subprocess.run(
                [tmp_path / "f"], input=test["stdin"], capture_output=True, text=True
            )
            assert ran.stdout == test["stdout"]


def test_languages_part_at_negative_operands():
    def divided_by_4(division):
        body = [("set", "s", (division, ("var", "a"), ("num", 4)))]
        return Program((("a", "value"),), body, "s")

    divisions = ("fdiv", "fmod", "tdiv", "tmod")
    assert [run(divided_by_4(division), [-7]) for division in divisions] == [-2, 1, -1, -3]
    assert "// 4" in render(divided_by_4("fdiv"), "python")
    assert "int(a / 4)" in render(divided_by_4("tdiv"), "python")
    assert "(a % 4 + 4) % 4" in render(divided_by_4("fmod"), "cpp")
    assert "s = a % 4;" in render(divided_by_4("tmod"), "cpp")


def test_every_killable_mutant_is_killed():
    rng = random.Random(1)
    killed = alive = 0
    for program, tests in programs(60):
        inputs = [list(map(int, t["stdin"].split())) for t in tests]
        assert len(tests) >= 5 and len({t["stdin"] for t in tests}) == len(tests)
        for mutant in single_mutants(program):
            fails = any(run(mutant, i) != int(t["stdout"]) for i, t in zip(inputs, tests))
            elsewhere = [tuple(rng.randint(-9, 9) for _ in program.inputs) for _ in range(30)]
            killed += fails
            alive += not fails and any(run(mutant, i) != run(program, i) for i in elsewhere)
    assert killed > 60 and alive < 0.1 * killed  # what survives differs on rare inputs only


def test_habits_are_drawn_at_their_rate():
    program = Program(
        (("a", "value"), ("b", "value")), [("set", "s", ("-", ("var", "a"), ("var", "b")))], "s"
    )
    rng, rates = random.Random(0), dict.fromkeys(HABITS, 0.6)
    wrong = sum(with_habits(program, rng, rates) != program for _ in range(2000))
    assert 0.56 < wrong / 2000 < 0.64
    assert rewrite(program.body, lambda habit, site: False) == program.body


def printing(expression):
    """The program that prints an expression of a and b."""
    return Program((("a", "value"), ("b", "value")), [("set", "s", expression)], "s")


def counting(high):
    """The program that counts to a bound."""
    body = [("set", "s", ("num", 0)), ("for", "i", ("num", 0), high, True, [])]
    return Program((("a", "count"), ("b", "value")), body, "s")


def branching(right):
    """The program that compares a with an operand."""
    then = [("set", "s", ("num", 2))]
    body = [("set", "s", ("num", 1)), ("if", ("<", ("var", "a"), right), then, [])]
    return Program((("a", "value"), ("b", "value")), body, "s")


A, B, THREE = ("var", "a"), ("var", "b"), ("num", 3)


@pytest.mark.parametrize(
    "hard, easy",
    [
        (printing(("-", A, B)), printing(("-", A, THREE))),
        (counting(A), counting(THREE)),
        (branching(THREE), branching(B)),
        (printing(("tmod", A, THREE)), printing(("tdiv", A, THREE))),
    ],
    ids=["minus", "bound", "compare", "division"],
)
def test_a_reader_errs_by_the_construct(hard, easy):
    rng = random.Random(0)
    for program, chance in ((hard, 0.75), (easy, 0.2)):
        wrong = sum(misread(program, rng) != program for _ in range(2000))
        assert abs(wrong / 2000 - chance) < 0.04


def test_a_reader_errs_whatever_he_writes(monkeypatch):
    """In translations to every language, and in what is compiled to IR."""
    program = printing(("-", A, B))
    monkeypatch.setattr(make, "generate", lambda rng, floor: program)
    monkeypatch.setattr(make, "heldout", lambda program: False)
    monkeypatch.setattr(make, "_irs", lambda source: [source])
    wrong = {target: [] for target in TARGETS}
    for _, answer in itertools.islice(make.pairs(0, [], ir_share=0, misreads=True), 3000):
        target = answer[3:].split("\n")[0]
        wrong[target].append(render(program, target) not in answer)
    wrong["llvm"] = []
    for source, written in make.make_ir_rows(0, 400, misreads=True):
        assert source == render(program, "c")
        wrong["llvm"].append(source != written)
    for language, draws in wrong.items():
        assert len(draws) >= 400 and 0.67 < np.mean(draws) < 0.83, language


@pytest.mark.parametrize("more", [["--ir-habits", "0.5"], ["--only", "data"], []])
def test_a_reader_is_made_into_a_folder_of_his_own(more, monkeypatch, capsys, tmp_path):
    model = ["--model", str(tmp_path)] if more else []
    argv = ["toy.make", "--misread", "--only", "model", *model, *more]
    monkeypatch.setattr(make.sys, "argv", argv)
    with pytest.raises(SystemExit):
        make.main()
    assert "--misread takes --only model and --model DIR" in capsys.readouterr().err


def test_shipped_data_is_what_the_script_makes_and_held_out_shapes_are_new(monkeypatch):
    made = {}
    programs = {False: [], True: []}

    def write_rows(name, rows):
        made[name] = rows

    def watched(rng, target, held):
        programs[held].append(make_problem(rng, target, held))
        return programs[held][-1]

    monkeypatch.setattr(make, "write_rows", write_rows)
    monkeypatch.setattr(make, "make_problem", watched)
    make.make_data(0)
    for name, rows in made.items():
        assert rows == [json.loads(line) for line in open(ROOT / "toy" / name)], name
    trained = {shape(program) for program, _ in programs[False]}
    for program, _ in programs[True]:  # nor does another way to divide make a program new
        twin = program._replace(body=rewrite(program.body, lambda habit, site: habit == "division"))
        assert not {shape(program), shape(twin)} & trained
        assert heldout(program) and heldout(twin)


def test_shipped_problems_have_right_tests():
    """Source programs run on each of their tests; few C++ ones, because they must be compiled."""
    counts = collections.Counter(p["target_language"] for p in HELD_OUT)
    assert len(HELD_OUT) >= 200 and len(counts) == 6 and min(counts.values()) >= 30
    python_sources = [p for p in HELD_OUT if p["source_language"] == "python"]
    cpp_sources = [p for p in PROBLEMS if p["source_language"] == "cpp"]
    for p in python_sources[:25] + cpp_sources[:5]:
        assert len(p["tests"]) >= 5
        verdict = judge(
            {**p, "target_language": p["source_language"]},
            f"```{p['source_language']}\n{p['source']}\n```",
        )
        assert verdict.status == "AC", (p["id"], verdict)


def test_shipped_groups_fit_and_are_groups():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    rows = read_groups(ROOT / "toy" / "ir_groups.jsonl")
    assert len(rows) >= 100
    for row in rows:
        assert len(row["winners"]) >= 2 and len(row["losers"]) >= 2
        assert not set(row["winners"]) & set(row["losers"])
        answer = ir_response(row["winners"][0])
        assert tokenizer.decode(tokenizer.encode(answer)) == answer
        assert row["source"].strip() in ir_prompt(row["source"])


def test_prompts_are_short_and_size_is_small():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    assert max(len(tokenizer.chat_prompt(translation_prompt(p))) for p in PROBLEMS + HELD_OUT) < 200
    shipped = sum(f.stat().st_size for f in (ROOT / "toy" / "model").iterdir())
    assert shipped <= 8 << 20
    assert json.loads((ROOT / "toy" / "model" / "config.json").read_text())["model_type"] == "qwen3"
