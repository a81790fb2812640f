"""bench/ablation.py: which runs it starts, and what it says of runs whose results are known."""

import itertools
import json
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import llvm
from bench import ablation
from config import parse_config
from data import read_groups, read_problems
from toy import translations
from toy.make import heldout, make_problem
from toy.render import render

# The share of problems that each arm solves after training. The null is as good as GEPO.
SOLVES = {
    "RL": 0.5,
    "RL + DPO": 0.5,
    "RL + GEPO": 0.7,
    "RL + GEPO, lambda 0": 0.6,
    "RL + GEPO, labels at random": 0.7,
    "RL + GEPO on IR": 0.3,
    "RL + GEPO on IR, lambda 0": 0.4,
    "RL + GEPO on IR, weight 0.1": 0.5,
    "GEPO": 0.1,
    "GEPO, labels at random": 0.1,
}
PROBLEMS = 200


def scores(name, share):
    coin = random.Random(name)
    for i in range(PROBLEMS):
        row = {"id": f"p{i}", "target_language": ("php", "bash")[i % 2], "n": 1}
        yield {**row, "passed": int(coin.random() < share)}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder, share):
    """A run that has ended, with the scores before it beside it."""
    (folder / "step-000007").mkdir(parents=True)
    steps = [{"reward": step / 10} for step in range(10)]
    groups = [{"logp_margin_before": -1, "logp_margin_after": 2 * (i % 4) - 1} for i in range(8)]
    write_rows(folder / "metrics.jsonl", steps)
    write_rows(folder / "eval-ir.jsonl", groups)
    write_rows(folder / "eval-after.jsonl", scores(folder.name, share))
    write_rows(folder / "sampled-after.jsonl", scores(folder.name + " sampled", share - 0.1))
    for name in ("eval", "sampled"):
        write_rows(folder.parent / f"{name}-before.jsonl", scores("before", 0.3))


@pytest.fixture(autouse=True)
def few_groups(monkeypatch):
    monkeypatch.setattr(ablation, "HELD_OUT_GROUPS", 8)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """train.py and evaluate.py, replaced: runs end at once, with the results of SOLVES."""
    commands = []

    def run(command, **options):
        _, program, *flags = command
        if program == "train.py":
            config = parse_config(flags)  # flags that exist, with values in range
            folder = Path(config.out)
            arms = [a for a in SOLVES if ablation.folder_of(tmp_path, a, config.seed) == folder]
            commands.append((arms[0], config))
            write_run(folder, SOLVES[arms[0]])
        else:
            Path(flags[flags.index("--out") + 1]).touch()
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(ablation.subprocess, "run", run)
    return commands


def ablate(monkeypatch, capsys, tmp_path, *flags):
    few = [] if "--report" in flags else ["--groups", "40"]
    argv = ["bench/ablation.py", str(tmp_path), *few, *flags]
    monkeypatch.setattr(sys, "argv", argv)
    ablation.main()
    *_, last = printed = capsys.readouterr().out.splitlines()
    found = {(row["of"], row["less"]): row for row in json.loads(last)["differences"]}
    return "\n".join(printed), found


def test_another_model_and_flags(trained, monkeypatch, capsys, tmp_path):
    """The embedded world's values, then what is given, then the arm's; one model in one folder."""
    flags = ["--seeds", "1", "--arms", "RL", "--scored", "7", "--flags=--lr 1e-5 --off-policy dpo"]
    ablate(monkeypatch, capsys, tmp_path, "--model", "toy/OUT", *flags)
    ((_, config),) = trained
    assert config.model == str(Path("toy/OUT").resolve())
    assert config.lr == 1e-5 and config.off_policy == "none" and config.gepo_logp == "mean"
    assert len((tmp_path / "heldout.jsonl").read_text().splitlines()) == 7
    with pytest.raises(SystemExit, match=r"settings.json has other settings"):
        ablate(monkeypatch, capsys, tmp_path, *flags)


