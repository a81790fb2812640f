"""pass@k, its interval and its table."""

import functools
import json
import math
import random
import subprocess
import sys
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

import evaluate as evaluation
import rollout
from conftest import ROOT
from evaluate import MODELS_WRITE, evaluate, old_tool, pass_at_k, scores, table, wilson
from judge.languages import LANGUAGES
from judge.verdict import Verdict
from rollout import generate


def test_pass_at_k_is_the_chance_of_a_pass_among_k():
    assert pass_at_k(5, 0, 3) == 0 and pass_at_k(5, 3, 3) == 1 and pass_at_k(1, 1, 1) == 1
    rng, draws = random.Random(0), 20_000
    seen = sum(any(x < 3 for x in rng.sample(range(10), 4)) for _ in range(draws)) / draws
    assert abs(pass_at_k(10, 3, 4) - seen) < 0.015


def test_wilson():
    low, high = wilson(0.5, 100)
    assert (
        abs(low - 0.4038) < 1e-4 and abs(high - 0.5962) < 1e-4
    )  # Wilson 1927, as in every table of it
    low, high = wilson(1.0, 20)
    assert 0.8 < low < 0.9 and math.isclose(high, 1.0)


def test_evaluate_gives_each_problem_its_own_verdicts(tiny):
    """A made-up judge that passes what begins with an even token; one sample's judge fails."""
    asked = []

    class Pool:
        def submit(self, problem, text, form):
            asked.append((problem["id"], text))
            first, future = int(text.split()[0]), Future()
            future.set_result(
                Verdict("JE", None)
                if len(asked) == 5
                else Verdict("AC", 1.0)
                if first % 2 == 0
                else Verdict("WA", 0.0)
            )
            return future

    tokenizer = SimpleNamespace(
        eos_ids={0},
        decode=lambda ids: " ".join(map(str, ids)),
        chat_prompt=lambda text: [len(text) % 61, 7],
    )
    problems = [
        {"id": str(i), "source_language": "python", "target_language": "php", "source": "x" * i}
        for i in range(1, 5)
    ]
    rows = evaluate(tiny, tokenizer, problems, Pool(), samples=3, temperature=1.0, max_new_tokens=4)
    assert [(r["id"], t) for r in rows for t in r["completions"]] == asked and len(asked) == 12
    even = [int(text.split()[0]) % 2 == 0 for _, text in asked]
    for k, r in enumerate(rows):
        want = ["JE" if 3 * k + i == 4 else "AC" if even[3 * k + i] else "WA" for i in range(3)]
        assert (
            r["verdicts"] == want
            and r["n"] == 3 - want.count("JE")
            and r["passed"] == want.count("AC")
        )
    assert 0 < sum(even) < 12


def test_judging_starts_while_sampling_goes_on(tiny, monkeypatch):
    """With the samples of one call of generate(), in the order of problems."""
    problems = [
        {"id": str(i), "source_language": "python", "target_language": "php", "source": "x" * i}
        for i in range(7)
    ]
    prompts = [[1 + i, *[7] * (5 * i % 7)] for i in range(7)]
    settings = {"samples": 3, "temperature": 1.0, "max_new_tokens": 6, "seed": 5}
    groups = generate(tiny, prompts, eos_ids={0}, **settings)
    wanted = [[str(ids.tolist()) for ids in group.responses] for group in groups]
    events = []  # a step of sampling, or the problem of a submission
    real = rollout.Engine.decode

    def decode(engine):
        events.append("step")
        return real(engine)

    class Pool:
        def submit(self, problem, text, form):
            events.append(problem["id"])
            future = Future()
            future.set_result(Verdict("AC", 1.0))
            return future

    monkeypatch.setattr(rollout.Engine, "decode", decode)
    cache_tokens = 2 * (7 + 6) * 3  # for the samples of two problems
    small = functools.partial(generate, cache_tokens=cache_tokens)
    monkeypatch.setattr(evaluation, "generate", small)
    tokenizer = SimpleNamespace(
        eos_ids={0}, decode=str, chat_prompt=lambda text: prompts[text.count("x")]
    )
    monkeypatch.setattr(evaluation, "question", lambda problem: problem["source"])
    rows = evaluate(tiny, tokenizer, problems, Pool(), **settings)
    assert [row["completions"] for row in rows] == wanted
    assert [row["id"] for row in rows] == [problem["id"] for problem in problems]
    submissions = [event for event in events if event != "step"]
    assert sorted(submissions) == sorted([str(i) for i in range(7)] * 3)
    first, last = events.index(submissions[0]), len(events) - 3
    assert "step" in events[first:last]
    assert evaluate(tiny, tokenizer, [], Pool()) == []


