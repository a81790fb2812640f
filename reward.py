"""The rule reward, Eq. 4: does the answer hold a program, does it compile, does it pass its tests?

    python reward.py --problems P.jsonl --completions C.jsonl --out V.jsonl
                     [--workers N] [--form chat|completion]
    python reward.py --probe      print the sandbox, the versions of the tools, and try the canaries

judge() takes a problem (a row of problems.jsonl) and the text of an answer and returns a Verdict
with one of these statuses:

    AC    accepted: the answer has the format, compiles and passes all tests
    NC    no code: the answer is not exactly one fenced block of the target language
    CE    compile error
    WA, RE, TLE, MLE, OLE    wrong answer, runtime error; over its limit of time, memory or output
    JE    judge error: the fault is ours, so the reward is None and never 0

Expected outputs never enter the sandbox, and exit code 0 alone is no pass. Outputs are compared as
bytes, except for white space at the ends of lines and of the whole text. Harness problems are for
evaluation only, see judge/harnesses.py: status and reward follow the official rule, "guarded" the
other one. Nothing here imports torch, because every worker process imports this file.

Left out: tolerances for floating-point output, and partial credit, which Eq. 4 does not give.
"""

import argparse
import json
import os
import secrets
import signal
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from judge import harnesses, sandbox, view
from judge.answer import code_in_answer
from judge.languages import (
    LANGUAGES,
    Language,
    file_and_main_class,
    installed_toolchains,
    why_missing,
)
from judge.limits import SandboxError
from judge.pool import JudgePool, check_canaries, digest
from judge.verdict import STATUSES, Judgement, Verdict, judge_error


def rule_reward(status: str) -> float | None:
    """R_rule(q, o) of Eq. 4, from the status of the verdict on answer o to prompt q.

    The judge tries the conditions of Eq. 4 in their order, and the status names the first that
    fails. So AC means that none fails.
    """
    if status == "JE":
        return None  # nothing is known about the answer
    return float(status == "AC")  # Eq. 4: format (not NC), compiles (not CE), passes all tests


# ---------------------------------------------------------------------------- judging one answer


def judge(problem: dict, completion: str, form: str = "chat") -> Verdict:
    """The verdict on one answer, judged in this process. Never raises.

    form: "chat" or "completion", for MultiPL-E problems only. A verdict in doubt (a fault of the
    sandbox, or a time-out of a program that waited for a CPU) is asked for once more, and the
    second one stands. In a JudgePool, the second run has the pool for itself.
    """
    judgement = _judge_once(problem, completion, form)
    if judgement.in_doubt:
        judgement = _judge_once(problem, completion, form)
    return judgement.verdict


def _judge_once(problem, completion, form):
    try:
        return _judge_answer(problem, completion, form)
    # Whatever is wrong with the judge must not become a reward. The detail is logged.
    except Exception as error:
        return Judgement(judge_error(f"{type(error).__name__}: {error}"), in_doubt=True)


def _judge_answer(problem, completion, form):
    problem = harnesses.with_common_fields(problem)
    has_harness = harnesses.is_harness(problem)
    target = problem["target_language"]
    code = code_in_answer(problem, completion, form)
    if code is None:
        detail = f"not one closed block with the tag {target}, or over 64 KB"
        has_guard = has_harness and harnesses.guarded_harness(problem) is not None
        guarded = False if has_guard else None
        return Judgement(Verdict("NC", rule_reward("NC"), detail, guarded=guarded))
    language = harnesses.HARNESSES[target].language if has_harness else LANGUAGES[target]
    reason = why_missing(language)
    if reason:
        return Judgement(judge_error(reason))
    if has_harness:
        return _judge_by_harness(problem, code, form)
    file, main_class = file_and_main_class(language, code)
    return _run_tests(Program(language, code, file, main_class), problem["tests"], compare)


@dataclass(frozen=True)
class Program:
    """A program as it is put into its box."""

    language: Language
    code: str
    file: str  # the name of its source file
    main_class: str  # what the JVM starts

    def command(self, template: str) -> list[str]:
        """A command of the language, for this program."""
        return template.format(file=self.file, main=self.main_class).split()

    def write_files(self, box: str) -> None:
        name, text = self.language.beside
        if name:
            Path(box, name).write_text(text)
        # A lone surrogate, which UTF-8 does not have, becomes "?".
        Path(box, self.file).write_bytes(self.code.encode(errors="replace"))


