"""How fast the judge is: boxed runs a second of each language, against bare processes and floors.

Both kinds of box are measured side by side, where this machine has both.

    python bench/judge.py [--languages python,bash] [--runs 40] [--submissions 200]

Boxed: a passing program with many tests goes through a JudgePool of one worker a core: one
compilation, then one box a test. Bare: the same compiled program on the same input, by
subprocess.run from one thread a core, without isolation and limits. Overhead is the CPU time of the
sandbox for one run: what this process and its children use for a boxed `true`, less that of a bare
one. Floor is what two cores of 2.3 GHz gave boxed when the judge was designed; compare it on such
cores only. The second table judges the same submissions (passing, wrong, crashing, endless) by one
worker and by four a core: no verdict may change.

Prints two tables, then a line of JSON; ends with 1 if a verdict changed.
Left out: compilations a second.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from judge import sandbox
from judge.languages import LANGUAGES, file_and_main_class, installed_toolchains
from judge.limits import Limits
from reward import judge_pool

FLOOR = {"bash": 99, "cpp": 124, "python": 78, "php": 75, "javascript": 39, "java": 19}
CORES = os.cpu_count()
SUM = {"stdin": "20\n22\n", "stdout": "42\n"}
COMMENT = {"bash": "#", "python": "#", "php": "#", "haskell": "--"}  # "//" in the other languages
TRUE = ["/usr/bin/true"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--languages", default="", help="with commas; default: all that are installed"
    )
    parser.add_argument(
        "--runs", type=int, default=30, help="boxed and bare runs a core (default: %(default)s)"
    )
    parser.add_argument(
        "--submissions",
        type=int,
        default=200,
        help="of the load test; 0: none (default: %(default)s)",
    )
    args = parser.parse_args()
    kinds = kinds_of_box()
    if args.languages:
        names = args.languages.split(",")
    else:
        names, _ = installed_toolchains()
    result = {
        "bench": "judge",
        "cores": CORES,
        "sandbox": kinds,
        "overhead_ms": {kind: overhead_ms(kind, 100) for kind in kinds},
        "runs_per_s": speeds(kinds, names, args.runs),
    }
    changed = 0
    if args.submissions:
        for kind in kinds:
            changed += changed_verdicts(kind, args.submissions)
        result["submissions"] = args.submissions
        result["changed_verdicts"] = changed
    print("\n" + json.dumps(result))
    return int(changed > 0)


def kinds_of_box():
    """{kind: the line of probe()} of those that this machine has."""
    lines = {}
    for kind in sandbox.BOXES:
        choose(kind)
        try:
            lines[kind] = sandbox.probe()
        except sandbox.SandboxError as error:
            print(f"no {kind}: {error}")
        else:
            print(lines[kind])
    if not lines:
        sys.exit("bench/judge.py: there is no sandbox here")
    return lines


def choose(kind):
    os.environ[sandbox.BOX_VARIABLE] = kind


# -------------------------------------------------------------------------------- runs a second


def speeds(kinds, names, runs):
    """{language: its speeds}; prints the table of them."""
    print(f"| language | {' | '.join(f'{kind} runs/s' for kind in kinds)} | bare runs/s | floor |")
    print(f"| --- |{' ---: |' * len(kinds)} ---: | ---: |")
    runs_per_s = {}
    for name in names:
        row = {}
        for kind in kinds:
            choose(kind)
            with judge_pool(CORES) as pool:
                row[kind] = boxed_per_s(pool, name, runs)
        row["bare"] = bare_per_s(name, runs)
        cells = " | ".join(f"{speed:.1f}" for speed in row.values())
        print(f"| {name} | {cells} | {FLOOR.get(name, '')} |", flush=True)
        runs_per_s[name] = {**row, "floor": FLOOR.get(name)}
    return runs_per_s


def boxed_per_s(pool, name, runs):
    """Runs a second of one submission a core, each of `runs` tests.

    Judging one test alone, before, takes the compilation out. nan: the runs are too few to be seen
    beside it.
    """
    one_test_s = boxed_s(pool, name, 1)
    runs_s = boxed_s(pool, name, runs + 1) - one_test_s
    return CORES * runs / runs_s if runs_s > one_test_s / 4 else float("nan")


def boxed_s(pool, name, tests):
    comment = COMMENT.get(name, "//")
    began = time.perf_counter()
    futures = []
    for core in range(CORES):
        # No two are equal, or the pool would judge them once.
        code = f"{LANGUAGES[name].canary}\n{comment} {tests} {core} {began}"
        each = submission(name, code, tests)
        futures.append(pool.submit(each.problem, each.answer))
    for future in futures:
        assert future.result().status == "AC", future.result()
    return time.perf_counter() - began


def bare_per_s(name, runs):
    language = LANGUAGES[name]
    file, main_class = file_and_main_class(language, language.canary)
    with tempfile.TemporaryDirectory() as folder:

        def start(template):
            return subprocess.run(
                template.format(file=file, main=main_class).split(),
                cwd=folder,
                input=SUM["stdin"].encode(),
                capture_output=True,
                check=True,
            )

        Path(folder, file).write_text(language.canary)
        beside, text = language.beside
        if beside:
            Path(folder, beside).write_text(text)
        if language.compile:
            start(language.compile)
        with ThreadPoolExecutor(CORES) as threads:
            began = time.perf_counter()
            for done in threads.map(start, [language.run] * CORES * runs):
                assert done.stdout == SUM["stdout"].encode()
            return CORES * runs / (time.perf_counter() - began)


def overhead_ms(kind, runs):
    """CPU milliseconds that a box costs, in this process, in its children and in the kernel."""
    choose(kind)
    with tempfile.TemporaryDirectory() as box:
        boxed = cpu_ms(runs, sandbox.run, TRUE, box, Limits())
    bare = cpu_ms(runs, subprocess.run, TRUE, capture_output=True)
    print(f"{CORES} cores; a {kind} box costs {boxed - bare:.1f} ms of CPU a run\n")
    return boxed - bare


def cpu_ms(runs, function, *args, **options):
    """CPU milliseconds of one call, the mean of `runs` after one to warm up."""
    function(*args, **options)
    began_s = used_cpu_s()
    for _ in range(runs):
        function(*args, **options)
    return (used_cpu_s() - began_s) / runs * 1000


def used_cpu_s():
    """CPU seconds of this process and of its children so far."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


