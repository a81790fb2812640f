"""Problem sets that people have -> verified translation problems: the on-policy data of OORL.

    python problems.py --source FILE|DIR ... --out problems.jsonl
                       [--held-out 200 --held-out-file heldout.jsonl] [--against EVAL.jsonl ...]
                       [--sources python,cpp] [--targets cpp,java=2,...] [--each 1] [--tests 12]
    python problems.py --out problems.jsonl --inspect ID      what was found about one problem

The sets are those of problemsets/readers.py (APPS, TACO, CodeContests, SYNTHETIC-1, xCodeEval,
Codeforces, problem packages). Nothing is believed that was not run: a problem is kept if its
accepted solutions agree on its tests, if the source gives the same bytes again in another time
zone and locale, within half of the judge's time, and if its tests catch at least half of the
source's mutants. All else is refused by name and counted. The held-out problems have no
near-duplicate among the others.

What is found stands in OUT.log, from which a killed run continues; what other sources or settings
found is kept there. The same files, seed and tools give the same bytes for any number of workers.
Left out: problems with a checker, a tolerance, files or interaction; their kinds are recognised
and refused.
"""

import argparse
import hashlib
import json
import math
import os
import random
import re
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from tqdm import tqdm

import data
from judge import sandbox, view
from judge.languages import LANGUAGES, installed_toolchains
from judge.pool import restart_as_process_1
from problemsets import (
    ELSEWHERE,
    FORMATS,
    Case,
    Evaluation,
    Refused,
    clusters,
    features,
    half_limit_s,
    mutants,
    outcomes,
    read_problem_sets,
)

WITNESSES = 3  # solutions that must agree, if there are as many
TRIED = 8  # solutions that may be tried to find them
AGREED = 0.5  # of the tests: with fewer on which all witnesses agree, a problem has no one answer
MUTANTS = 12  # of a source
CAUGHT = 0.5  # of the mutants, at least
PAPER_TARGETS = "python,cpp,java,php,bash,javascript"


@dataclass(frozen=True)
class Settings:
    """What the checks depend on besides a problem and the tools."""

    sources: dict[str, float]  # language -> weight
    max_source: int  # bytes
    tests: int  # of a problem, at most
    seed: int


@dataclass
class Checked:
    """What running showed of a problem; a line of OUT.log."""

    id: str
    where: str
    key: str  # a fingerprint of all that it depends on
    why_not: str = ""  # why it is refused; what precedes the first colon is the kind
    language: str = ""
    source: str = ""
    tests: list = field(default_factory=list)  # the chosen ones, (stdin, stdout) each
    mutants: int = 0  # that compile
    caught: int = 0  # of them, by the chosen tests
    witnesses: int = 0
    dropped: dict = field(default_factory=dict)  # tests and solutions that went, by reason


def main():
    """The command. Exits with a message if something is wrong, else with 0."""
    parser = argument_parser()
    args = parser.parse_args()
    try:
        if args.inspect:
            sys.exit(inspect(log_of(args.out), args.inspect))
        check_arguments(parser, args)
        targets = weights("--targets", args.targets)
        sources = weights("--sources", args.sources)
        settings = Settings(sources, args.max_source, args.tests, args.seed)
        restart_as_process_1()
        make_problems(args, settings, targets)
    except (ValueError, OSError, sandbox.SandboxError) as error:
        sys.exit(f"problems.py: {error}")


