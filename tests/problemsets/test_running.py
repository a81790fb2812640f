"""Many programs in one box, in both kinds of box: each run is what it would be alone."""

import os

import pytest

from judge import landlock, sandbox
from judge.languages import LANGUAGES
from judging import missing_tools
from problemsets import ELSEWHERE, Case, Solution, outcomes

DOUBLE = "print(int(input()) * 2)"
KILLS_ITS_BOX = "import os\nos.kill(-1, 9)"
TOO_MUCH = "print('a' * (1 << 22))"


@pytest.fixture(params=sandbox.BOXES, autouse=True)
def kind(request, monkeypatch):
    missing = missing_tools({"python": LANGUAGES["python"]})
    reason = landlock.why_not() if request.param == "landlock" else missing.get("python")
    if reason and "CI" not in os.environ:
        pytest.skip(reason)
    monkeypatch.setenv(sandbox.BOX_VARIABLE, request.param)


def cases(*stdins):
    return [Case(stdin, "") for stdin in stdins]


def statuses(programs, stdins, language="python", surroundings=""):
    solutions = [Solution(language, program) for program in programs]
    found = []
    for runs in outcomes(solutions, cases(*stdins), 1, surroundings):
        found.append(runs and [outcome.status for outcome in runs])
    return found


def test_each_program_has_its_own_fate():
    programs = [
        DOUBLE,
        "while 1: pass",
        "raise SystemExit(3)",
        "print('no end', end='')",
        KILLS_ITS_BOX,
        TOO_MUCH,
        DOUBLE,
    ]
    solutions = [Solution("python", program) for program in programs]
    found = outcomes(solutions, cases("4\n", "5\n"), 1)
    assert [[outcome.status for outcome in runs] for runs in found] == [
        ["OK", "OK"],
        ["TLE"],  # no more runs of it
        ["RE", "RE"],
        ["OK", "OK"],
        ["RE", "RE"],
        ["OLE", "OLE"],
        ["OK", "OK"],
    ]
    for runs in (found[0], found[6]):
        assert [outcome.stdout for outcome in runs] == [b"8\n", b"10\n"]
    assert found[3][0].stdout == b"no end"
    assert found[1][0].cpu_s > 0.5 > found[2][0].cpu_s  # that ran after it


def test_compilers_that_wait_for_a_cpu_are_no_failure(monkeypatch):
    starved = sandbox.Result("TLE", 137, b"", b"", cpu_s=1, wall_s=9000, queued_s=9000)
    monkeypatch.setattr(sandbox, "run", lambda *_, **__: starved)
    with pytest.raises(sandbox.SandboxError, match="waited for a CPU"):
        statuses(["int main() {}"], [""], "cpp")


def test_compilers_and_surroundings():
    sound = "#include <cstdio>\n#include <cstdlib>\n"
    sound += 'int main() { puts(getenv("TZ") ? "elsewhere" : "here"); }'
    programs = [sound, "int main( {"]
    assert statuses(programs, [""], "cpp") == [["OK"], None]
    for surroundings, text in (("", b"here\n"), (ELSEWHERE, b"elsewhere\n")):
        (runs,) = outcomes([Solution("cpp", sound)], cases(""), 1, surroundings)
        assert runs[0].stdout == text