def _run_tests(program, tests, status_of):
    """The judgement on a program, by _run_tests_in() a box of its own. Raises SandboxError.

    A failure on a full disk is no verdict where the disk was written to: by a compiler, and by a
    program whose box has no /tmp in memory. The disk is looked at when the box is gone. So an
    answer that fills a disk by itself is not in doubt: the limits on what it writes decide.
    """
    with sandbox.folder() as box:
        judgement = _run_tests_in(box, program, tests, status_of)
    status = judgement.verdict.status
    if status == "CE" or status != "AC" and sandbox.kind() != "bwrap":
        sandbox.check_disk()
    return judgement


def _run_tests_in(box, program, tests, status_of):
    """Compiles once, runs each test in a process of its own, and stops at the first failure.

    status_of(result, expected stdout): OK, or the status of the verdict on a failed test.
    """
    language = program.language
    results = []
    program.write_files(box)
    # Before anything runs: a malformed test is a judge error whatever the program does.
    encoded = [(test["stdin"].encode(), test["stdout"].encode()) for test in tests]
    if language.compile:
        command = program.command(language.compile)
        result = sandbox.run(command, box, language.compile_limits, writable=True)
        results.append(result)
        if result.status != "OK":
            message = result.stderr or result.stdout  # tsc complains on stdout
            # Compilers begin with the first error, which is the one to show.
            detail = _describe_failure("compiler", result, message[:300])
            in_doubt = is_starved(result, language.compile_limits)
            return _judgement("CE", detail, results, in_doubt)
    command = program.command(language.run)
    for number, (stdin, expected) in enumerate(encoded, 1):
        result = sandbox.run(command, box, language.limits, stdin, bare=True)
        results.append(result)
        status = status_of(result, expected)
        if result.status != "OK":
            detail = _describe_failure(f"test {number}", result, result.stderr[-300:])
            in_doubt = is_starved(result, language.limits)
            return _judgement(status, detail, results, in_doubt)
        if status != "OK":
            # As repr, which leaves no escape codes in the log.
            detail = f"test {number}: {result.stdout[:100]!r}, expected {expected[:100]!r}"
            return _judgement(status, detail, results)
    return _judgement("AC", "", results)


def _judgement(status, detail, results, in_doubt=False):
    """The judgement after these runs, the compiler's included."""
    cpu_s = sum((result.cpu_s for result in results), 0.0)
    wall_s = sum((result.wall_s for result in results), 0.0)
    return Judgement(Verdict(status, rule_reward(status), detail, cpu_s, wall_s), in_doubt)


def compare(result, expected):
    """The status of a run on a test with an expected output."""
    if result.status == "OK" and _trim(result.stdout) != _trim(expected):
        return "WA"
    return result.status


def _trim(text):
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def _describe_failure(step, result, message):
    return f"{step}: {result.status}, exit code {result.returncode}, {message!r}"


def is_starved(result, limits):
    """Whether a run that was stopped by the clock waited for a CPU; with one it might have ended in
    time, so that this is no fault of the program."""
    waited = result.queued_s > limits.wall_s / 4
    return result.status == "TLE" and result.cpu_s <= limits.cpu_s and waited


def _judge_by_harness(problem, code, form):
    """The verdict by the official rule. An answer that passes it is run once more, in a box of its
    own, by the guarded rule. A fault of the judge in either run raises: it is a JE of both."""
    official = _run_harness(problem, code, form, token="")
    verdict = official.verdict
    if harnesses.guarded_harness(problem) is None:
        return official
    if verdict.status != "AC":
        return replace(official, verdict=replace(verdict, guarded=False))
    second = _run_harness(problem, code, form, token=secrets.token_hex(16) + "\n")
    verdict = replace(
        verdict,
        guarded=second.verdict.status == "AC",
        detail=f"guarded: {second.verdict.detail}" if second.verdict.detail else "",
        cpu_s=verdict.cpu_s + second.verdict.cpu_s,
    )
    return Judgement(verdict, second.in_doubt)