def make_problems(args, settings, targets):
    """Check the problems that are not checked yet, then write the files and the report. Exits.

    args: of the command line. settings: Settings. targets: {language: weight}."""
    start = time.monotonic()
    print(sandbox.probe(), flush=True)
    view.hide(args.out.parent, *(path.parent for path in args.source))
    problems = read_problem_sets(args.source, args.format)
    for path in filter(None, [args.out, args.held_out_file]):
        refuse_loss(path, problems)
    evaluation = Evaluation(read_rows(args.against))
    versions, missing = installed_toolchains(settings.sources)
    for language, reason in missing.items():
        raise ValueError(f"--sources: {language} is missing here ({reason})")
    keys = [fingerprint(problem, settings, versions) for problem in problems]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    log = log_of(args.out)
    known = {checked.key: checked for checked in read_log(log)}
    with ThreadPoolExecutor(args.workers) as pool:
        jobs = []
        for key, problem in zip(keys, problems):
            if key not in known:
                jobs.append(pool.submit(check, problem, settings, key))
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit=" problems"):
                checked = job.result()
                known[checked.key] = checked
                data.append_rows(log, [asdict(checked)])
        except (sandbox.SandboxError, KeyboardInterrupt) as error:
            reason = str(error) or "by a signal"
            sys.exit(f"problems.py: stopped ({reason}); the same command continues from {log}")
        finally:
            pool.shutdown(cancel_futures=True)
    results = [known.pop(key) for key in keys]
    write_rows(log, [asdict(checked) for checked in [*known.values(), *results]])
    training, held_out = split(problems, results, evaluation, args.held_out, settings.seed)
    files = {args.out: training}
    if args.held_out:
        files[args.held_out_file] = held_out
    for path, part in files.items():
        rows = []
        for checked in part:
            rows += rows_of(checked, targets, args.each, settings.seed)
        write_rows(path, rows)
        pairs = Counter(f"{row['source_language']} -> {row['target_language']}" for row in rows)
        print(f"{path}: {len(rows)} rows of {len(part)} problems; {counted(pairs)}")
    kept = training + held_out
    report(results, kept, time.monotonic() - start)
    if args.report_png:
        draw(kept, args.report_png)
    sys.exit(0 if training else "problems.py: no problem is left for --out")


# -------------------------------------------------------------------------------- one problem


def check(problem, settings, key):
    """Run a problem's solutions and mutants. -> Checked, the same for the same arguments."""
    checked = Checked(problem.id, problem.where, key, dropped=dict(problem.dropped))
    rng = seeded(settings.seed, problem.id)
    try:
        solution, first_runs = agreed_solution(problem, settings, rng, checked)
        checked.language, checked.source = solution
        choose_tests(solution, first_runs, settings.tests, rng, checked)
        run_again(solution, first_runs, checked.tests)
    except Refused as refused:
        checked.why_not = str(refused)
    return checked


def agreed_solution(problem, settings, rng, checked):
    """The source, and its runs on the tests on which the accepted solutions agree.

    problem: Problem. rng: random.Random. checked: Checked, to note the counts in.
    -> (Solution, {Case: Outcome}), the smallest test first. Raises Refused."""
    if problem.refused:
        raise Refused(problem.refused)
    if not problem.tests:
        raise Refused("no test")
    witnesses = []  # (Solution, {test that it passes: its Outcome})
    failure = ""
    for solution in candidates(problem, settings, rng)[:TRIED]:
        passed, reason = passed_tests(solution, problem.tests)
        failure = failure or reason
        if passed:
            witnesses.append((solution, passed))
        if len(witnesses) == WITNESSES:
            break
    if not witnesses:
        raise Refused(f"no solution passes: {failure}")
    common = set(problem.tests).intersection(*(passed for _, passed in witnesses))
    disagreed = len(problem.tests) - len(common)
    if disagreed and len(witnesses) == 1:
        raise Refused(f"its only solution fails: {failure}")
    if len(common) < AGREED * len(problem.tests):
        raise Refused(f"no unique answer: {disagreed} of {len(problem.tests)} tests have several")
    checked.witnesses = len(witnesses)
    if disagreed:
        checked.dropped["solutions disagree"] = disagreed
    # The first of those that pass most; the candidates come in the order of preference.
    source, passed = max(witnesses, key=passed_count)
    return source, {test: passed[test] for test in problem.tests if test in common}


def passed_count(witness):
    return len(witness[1])


def candidates(problem, settings, rng):
    """The solutions that may be a source, the one to be preferred first: list of Solution.

    First those of a language drawn by its weight, then the shortest. Raises Refused."""
    found = {solution.language for solution in problem.solutions}
    if not found & settings.sources.keys():
        others = ", ".join(sorted(found)) or "none in any that is known"
        raise Refused(f"no solution in a source language: {others}")
    allowed = []
    for solution in problem.solutions:
        is_short = len(solution.source.encode()) <= settings.max_source
        if is_short and solution.language in settings.sources:
            allowed.append(solution)
    if not allowed:
        raise Refused(f"every solution is over --max-source {settings.max_source}")
    languages = sorted({solution.language for solution in allowed})
    first = draw_languages(languages, settings.sources, 1, rng)[0]

    def preference(solution):
        return solution.language != first, len(solution.source), solution.source

    return sorted(allowed, key=preference)


