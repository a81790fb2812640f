"""problems.py: what is kept and what is refused, by name; the same bytes whatever happens to it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import data
import problem_rows
import problems
from conftest import ROOT
from judge import sandbox
from judge.languages import LANGUAGES
from judging import KINDS, missing_tools, small_disk
from problem_rows import OTHER, RIGHT, TESTS, WORDS, write
from problemsets import Case, Evaluation, Problem
from support import gone

MISSING = missing_tools({"python": LANGUAGES["python"]})
pytestmark = pytest.mark.skipif(
    bool(MISSING) and os.environ.get("CI") != "true", reason=str(MISSING)
)
HELD_OUT = 1


def command(folder, source, *more):
    argv = [sys.executable, str(ROOT / "problems.py"), "--source", source, "--out"]
    argv += [folder / "p.jsonl", "--held-out", HELD_OUT, "--held-out-file", folder / "h.jsonl"]
    return [*map(str, argv), "--sources", "python", *map(str, more)]


def run(folder, source, *more):
    return subprocess.run(command(folder, source, *more), capture_output=True, text=True)


def written(folder):
    return {name: (folder / name).read_bytes() for name in ("p.jsonl", "h.jsonl", "p.jsonl.log")}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("set") / "traps.jsonl", problem_rows.apps)


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    finished = run(
        folder, source, "--workers", "2", "--each", "2", "--targets", "cpp,bash=3,python"
    )
    assert finished.returncode == 0, finished.stderr
    return folder, finished.stdout


def test_every_problem_is_kept_or_refused_for_the_right_reason(done):
    log = problems.read_log(done[0] / "p.jsonl.log")
    assert {checked.id.split("/")[1]: checked.why_not for checked in log} == {
        "right": "",
        "wrong": "its only solution fails: python, test 1, WA",
        "python2": "no solution passes: python, test 1, RE",
        "wrong-and-right": "",
        "two-answers": "no unique answer: 3 of 4 tests have several",
        "flaky": "not the same output again: python",
        "slow": "no solution passes: python, test 1, too slow",
        "weak": log[7].why_not,
        "other": "",
        "crlf": "",
        "odd-tests": "",
        "two-outputs": "",
    }
    assert log[7].why_not.startswith("tests tell little: ")
    assert log[3].dropped == {"solutions disagree": 1} and log[3].source == RIGHT
    assert log[0].witnesses == log[3].witnesses == 2 and log[9].witnesses == 1


def test_the_rows_are_what_the_trainer_reads(done):
    folder, printed = done
    training = data.read_problems(folder / "p.jsonl")
    held_out = data.read_problems(folder / "h.jsonl")
    # All but one have the same source or the same tests: no part of them may be held out.
    assert {row["id"] for row in held_out} == {"traps/other:bash", "traps/other:cpp"}
    kept = {
        checked.id for checked in problems.read_log(folder / "p.jsonl.log") if not checked.why_not
    }
    assert {row["id"].rpartition(":")[0] for row in training + held_out} == kept
    for row in training + held_out:
        assert row["source_language"] == "python" and row["target_language"] in ("cpp", "bash")
        assert row["source"].endswith("\n") and "\r" not in json.dumps(row["tests"])
        assert 0.5 <= row["meta"]["caught_share"] <= 1
        sizes = [len(test["stdin"]) + len(test["stdout"]) for test in row["tests"]]
        assert sizes == sorted(sizes) and len(sizes) <= 12
    assert "12 problems read, 6 kept" in printed
    assert "refused, not the same output again: 1 (traps/flaky: python)" in printed
    assert "left out: duplicate x 2, no output x 1" in printed


def test_a_stopped_run_continues_and_workers_do_not_matter(done, source, tmp_path):
    argv = command(
        tmp_path, source, "--workers", "4", "--each", "2", "--targets", "cpp,bash=3,python"
    )
    log = tmp_path / "p.jsonl.log"
    for lines, number in ((1, signal.SIGTERM), (3, signal.SIGKILL)):
        process = subprocess.Popen(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and lines_of(log) < lines:
            time.sleep(0.01)
        process.send_signal(number)
        time.sleep(0.1)
        process.send_signal(number)  # once more, as from who signals every process of a group
        _, stderr = process.communicate(timeout=60)
        assert process.returncode != 0
        if number == signal.SIGTERM:
            assert "stopped (by a signal); the same command continues from" in stderr
            assert "Traceback" not in stderr
        assert gone(str(tmp_path))
    with open(log, "ab") as file:
        file.write(b'{"id": "cut')
    finished = subprocess.run(argv, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert written(tmp_path) == written(done[0])
    assert "/12 " not in finished.stderr  # it did not begin again


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["cpp", "python"])
def test_a_full_disk_refuses_no_problem(language, kind, tmp_path):
    """A right C++ program does not compile then, and one in Python finds no room for its file."""
    right = LANGUAGES["cpp"].canary
    if language == "python":
        right = "import os\nopen(os.environ['HOME'] + '/f', 'wb').write(bytes(300_000))\n"
        right += "print(int(input()) + int(input()))"
    problem_rows.write_package(tmp_path / "set" / "sum", [right], [("1\n2\n", "3\n")])
    accepted = tmp_path / "set" / "sum" / "submissions" / "accepted"
    (accepted / "s0.py").rename(accepted / f"s0.{language.replace('python', 'py')}")
    argv = command(tmp_path, tmp_path / "set", "--sources", language)
    with small_disk("40k") as folder:
        environment = {**os.environ, "TMPDIR": folder, sandbox.BOX_VARIABLE: kind}
        stopped = subprocess.run(argv, env=environment, capture_output=True, text=True)
    assert f"stopped (the disk of {folder} is full" in stopped.stderr, stopped
    assert problems.read_log(tmp_path / "p.jsonl.log") == []
    with_room = subprocess.run(argv, capture_output=True, text=True)
    assert "1 problems read" in with_room.stdout and "compile" not in with_room.stdout, with_room


def kept(id, source, language="python", tests=(("1", "2"),)):
    problem = Problem(id, "", tests=[Case(*test) for test in tests])
    checked = problems.Checked(id, "", id, "", language, source, tests, mutants=4, caught=3)
    return problem, checked


def test_near_duplicates_are_on_one_side_and_evaluation_sets_are_avoided():
    words = [f"w{n}" for n in range(1000)]
    pairs = []
    for k in range(12):
        source = " ".join(words[30 * k : 30 * k + 30])
        pairs.append(kept(f"a{k}", source, tests=[(f"{k}", "yes")]))
        pairs.append(kept(f"b{k}", source.replace(" ", "\n"), tests=[(f"x{k}", "1")]))
    listed, results = zip(*pairs)
    known = [{"prompt": results[4].source}, {"tests": [{"stdin": "9", "stdout": "yes\n"}]}]
    training, held_out = problems.split(listed, results, Evaluation(known), 7, seed=0)
    assert len(held_out) in (6, 7) and len(training) + len(held_out) == 24 - 3
    sides = [{checked.id[1:] for checked in side} for side in (training, held_out)]
    assert not sides[0] & sides[1]
    dropped = {checked.id: checked.why_not for checked in results if checked.why_not}
    assert dropped == {
        "a2": "overlaps with --against: its source",
        "b2": "overlaps with --against: its source",
        "a9": "overlaps with --against: its tests",
    }


def test_targets_are_drawn_by_weight_and_never_the_source():
    targets = problems.weights("--targets", "python,cpp=8,java")
    drawn = []
    for k in range(200):
        _, checked = kept(f"p{k}", "x", "python")
        rows = problems.rows_of(checked, targets, 1, seed=0)
        assert rows == problems.rows_of(checked, targets, 1, seed=0)
        drawn += [row["target_language"] for row in rows]
    assert len(drawn) == 200 and 150 < drawn.count("cpp") < 200 and "python" not in drawn
    assert {row["id"] for row in problems.rows_of(checked, targets, 9, 0)} == {
        "p199:cpp",
        "p199:java",
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], 'bad.jsonl:2: "input_output" is missing; add it'),
        (["--sources", "python,cobol"], "--sources: 'cobol' is unknown; known are python, cpp"),
        (["--targets", "cpp=0"], "--targets: the weight '0' of cpp must be above 0"),
        (["--held-out", "0"], "give --held-out and --held-out-file together"),
        (["--each", "0"], "must be at least 1"),
    ],
)
def test_bad_input_is_named_before_any_program_runs(source, tmp_path, flags, message):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(source.read_text().splitlines()[0] + '\n{"solutions": "[]"}\n')
    finished = run(tmp_path, bad, *flags)
    assert finished.returncode in (1, 2) and message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--held-out-file", "{}/x/../p.jsonl"], "p.jsonl"),
        (["--held-out-file", "{}/p.jsonl.log"], "p.jsonl.log"),
        (["--source", "{}/a.jsonl", "{}/p.jsonl"], "p.jsonl"),
        (["--against", "{}/h.jsonl"], "h.jsonl"),
    ],
)
def test_no_file_is_written_over(source, tmp_path, flags, name):
    (tmp_path / "x").mkdir()
    finished = run(tmp_path, source, *(flag.format(tmp_path) for flag in flags))
    assert finished.returncode == 2 and f"{name} is named twice" in finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_other_sources_and_settings_found_is_kept(tmp_path):
    one = write(tmp_path / "one.jsonl", problem_rows.apps, {"a": ([RIGHT], TESTS)})
    two = write(tmp_path / "two.jsonl", problem_rows.apps, {"b": ([OTHER], WORDS)})
    argv = [sys.executable, ROOT / "problems.py", "--out", tmp_path / "p.jsonl"]
    argv += ["--sources", "python", "--source"]

    def run_on(*more):
        return subprocess.run([*argv, *more], capture_output=True, text=True)

    def log():
        return problems.read_log(tmp_path / "p.jsonl.log")

    assert run_on(one).returncode == 0
    (first,) = log()
    refused = run_on(two)
    assert "'one/a:" in refused.stderr and "it would be lost" in refused.stderr
    assert log() == [first]
    held = ["--held-out", "1", "--held-out-file", tmp_path / "h.jsonl"]
    both = run_on(one, two, *held)
    assert both.returncode == 0 and "/1 " in both.stderr  # only the added one is checked
    rows = data.read_problems(tmp_path / "p.jsonl") + data.read_problems(tmp_path / "h.jsonl")
    assert {row["id"].rpartition(":")[0] for row in rows} == {"one/a", "two/b"}
    second = log()[1]
    fewer = run_on(one, two, "--tests", "3")  # loses none: the problems are the same
    assert fewer.returncode == 0 and log()[:2] == [first, second] and len(log()) == 4
    shown = run_on(one, "--inspect", "one/a").stdout
    assert shown.count("--- stdin") == 3 < len(first.tests)
    assert run_on(one, two, *held).returncode == 0 and log()[2:] == [first, second]
    held_out = (tmp_path / "h.jsonl").read_bytes()
    assert "h.jsonl:1: " in run_on(one if b"two/b" in held_out else two, *held).stderr


def test_inspect(done):
    argv = [sys.executable, str(ROOT / "problems.py"), "--out", str(done[0] / "p.jsonl")]
    for id, parts in {
        "traps/right": ["passed all checks", "2 solutions agree", RIGHT, "--- stdin\n3\n"],
        "traps/wrong": ["its only solution fails: python, test 1, WA"],
        "nothing": ["no row has \"id\" 'nothing'"],
    }.items():
        finished = subprocess.run([*argv, "--inspect", id], capture_output=True, text=True)
        for part in parts:
            assert part in finished.stdout + finished.stderr


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0
