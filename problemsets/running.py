"""Programs on inputs, many in one box of judge/: here a box for each run would cost most.

    outcomes([Solution("python", "print(int(input()) * 2)")], [Case("4\\n", "8\\n")], 1)
        == [[Outcome("OK", b"8\\n", 0.01)]]

A shell in the box starts a fresh process for each input and prints what it did. Expected outputs
stay outside. The kernel's clock of CPU seconds ends a run that is too slow, so that a loaded
machine finds what an idle one does; the wall's clock only ends programs that sleep. Left out: C#
in a landlock box, which shows no /proc but the shell's.
"""

import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import reward
from judge import sandbox
from judge.languages import LANGUAGES, file_and_main_class
from problemsets.record import TEST_BYTES

WALL = 20  # times the CPU limit
KILLED = (124, 137, 152)  # exit codes: of timeout(1), and of SIGKILL and SIGXCPU in a shell
# What a program must not care about.
ELSEWHERE = "/usr/bin/env TZ=Pacific/Kiritimati LC_ALL=POSIX"
# run PROGRAM INPUT COMMAND ...: its output, then $mark, the numbers, the exit code, and what
# times(1) of the shell has counted until now. It fails if the run was killed.
RUN = f"""
run() {{
  p=$1; i=$2; shift 2; cd "$here/p$p"
  timeout --foreground -s KILL $wall_s "$@" <"$here/i$i" 2>/dev/null
  rc=$?; echo $mark $p $i $rc; times
  case $rc in {"|".join(map(str, KILLED))}) return 1;; esac
}}
"""


class Outcome(NamedTuple):
    """How one run ended."""

    status: str  # as of reward.py: OK, RE, TLE; MLE or OLE where the box had to be stopped
    stdout: bytes
    cpu_s: float

    def passes(self, test):
        """Whether this is the output of a Case, as reward.py compares: bool"""
        return reward.compare(self, test.stdout.encode()) == "OK"


def half_limit_s(language):
    """The CPU seconds that a source may take, int: half of what the judge allows.

    So a translation to a language that is twice as slow has a chance."""
    return max(1, int(LANGUAGES[language].limits.cpu_s / 2))


def outcomes(solutions, cases, cpu_s, surroundings=""):
    """What each solution does with the input of each case, in one box.

    solutions: list of Solution, all of one language. cases: list of Case. cpu_s: int, of each run.
    surroundings: what stands before its command.
    -> for each solution a list of Outcome, which ends with one that was too slow, or None if the
    solution does not compile. Raises SandboxError, for one if the disk is full: whatever wrote to
    it may have failed for that."""
    language = LANGUAGES[solutions[0].language]
    programs = []
    for solution in solutions:
        names = file_and_main_class(language, solution.source)
        programs.append(reward.Program(language, solution.source, *names))
    with sandbox.folder() as box:
        for i, case in enumerate(cases):
            Path(box, f"i{i}").write_bytes(case.stdin.encode())
        for p, program in enumerate(programs):
            Path(box, f"p{p}").mkdir()
            Path(box, f"p{p}").chmod(0o777)  # the compiler runs under the uid of a slot
            program.write_files(Path(box, f"p{p}"))
        left = set(range(len(programs)))
        if language.compile:
            left = _compile(programs, language, box)
        found = {p: [] for p in left}
        while left:
            left = _run(programs, left, found, len(cases), language, cpu_s, surroundings, box)
    sandbox.check_disk()
    return [found.get(p) for p in range(len(programs))]


def _compile(programs, language, box):
    """The numbers of the programs that compile: set of int."""
    lines = [f"ulimit -t {int(language.compile_limits.cpu_s)}"]
    for p, program in enumerate(programs):
        lines.append(f"(cd p{p}; {_quoted(program, language.compile)} >$HOME/log 2>&1) && echo {p}")
    limits = _together(language.compile_limits, language.compile_limits.cpu_s, len(programs))
    command = ["/bin/sh", "-c", "\n".join(lines), language.compile]
    result = sandbox.run(command, box, limits, writable=True)
    if reward.is_starved(result, limits):
        raise sandbox.SandboxError("compilers waited for a CPU too long; use fewer --workers")
    return set(map(int, result.stdout.split()))


def _run(programs, left, found, inputs, language, cpu_s, surroundings, box):
    """Runs the programs `left` on the inputs that they have no Outcome of, and adds to `found`.

    -> the programs for which that must go on in another box, because this one had to be stopped."""
    mark = secrets.token_hex(16)  # no output holds it
    lines = [f"here=$PWD mark={mark} wall_s={WALL * cpu_s}", RUN, f"ulimit -t {cpu_s}"]
    runs = 0
    for p in sorted(left):
        rest = range(len(found[p]), inputs)
        numbers = " ".join(map(str, rest))
        command = f"{surroundings} {_quoted(programs[p], language.run)}"
        lines.append(f"for i in {numbers}; do run {p} $i {command} || break; done")
        runs += len(rest)
    limits = _together(language.limits, cpu_s, runs)
    Path(box, "run.sh").write_text("\n".join(lines))
    # The box shows the interpreters that its command names.
    result = sandbox.run(["/bin/sh", "run.sh", language.run], box, limits)
    ends = rf"{mark} (\d+) \d+ (\d+)\n.*\n(\S+) (\S+)\n"
    parts = re.split(ends.encode(), result.stdout)
    used_s = 0.0
    for k in range(0, len(parts) - 1, 5):
        stdout, p, code, user, system = parts[k : k + 5]
        status = "OK" if code == b"0" else "TLE" if int(code) in KILLED else "RE"
        until_s = _seconds(user) + _seconds(system)
        found[int(p)].append(Outcome(status, stdout, until_s - used_s))
        used_s = until_s
    unfinished = set()
    for p in sorted(left):
        slow = found[p] and found[p][-1].status == "TLE"
        if len(found[p]) < inputs and not slow:
            unfinished.add(p)
    if unfinished:
        status = result.status.replace("OK", "RE")
        found[min(unfinished)].append(Outcome(status, b"", 0.0))
    return unfinished


def _quoted(program, template):
    return " ".join(f"'{word}'" for word in program.command(template))


def _together(limits, cpu_s, runs):
    """The limits of a box for so many runs, one after the other."""
    cpu_s = runs * (cpu_s + 1)
    return replace(
        limits,
        cpu_s=cpu_s,
        wall_s=WALL * cpu_s,
        processes=limits.processes + 8,
        stdout_bytes=runs * 2 * TEST_BYTES,
    )


def _seconds(text):
    """The seconds of b"1m2.345s", as times(1) of a shell writes it."""
    minutes, seconds = text.decode().removesuffix("s").split("m")
    return 60 * int(minutes) + float(seconds)
