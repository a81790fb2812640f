"""How fast the judge is: boxed runs a second per language, against bare processes and known floors, in one run.

    python bench/judge.py [--languages python,bash] [--runs 40] [--submissions 200]

Boxed: a passing program with many tests goes through a JudgePool of one worker a core: one compilation, then one box a
test. Bare: the same compiled program, the same input, subprocess.run from one thread a core, no isolation and no limits.
Overhead is the sandbox's CPU a run: what this process and its children used a boxed `true`, less that of a bare one.
Floor is what two cores of 2.3 GHz gave boxed when the judge was designed: compare it on such cores only. The second table judges
the same submissions (passing, wrong, crashing, endless) by one worker and by 4 a core: no verdict may change.
Prints two tables, then a line of JSON; ends with 1 if a verdict changed. Left out: compilation a second.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from judge import sandbox
from judge.languages import LANGUAGES, file_and_main_class, installed_toolchains
from reward import judge_pool

FLOOR = {"bash": 99, "cpp": 124, "python": 78, "php": 75, "javascript": 39, "java": 19}
CORES = os.cpu_count()
SUM = {"stdin": "20\n22\n", "stdout": "42\n"}


def submission(language, code, tests):
    return {"target_language": language, "tests": tests}, f"```{language}\n{code}\n```"


def boxed_per_s(pool, name, runs):
    """-> runs a second of one submission a core, each of `runs` tests; compilation is taken out by judging one test first."""
    times = []
    for tests in (1, runs + 1):
        note = {"bash": "#", "python": "#", "php": "#", "haskell": "--"}.get(name, "//")
        began = time.perf_counter()
        futures = [
            pool.submit(
                *submission(
                    name, f"{LANGUAGES[name].canary}\n{note} {tests} {core} {began}", [SUM] * tests
                )
            )
            for core in range(CORES)
        ]
        assert [future.result().status for future in futures] == ["AC"] * CORES, futures[0].result()
        times.append(time.perf_counter() - began)
    return CORES * runs / (times[1] - times[0])


def bare_per_s(name, runs):
    row = LANGUAGES[name]
    file, main = file_and_main_class(row, row.canary)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, file).write_text(row.canary)
        if row.beside[0]:
            Path(folder, row.beside[0]).write_text(row.beside[1])
        start = lambda command: subprocess.run(
            command.format(file=file, main=main).split(),
            cwd=folder,
            input=SUM["stdin"].encode(),
            capture_output=True,
            check=True,
        )
        if row.compile:
            start(row.compile)
        with ThreadPoolExecutor(CORES) as threads:
            began = time.perf_counter()
            assert all(
                done.stdout == SUM["stdout"].encode()
                for done in threads.map(lambda _: start(row.run), range(CORES * runs))
            )
            return CORES * runs / (time.perf_counter() - began)


def overhead_ms(runs):
    """CPU milliseconds that a box costs, this process's and the kernel's for it included."""
    used = lambda: sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    costs = []
    with tempfile.TemporaryDirectory() as box:
        for run in (
            lambda: sandbox.run(["/usr/bin/true"], box, sandbox.Limits()),
            lambda: subprocess.run(["/usr/bin/true"], capture_output=True),
        ):
            run()
            began = used()
            for _ in range(runs):
                run()
            costs.append((used() - began) / runs * 1000)
    return costs[0] - costs[1]


def load(count):
    """{verdict by one worker: {verdict by 4 workers a core: how many}} of the same mixed submissions."""
    programs = {
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
    programs = [
        (name, code)
        for name, codes in programs.items()
        if name in installed_toolchains()[0]
        for code in codes
    ]
    mixed = [
        submission(name, f"{code}\n{'#' if name in ('python', 'bash') else '//'} {i}", [SUM])
        for i in range(count)
        for name, code in [programs[i % len(programs)]]
    ]
    by = []
    for workers in (1, 4 * CORES):
        with judge_pool(workers) as pool:
            by.append([future.result().status for future in [pool.submit(*each) for each in mixed]])
    return Counter(zip(*by))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
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
    print(sandbox.probe())
    chosen = [
        name
        for name in (args.languages.split(",") if args.languages else installed_toolchains()[0])
    ]
    result = {
        "bench": "judge",
        "cores": CORES,
        "sandbox": sandbox.probe(),
        "overhead_ms": overhead_ms(100),
        "runs_per_s": {},
    }
    print(
        f"{CORES} cores; the sandbox costs {result['overhead_ms']:.1f} ms of CPU a run\n\n"
        "| language | boxed runs/s | bare runs/s | boxed / bare | floor |\n| --- | ---: | ---: | ---: | ---: |"
    )
    with judge_pool(CORES) as pool:
        for name in chosen:
            boxed, bare = boxed_per_s(pool, name, args.runs), bare_per_s(name, args.runs)
            result["runs_per_s"][name] = {"boxed": boxed, "bare": bare, "floor": FLOOR.get(name)}
            print(
                f"| {name} | {boxed:.1f} | {bare:.1f} | {boxed / bare:.2f} | {FLOOR.get(name, '')} |",
                flush=True,
            )
    changed = 0
    if args.submissions:
        pairs = load(args.submissions)
        changed = sum(n for (one, many), n in pairs.items() if one != many)
        print(f"\n| by 1 worker | by {4 * CORES} workers | submissions |\n| --- | --- | ---: |")
        for (one, many), n in sorted(pairs.items()):
            print(f"| {one} | {many} | {n} |")
        result |= {"submissions": args.submissions, "changed_verdicts": changed}
    print("\n" + json.dumps(result))
    return int(changed > 0)


if __name__ == "__main__":
    sys.exit(main())