def passed_tests(solution, tests):
    """A solution's Outcomes on the tests that it passes, and why it fails the first that it does.

    solution: Solution. tests: list of Case. -> ({Case: Outcome}, str). If it is too slow anywhere,
    it passes none."""
    (runs,) = outcomes([solution], tests, half_limit_s(solution.language))
    if runs is None:
        return {}, f"{solution.language}, it does not compile"
    passed = {}
    failure = ""
    for number, (test, outcome) in enumerate(zip(tests, runs), 1):
        if outcome.status == "TLE":
            return {}, f"{solution.language}, test {number}, too slow"
        if outcome.passes(test):
            passed[test] = outcome
        elif not failure:
            status = "WA" if outcome.status == "OK" else outcome.status
            failure = f"{solution.language}, test {number}, {status}"
    return passed, failure


def choose_tests(solution, first_runs, count, rng, checked):
    """Puts into `checked` up to `count` tests that catch mutants of the source. Raises Refused.

    solution: Solution. first_runs: {Case: Outcome}, the smallest test first. rng: random.Random.
    A mutant is caught by the first test that it fails."""
    slowest_s = max(outcome.cpu_s for outcome in first_runs.values())
    cpu_s = math.ceil(4 * slowest_s + 0.01)
    tests = list(first_runs)
    alive = mutants(solution, MUTANTS, rng)
    catches = Counter()
    start = 0
    while alive and start < len(tests):
        chunk = tests[start : 2 * start + 1]  # 1, 2, 4, ... tests: most mutants fail the first
        survivors = []
        for mutant, runs in zip(alive, outcomes(alive, chunk, cpu_s)):
            if runs is None:
                continue
            checked.mutants += start == 0
            for test, outcome in zip(chunk, runs):
                if not outcome.passes(test):
                    catches[test] += 1
                    break
            else:
                survivors.append(mutant)
        alive = survivors
        start += len(chunk)
    chosen = [test for test, _ in catches.most_common(count)]
    checked.caught = sum(catches[test] for test in chosen)
    if checked.caught < CAUGHT * checked.mutants or not checked.mutants:
        raise Refused(f"tests tell little: {checked.caught} of {checked.mutants} mutants caught")
    rest = [test for test in tests if test not in catches]
    chosen += rest[: count - len(chosen)]
    checked.tests = sorted(chosen, key=Case.size)


def run_again(solution, first_runs, tests):
    """Raises Refused if the source does not give the same bytes again, in other surroundings.

    solution: Solution. first_runs: {Case: Outcome}. tests: list of Case, to run again."""
    (runs,) = outcomes([solution], tests, 2 * half_limit_s(solution.language), ELSEWHERE)
    for test, outcome in zip(tests, runs):
        if outcome[:2] != first_runs[test][:2]:  # status and stdout
            raise Refused(f"not the same output again: {solution.language}")


def fingerprint(problem, settings, versions):
    """A hash (str) of all that Checked depends on: while it stays the same, it is kept."""
    values = [problem.id, problem.refused, problem.solutions, problem.tests]
    values += [dict(problem.dropped), astuple(settings), versions]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def seeded(seed, id):
    """The random.Random of one problem. seed: int. id: str."""
    return random.Random(hashlib.sha256(f"{seed} {id}".encode()).hexdigest())


# ------------------------------------------------------------------------- what is written