def test_all_arms_on_all_seeds_and_what_they_show(trained, monkeypatch, capsys, tmp_path):
    printed, found = ablate(monkeypatch, capsys, tmp_path, "--seeds", "3", "--steps", "7")
    assert [arm for arm, _ in trained] == list(SOLVES) * 3
    configs = dict(trained)
    assert {config.steps for config in configs.values()} == {7}
    assert configs["RL"].off_policy == "none" and configs["RL + DPO"].off_policy == "dpo"
    assert configs["RL + GEPO, lambda 0"].lam == 0 and configs["RL + GEPO"].lam == 1
    assert (configs["GEPO"].w_rl, configs["GEPO"].kl_coef) == (0, 0)
    assert configs["RL + GEPO, labels at random"].ir_groups == str(tmp_path / "random.jsonl")

    assert configs["RL + GEPO on IR"].ir_groups == "toy/ir_groups.jsonl"
    others = {config.ir_groups for arm, config in configs.items() if "IR" not in arm}
    assert others == {str(tmp_path / "groups.jsonl"), str(tmp_path / "random.jsonl")}

    gain = found["RL + GEPO", "RL"]
    for _, low, high in (gain["greedy"], gain["held out"]):
        assert 5 < low < 20 < high
    assert gain["seeds"] == 3
    points, low, high = found["GEPO", "before"]["greedy"]  # from 30 to 10 %
    assert -30 < low < points < high < -10
    _, low, high = found["RL + GEPO", "RL + GEPO, labels at random"]["greedy"]
    assert low < 0 < high < 12
    rows = [row for row in printed.splitlines() if row.startswith("| RL + GEPO |")]
    assert rows[0].endswith("| 70.0 | 75.0 |")  # rewards of steps 5 to 9, groups ahead
    assert "| php | bash (held out) |" in printed and "| before |" in printed


def test_a_gain_in_the_held_out_languages_alone(trained, monkeypatch, capsys, tmp_path):
    for seed in (0, 1):
        for arm, share in (("RL", 0.5), ("RL + GEPO", 0.5)):
            write_run(ablation.folder_of(tmp_path, arm, seed), share)
        path = ablation.folder_of(tmp_path, "RL + GEPO", seed) / "eval-after.jsonl"
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        for row in rows:
            row["passed"] = int(row["target_language"] == "bash")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, found = ablate(monkeypatch, capsys, tmp_path, "--report")
    gain = found["RL + GEPO", "RL"]
    assert gain["held out"][0] > 40 and abs(gain["greedy"][0]) < 10


def test_the_world(trained, monkeypatch, capsys, tmp_path):
    """Half of the groups change places; no problem is into a language that is held out."""
    ablate(monkeypatch, capsys, tmp_path, "--seeds", "1", "--arms", "RL,RL + GEPO")
    rows, changed, held_out = (
        read_groups(tmp_path / f"{name}.jsonl") for name in ("groups", "random", "heldout_groups")
    )
    assert [row["id"] for row in rows] == [row["id"] for row in changed]
    swapped = 0
    for row, other in zip(rows, changed):
        assert {*map(str, (row["winners"], row["losers"]))} == {
            *map(str, (other["winners"], other["losers"]))
        }
        swapped += row["winners"] == other["losers"]
    assert 0.3 < swapped / len(rows) < 0.7
    assert not {row["source"] for row in rows} & {row["source"] for row in held_out}
    targets = {row["target_language"] for row in read_problems(tmp_path / "problems.jsonl")}
    assert targets == {"python", "cpp", "java", "php"}