def test_old_tools_are_told():
    assert MODELS_WRITE.keys() == LANGUAGES.keys()
    low = "models write for {} and later, so that this is low"
    for language, old, new in (
        ("python", "Python 3.9.2", "Python 3.10.1"),
        ("cpp", "C++17, g++ (Debian 12.2.0-14+deb12u1) 12.2.0", "C++20, g++ (Debian 12.2.0)"),
        ("java", "javac 11.0.2", "javac 17.0.15"),
        ("go", "go version go1.19.8 linux/amd64", "go version go1.21 linux/amd64"),
        ("csharp", "C# 6 and part of 7, Mono C# compiler version 6.12", "C# of .NET, 8.0.404"),
        ("scala", "Scala 2.11, Scala compiler version 2.11.12", "Scala 2.13, openjdk 17.0.15"),
        ("javascript", "v16.1.0", "v20.20.2"),
    ):
        needed = MODELS_WRITE[language]
        assert old_tool(language, old) == f"{language}: {low.format(needed)}: {old}\n"
        assert old_tool(language, new) == ""
    assert old_tool("cobol", "GnuCOBOL") == ""


def row(source, target, verdicts):
    return {
        "id": "x",
        "source_language": source,
        "target_language": target,
        "completions": [],
        "verdicts": verdicts,
        "n": sum(v != "JE" for v in verdicts),
        "passed": verdicts.count("AC"),
    }


def test_scores_leave_judge_errors_out():
    rows = [
        row("python", "php", ["AC", "WA"]),
        row("cpp", "php", ["JE", "AC"]),
        row("cpp", "bash", ["JE", "JE"]),
    ]
    got = scores(rows)
    assert (
        got["all", "php"] == (0.75, 2)
        and got["python", "php"] == (0.5, 1)
        and ("all", "bash") not in got
    )
    pairs = [("python", "php"), ("all", "php"), ("python", "all"), ("all", "all")]
    assert scores(rows, k=2) == dict.fromkeys(pairs, (1.0, 1))
    text = table({"before": rows, "after": rows})
    assert (
        "any -> php                      2" in text
        and "judge errors, left out: {'before': 3, 'after': 3}" in text
    )


@pytest.mark.parametrize(
    "failure, reason", [(KeyboardInterrupt(), "interrupted"), (OSError(28, "No space"), "No space")]
)
def test_a_command_that_is_cut_off_keeps_its_rows(failure, reason, tmp_path, monkeypatch, capsys):
    """Of three problems two are judged when it happens."""
    lines = (ROOT / "toy" / "heldout.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "p.jsonl").write_text("".join(lines[:3]))

    class Pool:
        asked = 0

        def submit(self, problem, text, form):
            self.asked += 1
            if self.asked == 3:
                raise failure
            future = Future()
            future.set_result(Verdict("WA", 0.0))
            return future

    monkeypatch.setattr(evaluation, "judge_pool", lambda workers: nullcontext(Pool()))
    monkeypatch.setattr(evaluation, "check_canaries", lambda pool, languages: None)
    flags = ["--model", ROOT / "toy" / "model", "--problems", tmp_path / "p.jsonl"]
    flags += ["--max-new-tokens", 4, "--out", tmp_path / "e.jsonl"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        evaluation.main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert end.value.code == 2 and last.startswith("evaluate.py: ") and reason in last
    assert last.endswith("e.jsonl has the rows of 2 problems")
    rows = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 2
    assert all(row["verdicts"] == ["WA"] and row["n"] == 1 for row in rows)


def test_command_line(tmp_path, monkeypatch, capsys):
    with open(ROOT / "toy" / "heldout.jsonl") as lines:
        problems = [json.loads(line) for line in lines]
    problems = [p for p in problems if p["target_language"] == "bash"][:4]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(p) + "\n" for p in problems))
    flags = ["--model", ROOT / "toy" / "model", "--problems", tmp_path / "p.jsonl"]
    flags += ["--samples", 3, "--temperature", 1, "--k", 2, "--max-new-tokens", 128]
    flags = [*map(str, flags), "--out", str(tmp_path / "e.jsonl")]
    command = [sys.executable, ROOT / "evaluate.py", *flags]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "any -> bash" in result.stdout and "pass@2" in result.stdout
    assert "models write" not in result.stdout  # for Bash
    rows = [json.loads(line) for line in open(tmp_path / "e.jsonl")]
    assert [r["id"] for r in rows] == [p["id"] for p in problems]
    assert all(len(r["verdicts"]) == 3 for r in rows)

    def refused(flags):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *flags])
        with pytest.raises(SystemExit) as end:
            evaluation.main()
        assert end.value.code == 2
        return capsys.readouterr().err

    assert "exists, or its folder does not" in refused(flags)
    for more, message in (
        (["--k", "9"], "1 <= --k <= --samples"),
        (["--temperature", "0"], "3 times the same"),
        (["--problems", str(tmp_path / "none.jsonl")], "none.jsonl: cannot be read"),
        (["--model", str(tmp_path)], "no tokenizer.json and no tokenizer.model"),
    ):
        assert message in refused([*flags[:-2], *more])