def split(problems, results, evaluation, count, seed):
    """Training and held-out problems, without what overlaps with the evaluation sets.

    problems, results: lists of Problem and Checked, in one order. evaluation: Evaluation. count:
    int, held out at most. -> two lists of Checked. Near-duplicates are on one side."""
    kept = []
    all_features = []
    for problem, checked in zip(problems, results):
        if checked.why_not:
            continue
        of_problem = features(problem, checked.source)
        shared = evaluation.overlaps(of_problem)
        if shared:
            checked.why_not = f"overlaps with --against: its {shared}"
            continue
        kept.append(checked)
        all_features.append(of_problem)
    members = {}  # number of a cluster -> its problems
    for number, checked in zip(clusters(all_features), kept):
        members.setdefault(number, []).append(checked)
    print(f"{len(kept)} problems in {len(members)} groups of near-duplicates")
    order = sorted(members)
    random.Random(f"held out {seed}").shuffle(order)
    held_out = set()
    for number in order:
        if len(held_out) + len(members[number]) <= count:
            held_out.update(checked.key for checked in members[number])
    sides = [], []
    for checked in kept:
        sides[checked.key in held_out].append(checked)
    return sides


def rows_of(checked, targets, each, seed):
    """Rows of problems.jsonl: one for each of up to `each` target languages, never the source's.

    checked: Checked. targets: {language: weight}. each: int. -> list of dict"""
    rng = seeded(f"targets {seed}", checked.id)
    others = sorted(targets.keys() - {checked.language})
    meta = {
        "where": checked.where,
        "solutions_agree": checked.witnesses,
        "mutants": checked.mutants,
        "caught": checked.caught,
        "caught_share": round(checked.caught / checked.mutants, 3),
    }
    rows = []
    for target in draw_languages(others, targets, each, rng):
        row = {
            "id": f"{checked.id}:{target}",
            "source_language": checked.language,
            "target_language": target,
            "source": checked.source,
            "tests": [{"stdin": stdin, "stdout": stdout} for stdin, stdout in checked.tests],
            "meta": meta,
        }
        rows.append(row)
    return rows


def draw_languages(languages, weight, count, rng):
    """Up to `count` different languages, drawn by weight: {language: float}. -> list of str"""
    left = list(languages)
    drawn = []
    while left and len(drawn) < count:
        chosen = rng.choices(left, [weight[language] for language in left])[0]
        left.remove(chosen)
        drawn.append(chosen)
    return drawn


def refuse_loss(path, problems):
    """Raises ValueError if a file of rows has one of another problem. problems: list of Problem.

    Other settings may take rows away, for they are made again from the same sources."""
    ids = {problem.id for problem in problems}
    for line, row in data.read_jsonl(path, {"id": str}) if path.exists() else []:
        if row["id"].rpartition(":")[0] not in ids:
            raise ValueError(
                f'{path}:{line}: "id" {row["id"]!r} is not in --source: it would be lost; '
                "name another file"
            )


def write_rows(path, rows):
    data.write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_rows(paths):
    """The rows of tables of any form. paths: list of Path -> list of dict"""
    rows = []
    for path in paths:
        for _, row in data.read_table(path):
            rows.append(row)
    return rows


def log_of(out):
    return out.with_name(out.name + ".log")


def read_log(path):
    """What an earlier run found: list of Checked. A last line that was cut short is taken off."""
    if not path.exists():
        return []
    data.end_last_row(path)
    return [Checked(**row) for _, row in data.read_jsonl(path, {"key": str})]


# ------------------------------------------------------------------------------- the report


def report(results, kept, wall_s):
    """Prints counts. results, kept: lists of Checked, all and those kept. wall_s: float. -> None"""
    refused = {}  # kind -> ids, with the detail
    dropped = Counter()
    for checked in results:
        dropped.update(checked.dropped)
        if checked.why_not:
            kind, colon, detail = checked.why_not.partition(":")
            refused.setdefault(kind, []).append(checked.id + colon + detail)
    print(f"{len(results)} problems read, {len(kept)} kept, {wall_s:.1f} s")
    for name, values in figures(kept).items():
        if values:
            middle = statistics.median(values)
            print(f"{name}: {min(values):g} to {max(values):g}, median {middle:g}")
    if dropped:
        print(f"left out: {counted(dropped)}")
    for kind, ids in sorted(refused.items()):
        more = "; ..." if len(ids) > 3 else ""
        print(f"refused, {kind}: {len(ids)} ({'; '.join(ids[:3])}{more})")


def figures(kept):
    """{name: list of numbers, one for each Checked}: what the report and its picture show."""
    columns = {"tests a problem": [], "share of mutants caught": [], "bytes of the source": []}
    for checked in kept:
        numbers = len(checked.tests), checked.caught / checked.mutants, len(checked.source.encode())
        for column, number in zip(columns.values(), numbers):
            column.append(number)
    return columns