# ------------------------------------------------------------------------------------ under load


def changed_verdicts(kind, count):
    """How many of `count` mixed submissions get another verdict under load; prints the table."""
    choose(kind)
    pairs = judged_twice(mixed_submissions(count))
    print(f"\n{kind}\n| by 1 worker | by {4 * CORES} workers | submissions |")
    print("| --- | --- | ---: |")
    for (alone, loaded), submissions in sorted(pairs.items()):
        print(f"| {alone} | {loaded} | {submissions} |")
    return sum(n for (alone, loaded), n in pairs.items() if alone != loaded)


def judged_twice(submissions):
    """{(verdict by one worker, verdict by 4 workers a core): how many submissions}."""
    verdicts = []
    for workers in (1, 4 * CORES):
        with judge_pool(workers) as pool:
            futures = [pool.submit(each.problem, each.answer) for each in submissions]
            verdicts.append([future.result().status for future in futures])
    return Counter(zip(*verdicts))


class Submission(NamedTuple):
    problem: dict
    answer: str


def submission(language, code, tests):
    problem = {"target_language": language, "tests": [SUM] * tests}
    return Submission(problem, f"```{language}\n{code}\n```")


PROGRAMS = {  # right, wrong, crashing, and endless or not even compiling
    "python": ["print(int(input()) + int(input()))", "print(3)", "1 / 0", "while True: pass"],
    "bash": ["read a; read b; echo $((a + b))", "echo 3", "exit 3", "while :; do :; done"],
    "javascript": [LANGUAGES["javascript"].canary, "console.log(3)", "null.x", "for (;;);"],
    "cpp": [
        LANGUAGES["cpp"].canary,
        "int main() {}",
        "#include <cstdlib>\nint main() { abort(); }",
        "int main(",
    ],
}


def mixed_submissions(count):
    """`count` submissions, all of them different, of the languages that are installed."""
    installed, _ = installed_toolchains()
    programs = []
    for name, codes in PROGRAMS.items():
        if name in installed:
            programs += [(name, code) for code in codes]
    submissions = []
    for number in range(count):
        name, code = programs[number % len(programs)]
        comment = COMMENT.get(name, "//")
        submissions.append(submission(name, f"{code}\n{comment} {number}", 1))
    return submissions


if __name__ == "__main__":
    sys.exit(main())