def _run_harness(problem, code, form, token):
    """One run by the official rule, or with a token by the guarded one."""
    harness = harnesses.HARNESSES[problem["target_language"]]
    text = harnesses.program(problem, code, form, guard=token != "")
    file, main_class = harnesses.file_and_main(harness.language, problem, text)

    def status_of(result, expected):
        return harnesses.run_status(harness, result, expected.strip())

    program = Program(harness.language, text, file, main_class)
    # The guard copies stdin to stdout, so it is judged as a test that must echo the token. By the
    # official rule the token is empty, and nothing is required of stdout.
    return _run_tests(program, [{"stdin": token, "stdout": token}], status_of)


# ------------------------------------------------------------------------------ worker processes


def judge_pool(workers: int = os.cpu_count()) -> JudgePool:
    """A pool that judges `workers` answers at a time; its workers are processes of this file."""
    return JudgePool(workers, [sys.executable, str(Path(__file__).resolve()), "--worker"])


def _work():
    """A worker: reads the requests of its JudgePool, one per line, and answers each, until its
    input ends."""
    # Ctrl-C is meant for the trainer. SIG_IGN would do here too, but programs would inherit it.
    signal.signal(signal.SIGINT, lambda *_: None)
    # A judge that hangs dies of the alarm, which its pool notices.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    for line in sys.stdin.buffer:
        problem, completion, form = json.loads(line)
        signal.alarm(_time_allowed_s(problem))
        judgement = _judge_once(problem, completion, form)
        signal.alarm(0)
        print(judgement.to_json(), flush=True)


def _time_allowed_s(problem):
    """More than the judge can need for one answer if it does not hang."""
    language = LANGUAGES[problem["target_language"]]
    if harnesses.is_harness(problem):  # by both rules
        compilations = 2
        runs = 2
    else:
        compilations = 1
        runs = len(problem["tests"])
    limits_s = compilations * language.compile_limits.wall_s + runs * language.limits.wall_s
    return int(60 + limits_s)


# ----------------------------------------------------------------------------------- the command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--problems", type=Path)
    parser.add_argument("--completions", type=Path)
    parser.add_argument(
        "--out", type=Path, help="the verdicts; a run that was cut off is continued"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="programs judged at a time"
    )
    parser.add_argument(
        "--form", choices=harnesses.FORMS, default="chat", help="of the answers to MultiPL-E rows"
    )
    parser.add_argument("--probe", action="store_true", help="say what this machine can judge")
    parser.add_argument(
        "--unsafe-no-sandbox", action="store_true", help="run programs WITHOUT isolation"
    )
    args = parser.parse_args()
    if not args.probe and not (args.problems and args.completions and args.out):
        parser.error("give --problems, --completions and --out, or --probe")
    if args.unsafe_no_sandbox:
        os.environ[sandbox.UNSAFE_VARIABLE] = "1"
    try:
        print(sandbox.probe())
        versions, missing = installed_toolchains()
        for name, line in {**versions, **missing}.items():
            print(f"{name:12}{line}")
        if args.probe:
            with judge_pool(args.workers) as pool:
                check_canaries(pool, versions)
            print("canaries: every known-good program is AC, every known-bad one WA")
            return 0
        scored = score(args.problems, args.completions, args.out, args.workers, args.form)
    except (ValueError, OSError, SandboxError, KeyboardInterrupt) as error:
        sys.exit(f"reward.py: {str(error) or 'interrupted; the same command continues'}")
    _print_table(scored, args.workers)
    return 3 if any(row["verdict"] == "JE" for _, row in scored) else 0


@dataclass(frozen=True)
class Submission:
    """A completion to be judged."""

    problem: dict
    completion: str
    key: str  # what its verdict is known by in the file of verdicts