def counted(counter):
    """What a Counter holds, with how often: str"""
    return ", ".join(f"{name} x {count}" for name, count in sorted(counter.items()))


def draw(kept, path):
    """Writes a picture of the figures(), as histograms. Raises ValueError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise ValueError(f"no matplotlib: {sys.executable} -m pip install matplotlib") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = figures(kept)
    _, axes = plt.subplots(1, len(columns), figsize=(12, 3), constrained_layout=True)
    for axis, (name, values) in zip(axes, columns.items()):
        axis.hist(values, bins=20)
        axis.set_title(name, fontsize=9)
    plt.savefig(path, dpi=110)


def inspect(log, id):
    """Prints what the log says of a problem. log: Path. id: str. Raises ValueError without it."""
    of_id = [checked for checked in read_log(log) if checked.id == id]
    if not of_id:
        raise ValueError(f'{log}: no row has "id" {id!r}')
    checked = of_id[-1]  # earlier ones are of other settings
    print(f"{id} ({checked.where}): {checked.why_not or 'passed all checks'}")
    print(f"{checked.witnesses} solutions agree; left out: {checked.dropped}")
    print(f"{checked.caught} of {checked.mutants} mutants caught")
    print(f"\n{checked.language}\n{checked.source}")
    for stdin, stdout in checked.tests:
        print(f"--- stdin\n{stdin}--- stdout\n{stdout}")


# ------------------------------------------------------------------------------ the command line


def argument_parser():
    """-> argparse.ArgumentParser, of the flags in the docstring of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flag = parser.add_argument
    flag("--source", type=Path, nargs="+", help="files and folders of problem sets")
    flag("--format", choices=["auto", "package", *FORMATS], default="auto", help="of --source")
    flag("--out", type=Path, required=True, help="problems.jsonl")
    flag("--held-out", type=int, default=0, help="how many problems to hold out")
    flag("--held-out-file", type=Path, help="where to write those")
    flag("--against", type=Path, nargs="+", default=[], help="rows of evaluation sets to avoid")
    flag("--sources", default="python,cpp", help="languages, with weights: python=2,cpp")
    flag("--targets", default=PAPER_TARGETS, help="likewise (default: %(default)s)")
    flag("--each", type=int, default=1, help="target languages of each problem")
    flag("--tests", type=int, default=12, help="of a problem, at most")
    flag("--max-source", type=int, default=4096, help="bytes")
    flag("--seed", type=int, default=0)
    flag("--workers", type=int, default=os.cpu_count())
    flag("--inspect", metavar="ID", help="print what was found about a problem")
    flag("--report-png", type=Path, help="draw histograms")
    return parser


def check_arguments(parser, args):
    """Exits with a message if a flag is wrong."""
    if not args.source:
        parser.error("give --source and --out, or --inspect and --out")
    if min(args.each, args.tests, args.max_source, args.workers) < 1 or args.held_out < 0:
        parser.error("--each, --tests, --max-source and --workers must be at least 1")
    if bool(args.held_out) != bool(args.held_out_file):
        parser.error("give --held-out and --held-out-file together")
    written = list(filter(None, [args.out, log_of(args.out), args.held_out_file]))
    files = [path.resolve() for path in [*args.source, *args.against, *written]]
    for path in written:
        if files.count(path.resolve()) > 1:
            parser.error(f"{path} is named twice; --out, its log and --held-out-file stand alone")


def weights(flag, text):
    """{language: weight} of a flag's text, such as "python=2,cpp". Raises ValueError."""
    of_language = {}
    for part in text.split(","):
        language, _, weight = part.partition("=")
        if language not in LANGUAGES:
            raise ValueError(f"{flag}: {language!r} is unknown; known are {', '.join(LANGUAGES)}")
        if not re.fullmatch(r"[0-9.]*[1-9][0-9.]*", weight or "1"):
            raise ValueError(f"{flag}: the weight {weight!r} of {language} must be above 0")
        of_language[language] = float(weight or 1)
    return of_language


if __name__ == "__main__":
    main()