def test_groups_of_ir(monkeypatch, tmp_path):
    """Two IRs of a C function against two with an error; both files are of IR."""
    monkeypatch.setattr(ablation, "HELD_OUT_GROUPS", 2)
    is_heldout = {}  # of each C source that was drawn: whether its shape is

    def watched(*arguments):
        program, row = make_problem(*arguments)
        is_heldout[render(program, "c")] = heldout(program)
        return program, row

    monkeypatch.setattr(translations, "make_problem", watched)
    args = SimpleNamespace(out=tmp_path, groups=3, groups_of="ir", scored=1)
    ablation.write_world(args)
    written = (tmp_path / "groups.jsonl").stat().st_mtime_ns
    ablation.write_world(args)  # which takes minutes; the second time nothing is made
    assert (tmp_path / "groups.jsonl").stat().st_mtime_ns == written
    for name, count, held in (("groups", 3, False), ("heldout_groups", 2, True)):
        rows = read_groups(tmp_path / f"{name}.jsonl")
        assert len(rows) == count
        for row in rows:
            assert is_heldout[row["source"]] == held
            assert len({*row["winners"], *row["losers"]}) == 4 and "target_language" not in row
            right = llvm.winners(row["source"], ["O1", "Oz"]).values()
            assert [text.rstrip("\n") for text in right] == row["winners"]


def test_sampled_answers_are_scored_and_compared(trained, monkeypatch, capsys, tmp_path):
    """Of both ways before and after; a run that has greedy scores alone leaves its cells empty."""
    flags = ["--seeds", "2", "--arms", "RL,RL + GEPO"]
    printed, found = ablate(monkeypatch, capsys, tmp_path, *flags)
    assert "| arm | seeds | sampled | greedy |" in printed
    gain = found["RL + GEPO", "RL"]
    for how in ("sampled", "greedy"):
        _, low, high = gain[how]
        assert 0 < low < 20 < high < 40
    assert gain["sampled"] != gain["greedy"]
    (ablation.folder_of(tmp_path, "RL", 1) / "sampled-after.jsonl").unlink()
    printed, found = ablate(monkeypatch, capsys, tmp_path, "--report")
    rows = [row for row in printed.splitlines() if row.startswith("| RL |")]
    assert rows[0].startswith("| RL | 2 |  | ")
    assert found["RL + GEPO", "RL"]["greedy"] == gain["greedy"]
    assert found["RL + GEPO", "RL"]["sampled"] is None


def test_a_run_that_was_stopped_between_its_scores(trained, monkeypatch, capsys, tmp_path):
    """What is missing is scored, and nothing else; what was cut off is no score."""
    flags = ["--seeds", "2", "--steps", "7", "--arms", "RL"]
    ablate(monkeypatch, capsys, tmp_path, *flags)
    missing = ablation.folder_of(tmp_path, "RL", 1) / "sampled-after.jsonl"
    missing.rename(f"{missing}.part")
    started = []

    def start(command, printed):
        started.append(command)
        if command[0] == "evaluate.py":
            part = Path(command[command.index("--out") + 1])
            assert not part.exists()  # evaluate.py refuses a file that is there
            write_rows(part, scores("again", 0.4))
            assert not missing.exists()

    monkeypatch.setattr(ablation, "start", start)
    for name in ("eval", "sampled"):
        write_rows(tmp_path / f"{name}-before.jsonl", scores("before", 0.3))
    ablate(monkeypatch, capsys, tmp_path, *flags)
    trained_again, scored = started
    assert trained_again[0] == "train.py" and "--seed 1 " in " ".join(trained_again)
    assert scored[0] == "evaluate.py" and len(missing.read_text().splitlines()) == PROBLEMS
    assert scored[-2:] == ["--temperature", "1"]


def test_a_problem_without_a_verdict_is_no_failure(trained, monkeypatch, capsys, tmp_path):
    """It is left out of the differences of all seeds."""
    for seed in (0, 1):
        write_run(ablation.folder_of(tmp_path, "RL", seed), 1)
        write_run(ablation.folder_of(tmp_path, "RL + GEPO", seed), 1)
    path = ablation.folder_of(tmp_path, "RL + GEPO", 1) / "eval-after.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    for row in rows[:50]:
        row.update(n=0, passed=0)
    write_rows(path, rows)
    _, found = ablate(monkeypatch, capsys, tmp_path, "--report")
    assert found["RL + GEPO", "RL"]["greedy"] == [0, 0, 0]