def score(
    problems_path: Path, completions_path: Path, out: Path, workers: int, form: str = "chat"
) -> list[tuple[str, dict]]:
    """(target language, verdict row) of every completion, in their order; written to `out`.

    Rows are added to `out` as they come, so that a run that was cut off can be continued, and are
    put into order at the end. Raises ValueError for a bad input row and for a verdict in `out` that
    would be lost, SandboxError if a canary fails.
    """
    # Workers, which start by importing this file, need neither of these.
    from tqdm import tqdm

    from data import end_last_row, read_jsonl, read_problems, write_atomically

    view.hide(problems_path.parent, completions_path.parent, out.parent)
    problems = read_problems(problems_path, harness=True)
    submissions = _read_submissions(completions_path, problems, problems_path, form)
    known = []
    if out.exists():
        end_last_row(out)
        known = read_jsonl(out, {"key": str, "verdict": str})
    keys = {submission.key for submission in submissions}
    verdict_rows = {}
    for line, row in known:
        if row["verdict"] == "JE":
            continue
        if row["key"] not in keys:
            raise ValueError(
                f"{out}:{line}: a verdict on another answer, problem or --form than is given: it "
                "would be lost; name another --out"
            )
        verdict_rows[row["key"]] = row
    unsupported = harnesses.unsupported_languages(problems)
    for submission in submissions:
        reason = unsupported.get(submission.problem["target_language"])
        if reason:
            verdict_rows[submission.key] = {
                "id": submission.problem["id"],
                "verdict": "JE",
                "reward": None,
                "detail": reason,
                "wall_s": 0.0,
                "key": submission.key,
            }
    with judge_pool(workers) as pool, open(out, "a") as file:
        targets = {submission.problem["target_language"] for submission in submissions}
        _, missing = installed_toolchains()
        check_canaries(pool, targets - missing.keys() - unsupported.keys())
        # By key, because equal completions share one row.
        remaining = {each.key: each for each in submissions if each.key not in verdict_rows}
        futures = []
        for submission in remaining.values():
            futures.append(pool.submit(submission.problem, submission.completion, form))
        for key, future in zip(remaining, tqdm(futures, unit="program")):
            verdict_rows[key] = _verdict_row(remaining[key], future.result())
            print(json.dumps(verdict_rows[key]), file=file, flush=True)
        print(f"{pool.retries} verdicts were in doubt and asked for again")
    scored = [(each.problem["target_language"], verdict_rows[each.key]) for each in submissions]
    # The file is replaced at once, so that a run that is cut off here loses no verdict.
    write_atomically(out, "".join(json.dumps(row) + "\n" for _, row in scored))
    return scored


def _read_submissions(path, problems, problems_path, form):
    from data import read_jsonl

    problem_by_id = {problem["id"]: problem for problem in problems}
    submissions = []
    for line, row in read_jsonl(path, {"id": str, "completion": str}, any_text=True):
        problem = problem_by_id.get(row["id"])
        if problem is None:
            raise ValueError(
                f'{path}:{line}: "id" {row["id"]!r} is in no row of {problems_path}; add one'
            )
        judged = [problem, row["completion"]]
        if form != "chat":
            judged.append(form)
        submissions.append(Submission(problem, row["completion"], digest(judged)))
    return submissions


def _verdict_row(submission, verdict):
    row = {
        "id": submission.problem["id"],
        "verdict": verdict.status,
        "reward": verdict.reward,
        "detail": verdict.detail,
        "cpu_s": verdict.cpu_s,
        "wall_s": verdict.wall_s,
    }
    if harnesses.is_harness(submission.problem):
        row["guarded"] = verdict.guarded
    row["key"] = submission.key
    return row


def _print_table(scored, workers):
    """One line for each target language: how many verdicts of each status, and the times."""
    rows_by_target = defaultdict(list)
    for target, row in scored:
        rows_by_target[target].append(row)
    statuses = "".join(f"{status:>6}" for status in STATUSES)
    print(f"{'target':12}{statuses}  median_s   p95_s  programs_per_s")
    for target, rows in sorted(rows_by_target.items()):
        counts = Counter(row["verdict"] for row in rows)
        columns = "".join(f"{counts[status]:6}" for status in STATUSES)
        seconds = sorted(row["wall_s"] for row in rows)
        median_s = seconds[len(seconds) // 2]
        p95_s = seconds[int(len(seconds) * 0.95)]
        # The rate at which these programs are judged if they alone keep all workers busy.
        programs_per_s = workers * len(seconds) / max(sum(seconds), 1e-9)
        print(f"{target:12}{columns}{median_s:10.3f}{p95_s:8.3f}{programs_per_s:16.1f}")
        rules = harnesses.describe_rules(rows)
        if rules:
            print(f"{'':12}{rules}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        _work()
    else:
        sys.exit(main())
