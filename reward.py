"""The rule reward, Eq. 4: a prompt, the program in its answer, and whether that program passes its tests.

    python reward.py --problems P.jsonl --completions C.jsonl --out V.jsonl [--workers N] [--form chat|completion]
    python reward.py --probe                         print the sandbox, the tools' versions and what the canaries say

AC; WA CE RE TLE MLE OLE as in any judge; NC (no code): the answer is not one fenced block of the target language;
JE (judge error): our fault, so the reward is None and never 0. Expected outputs never enter the box, exit code 0 is no
pass, outputs are compared as bytes save for white space at the ends of lines and of the whole. Workers import no torch.
Harness problems (evaluation only, see harness.py): verdict and reward are by the official rule, "guarded" by the other.
Left out: tolerances for floats, partial credit (Eq. 4 has none).
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, astuple, replace
from pathlib import Path

from judge import harnesses, sandbox
from judge.answer import code_in_answer, extract_code  # noqa: F401
from judge.languages import LANGUAGES, file_and_main_class, installed_toolchains, why_missing
from judge.pool import JudgePool, check_canaries, digest
from judge.sandbox import SandboxError
from judge.verdict import STATUSES, Verdict

DISK_BYTES = 64 << 20  # free, beside the boxes: a compiler that fails for want of it is our fault
BOX = {"prefix": "oorl-box-", "ignore_cleanup_errors": True}


def _verdict(status, detail="", cpu_s=0.0, wall_s=0.0) -> Verdict:
    return Verdict(status, {"AC": 1.0, "JE": None}.get(status, 0.0), detail, cpu_s, wall_s)  # Eq. 4


def judge(problem: dict, completion: str, form: str = "chat") -> Verdict:
    """The verdict on one answer, in this process: compiles once, one new process a test, stops at the first failure.

    Never raises. A verdict in doubt (a fault of the sandbox, a wall time-out of a program that waited for a CPU) is
    asked for once more, and that one stands; JudgePool sees to it that it then runs alone."""
    verdict, in_doubt = _judge(problem, completion, form)
    return _judge(problem, completion, form)[0] if in_doubt else verdict


def _judge(problem: dict, completion: str, form: str) -> tuple[Verdict, bool]:
    try:
        problem = harnesses.with_common_fields(problem)
        has_harness, name = harnesses.is_harness(problem), problem["target_language"]
        code = code_in_answer(problem, completion, form)
        if code is None:
            verdict = _verdict("NC", f"not one closed block with the tag {name}, or over 64 KB")
            return replace(
                verdict, guarded=False if has_harness and harnesses.guarded(problem) else None
            ), False
        language = harnesses.HARNESSES[name].language if has_harness else LANGUAGES[name]
        if mend := why_missing(language):
            return _verdict("JE", mend), False
        if has_harness:
            return _run_harness(problem, code, form)
        with tempfile.TemporaryDirectory(**BOX) as box:
            return _run_tests(
                language, file_and_main_class(language, code), code, problem["tests"], box
            )
    except (
        Exception
    ) as error:  # whatever is wrong with the judge must not become a reward; the detail is logged
        return _verdict("JE", f"{type(error).__name__}: {error}"), True


def _run_harness(problem, code, form) -> tuple[Verdict, bool]:
    """By the official rule; an answer that passes is run once more, in a box of its own, by the guarded one."""
    row = harnesses.HARNESSES[problem["target_language"]]

    def run(guard, token):
        whole = harnesses.program(problem, code, form, guard)
        with tempfile.TemporaryDirectory(**BOX) as box:
            return _run_tests(
                row.language,
                harnesses.file_and_main(row.language, problem, whole),
                whole,
                [{"stdin": token, "stdout": token}],
                box,
                lambda result, wanted: harnesses.status(row, result, wanted.strip()),
            )

    verdict, in_doubt = run(False, "")
    if harnesses.guarded(problem) is None:
        return verdict, in_doubt
    if verdict.status != "AC":
        return replace(verdict, guarded=None if verdict.status == "JE" else False), in_doubt
    second, in_doubt = run(True, secrets.token_hex(16) + "\n")
    detail = second.detail and f"guarded: {second.detail}"
    return replace(
        verdict, guarded=second.status == "AC", detail=detail, cpu_s=verdict.cpu_s + second.cpu_s
    ), in_doubt


def _compared(result, expected) -> str:
    return (
        "WA"
        if result.status == "OK" and _trimmed(result.stdout) != _trimmed(expected)
        else result.status
    )


def _run_tests(
    language, file_and_main, code, tests, box, status_of=_compared
) -> tuple[Verdict, bool]:
    file, main = file_and_main
    if language.beside[0]:
        Path(box, language.beside[0]).write_text(language.beside[1])
    Path(box, file).write_bytes(code.encode(errors="replace"))  # a lone surrogate becomes "?"
    steps = (
        [("compiler", language.compile, language.compile_limits, b"", b"")]
        if language.compile
        else []
    )
    steps += [
        (
            f"test {number}",
            language.run,
            language.limits,
            test["stdin"].encode(),
            test["stdout"].encode(),
        )
        for number, test in enumerate(tests, 1)
    ]
    cpu_s = wall_s = 0.0
    for step, command, limits, stdin, expected in steps:
        compiles = step == "compiler"
        result = sandbox.run(
            command.format(file=file, main=main).split(), box, limits, stdin, writable=compiles
        )
        cpu_s, wall_s = cpu_s + result.cpu_s, wall_s + result.wall_s
        status = result.status if compiles else status_of(result, expected)
        if result.status != "OK":
            if compiles and shutil.disk_usage(box).free < DISK_BYTES:
                raise SandboxError(
                    f"the disk of {box} is full; free {DISK_BYTES >> 20} MiB or set TMPDIR"
                )
            # Given a CPU it might have ended in time: no fault of the program.
            starved = (
                result.status == "TLE"
                and result.cpu_s <= limits.cpu_s
                and result.queued_s > limits.wall_s / 4
            )
            said = result.stderr or result.stdout * compiles  # tsc complains on stdout
            text = said[:300] if compiles else said[-300:]  # compilers begin with the first error
            detail = f"{step}: {result.status}, exit code {result.returncode}, {text!r}"
            return _verdict("CE" if compiles else status, detail, cpu_s, wall_s), starved
        if status != "OK":
            detail = f"{step}: {result.stdout[:100]!r}, expected {expected[:100]!r}"  # no escape codes in the log
            return _verdict(status, detail, cpu_s, wall_s), False
    return _verdict("AC", "", cpu_s, wall_s), False


def _trimmed(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def judge_pool(workers: int = os.cpu_count()) -> JudgePool:
    """A pool whose workers are processes of this file."""
    return JudgePool(workers, [sys.executable, str(Path(__file__).resolve()), "--worker"])


def _work() -> None:
    """A worker: [problem, completion, form] a line in, [verdict, in doubt] a line out, until its input ends."""
    signal.signal(
        signal.SIGINT, lambda *_: None
    )  # Ctrl-C is the trainer's; SIG_IGN would be inherited by programs
    signal.signal(
        signal.SIGALRM, lambda *_: os._exit(1)
    )  # a judge that hangs dies of it, which the pool sees
    for line in sys.stdin.buffer:
        problem, completion, form = json.loads(line)
        language = LANGUAGES[problem["target_language"]]
        compiles, runs = (2, 2) if harnesses.is_harness(problem) else (1, len(problem["tests"]))
        signal.alarm(
            int(60 + compiles * language.compile_limits.wall_s + runs * language.limits.wall_s)
        )
        verdict, in_doubt = _judge(problem, completion, form)
        signal.alarm(0)
        print(json.dumps([astuple(verdict), in_doubt]), flush=True)


def score(
    problems_path, completions_path, out: Path, workers: int, form: str = "chat"
) -> list[tuple[str, dict]]:
    """(target language, verdict row) of every completion. Rows are added to `out` as they come, which is how a run
    that was cut off is continued, and put into the order of the completions at the end."""
    from tqdm import tqdm

    from data import read_jsonl, read_problems

    problems = {problem["id"]: problem for problem in read_problems(problems_path, harness=True)}
    unknown = harnesses.unsupported_languages(problems.values())
    completions = read_jsonl(completions_path, {"id": str, "completion": str})
    for line, row in completions:
        if row["id"] not in problems:
            raise ValueError(
                f'{completions_path}:{line}: "id" {row["id"]!r} is in no row of {problems_path}; add one'
            )
    completions = [row for _, row in completions]
    keys = [
        digest([problems[row["id"]], row["completion"], *[form] * (form != "chat")])
        for row in completions
    ]
    known = read_jsonl(out, {"key": str, "verdict": str}) if out.exists() else []
    done = {row["key"]: row for _, row in known if row["verdict"] != "JE"}
    for key, row in zip(keys, completions):
        if why := unknown.get(problems[row["id"]]["target_language"]):
            done[key] = {
                "id": row["id"],
                "verdict": "JE",
                "reward": None,
                "detail": why,
                "wall_s": 0.0,
                "key": key,
            }
    with judge_pool(workers) as pool, open(out, "a") as file:
        check_canaries(
            pool,
            {problems[row["id"]]["target_language"] for row in completions}
            - installed_toolchains()[1].keys()
            - unknown.keys(),
        )
        todo = {key: row for key, row in zip(keys, completions) if key not in done}
        futures = [
            pool.submit(problems[row["id"]], row["completion"], form) for row in todo.values()
        ]
        for key, future in zip(todo, tqdm(futures, unit="program")):
            verdict = asdict(future.result())
            if not harnesses.is_harness(problems[todo[key]["id"]]):
                del verdict["guarded"]
            done[key] = {
                "id": todo[key]["id"],
                "verdict": verdict.pop("status"),
                **verdict,
                "key": key,
            }
            print(json.dumps(done[key]), file=file, flush=True)
        print(f"{pool.retries} verdicts were in doubt and asked for again")
    rows = [done[key] for key in keys]
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(temporary, out)
    return [(problems[row["id"]]["target_language"], row) for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
        versions, mends = installed_toolchains()
        print(*(f"{name:12}{line}" for name, line in {**versions, **mends}.items()), sep="\n")
        if args.probe:
            with judge_pool(args.workers) as pool:
                check_canaries(pool, versions)
            print("canaries: every known-good program is AC, every known-bad one WA")
            return 0
        rows = score(args.problems, args.completions, args.out, args.workers, args.form)
    except (ValueError, OSError, SandboxError, KeyboardInterrupt) as error:
        sys.exit(f"reward.py: {str(error) or 'interrupted; the same command continues'}")
    print(
        f"{'target':12}"
        + "".join(f"{status:>6}" for status in STATUSES)
        + "  median_s   p95_s  programs_per_s"
    )
    for name in sorted({name for name, _ in rows}):
        counts = Counter(row["verdict"] for target, row in rows if target == name)
        seconds = sorted(row["wall_s"] for target, row in rows if target == name)
        print(
            f"{name:12}"
            + "".join(f"{counts[status]:6}" for status in STATUSES)
            + f"{seconds[len(seconds) // 2]:10.3f}{seconds[int(len(seconds) * 0.95)]:8.3f}"
            + f"{args.workers * len(seconds) / max(sum(seconds), 1e-9):16.1f}"
        )  # if these alone kept all workers busy
        if told := harnesses.describe_rules([row for target, row in rows if target == name]):
            print(f"{'':12}{told}")
    return 3 if any(row["verdict"] == "JE" for _, row in rows) else 0


if __name__ == "__main__":
    sys.exit(_work() if sys.argv[1:] == ["--worker"] else main())