def test_a_real_run_of_one_step(monkeypatch, capsys, tmp_path):
    few = tmp_path / "few.jsonl"
    with open(ablation.ROOT / "toy" / "heldout.jsonl") as rows:
        few.write_text("".join(itertools.islice(rows, 12)))
    monkeypatch.setattr(ablation, "HELD_OUT_PROBLEMS", few)
    flags = ("--seeds", "1", "--steps", "1", "--arms", "RL + GEPO")
    printed, found = ablate(monkeypatch, capsys, tmp_path, *flags)
    rows = [row for row in printed.splitlines() if row.startswith("| RL + GEPO")]
    assert len(rows) == 1 and "nan" not in printed and not found
    again, _ = ablate(monkeypatch, capsys, tmp_path, *flags)  # nothing runs
    assert printed.endswith(again)
    with pytest.raises(SystemExit, match="settings.json has other settings"):
        ablate(monkeypatch, capsys, tmp_path, "--seeds", "1", "--steps", "2", "--arms", "RL + GEPO")


def test_a_report_of_what_has_ended_runs_nothing(trained, monkeypatch, capsys, tmp_path):
    write_run(ablation.folder_of(tmp_path, "RL", 0), 0.5)
    write_run(ablation.folder_of(tmp_path, "RL + GEPO", 0), 0.7)
    (ablation.folder_of(tmp_path, "RL + GEPO", 0) / "eval-after.jsonl").unlink()  # still running
    printed, found = ablate(monkeypatch, capsys, tmp_path, "--report")
    assert not trained and not found and "| RL | 1 |" in printed and "GEPO" not in printed


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--report"], "has ended"),
        (["--arms", "RL,GRPO"], "no arm begins 'GRPO'; there are: RL; RL \\+ DPO"),
        (["--groups-of", "ir", "--arms", "RL + GEPO on IR"], "all arms are on IR; leave out"),
    ],
)
def test_bad_input(flags, message, monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit):
        ablate(monkeypatch, capsys, tmp_path, *flags)
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--seeds", "5"),  # its default, and yet the report is of all seeds there are
        ("--steps", "12"),
        ("--arms", "RL"),
        ("--model", "toy/model"),
        ("--groups", "40"),
        ("--groups-of", "ir"),
        ("--scored", "7"),
        ("--flags", ""),
    ],
)
def test_a_report_refuses_what_it_would_ignore(flag, value, monkeypatch, capsys, tmp_path):
    write_run(ablation.folder_of(tmp_path, "RL", 0), 0.5)
    with pytest.raises(SystemExit):
        ablate(monkeypatch, capsys, tmp_path, "--report", flag, value)
    assert f"--report makes no run: leave out {flag}\n" in capsys.readouterr().err


def test_a_run_that_fails_is_named(monkeypatch, capsys, tmp_path):
    failed = SimpleNamespace(returncode=3)
    monkeypatch.setattr(ablation.subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(SystemExit, match="evaluate.py .* ended with 3; see .*before.txt"):
        ablate(monkeypatch, capsys, tmp_path)
    for name in ("eval", "sampled"):
        write_rows(tmp_path / f"{name}-before.jsonl", scores("before", 0.3))
    with pytest.raises(SystemExit, match="--seed 0 .* ended with 3; see .*RL-0.txt"):
        ablate(monkeypatch, capsys, tmp_path)


def test_two_reports_are_the_same(trained, monkeypatch, capsys, tmp_path):
    first, _ = ablate(monkeypatch, capsys, tmp_path, "--seeds", "2")
    again, _ = ablate(monkeypatch, capsys, tmp_path, "--report")
    assert first.endswith(again)


def test_seeds_and_problems_are_both_drawn_again():
    """Two seeds that differ by 1, and 100 problems of which half differ by 1: known deviations."""
    by_seed = np.repeat([[0.0], [1.0]], 100, axis=1)
    assert ablation.bootstrap(by_seed).std() == pytest.approx(0.5 / 2**0.5, rel=0.05)
    by_problem = np.repeat([[0.0, 1.0] * 50], 2, axis=0)
    assert ablation.bootstrap(by_problem).std() == pytest.approx(0.5 / 100**0.5, rel=0.05)
