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
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import harness
import sandbox
from languages import LANGUAGES, found, missing, names
from sandbox import SandboxError

SOURCE_BYTES = 64 << 10  # a longer program is no answer
DISK_BYTES = 64 << 20  # free, beside the boxes: a compiler that fails for want of it is our fault
BOX = {"prefix": "oorl-box-", "ignore_cleanup_errors": True}
REMEMBERED = 50_000  # verdicts
STALE_S = 60  # age from which a pool's folder that nobody holds is of a killed one
STATUSES = ("AC", "WA", "CE", "RE", "TLE", "MLE", "OLE", "NC", "JE")


@dataclass(frozen=True)
class Verdict:
    status: str  # of STATUSES
    reward: float | None
    detail: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    guarded: bool | None = None  # a harness problem: passes by the guarded rule too; None if it has no guard


def _verdict(status, detail="", cpu_s=0.0, wall_s=0.0) -> Verdict:
    return Verdict(status, {"AC": 1.0, "JE": None}.get(status, 0.0), detail, cpu_s, wall_s)  # Eq. 4


def translation_prompt(problem: dict) -> str:
    source, target = LANGUAGES[problem["source_language"]], LANGUAGES[problem["target_language"]]
    prompt = (f"Translate this {source.display} program to {target.display}. Reply with one ```{target.name} block.\n"
              f"```{source.name}\n{problem['source'].rstrip(chr(10))}\n```")
    return prompt + (f"\nSignature: {problem['declaration']}" if problem.get("declaration") else "")


def extract_code(completion: str, language: str) -> str | None:
    """The program, if the text holds one fenced block, closed and with a tag of the language; else None."""
    lines = completion.split("\n")  # not splitlines: form feeds and their like belong to the program
    fences = [(i, line.strip()) for i, line in enumerate(lines) if re.match(" {0,3}```", line)]
    if len(fences) != 2 or fences[0][1][3:].strip().lower() not in LANGUAGES[language].tags or fences[1][1] != "```":
        return None
    code = "\n".join(lines[fences[0][0] + 1 : fences[1][0]]) + "\n"
    return code if code.strip() and len(code.encode(errors="replace")) <= SOURCE_BYTES else None


def question(problem: dict) -> str:
    """What a chat model is asked."""
    return harness.chat_question(problem) if harness.is_multipl_e(problem) else translation_prompt(problem)


def _answer(problem, completion, form) -> str | None:
    """The code in an answer; None: there is none. Completion form is that of rows with a prompt to continue."""
    if form == "chat" or not harness.is_multipl_e(problem):
        return extract_code(completion, problem["target_language"])
    return harness.continuation(problem, completion, SOURCE_BYTES)


def judge(problem: dict, completion: str, form: str = "chat") -> Verdict:
    """The verdict on one answer, in this process: compiles once, one new process a test, stops at the first failure.

    Never raises. A verdict in doubt (a fault of the sandbox, a wall time-out of a program that waited for a CPU) is
    asked for once more, and that one stands; JudgePool sees to it that it then runs alone."""
    verdict, in_doubt = _judge(problem, completion, form)
    return _judge(problem, completion, form)[0] if in_doubt else verdict


def _judge(problem: dict, completion: str, form: str) -> tuple[Verdict, bool]:
    try:
        problem = harness.normal(problem)
        has_harness, name = harness.is_harness(problem), problem["target_language"]
        code = _answer(problem, completion, form)
        if code is None:
            verdict = _verdict("NC", f"not one closed block with the tag {name}, or over 64 KB")
            return replace(verdict, guarded=False if has_harness and harness.guarded(problem) else None), False
        language = harness.HARNESSES[name].language if has_harness else LANGUAGES[name]
        if mend := missing(language):
            return _verdict("JE", mend), False
        if has_harness:
            return _run_harness(problem, code, form)
        with tempfile.TemporaryDirectory(**BOX) as box:
            return _run_tests(language, names(language, code), code, problem["tests"], box)
    except Exception as error:  # whatever is wrong with the judge must not become a reward; the detail is logged
        return _verdict("JE", f"{type(error).__name__}: {error}"), True


def _run_harness(problem, code, form) -> tuple[Verdict, bool]:
    """By the official rule; an answer that passes is run once more, in a box of its own, by the guarded one."""
    row = harness.HARNESSES[problem["target_language"]]

    def run(guard, token):
        whole = harness.program(problem, code, form, guard)
        with tempfile.TemporaryDirectory(**BOX) as box:
            return _run_tests(row.language, harness.file_and_main(row.language, problem, whole), whole,
                              [{"stdin": token, "stdout": token}], box, lambda result, wanted: harness.status(row, result, wanted.strip()))
    verdict, in_doubt = run(False, "")
    if harness.guarded(problem) is None:
        return verdict, in_doubt
    if verdict.status != "AC":
        return replace(verdict, guarded=None if verdict.status == "JE" else False), in_doubt
    second, in_doubt = run(True, secrets.token_hex(16) + "\n")
    detail = second.detail and f"guarded: {second.detail}"
    return replace(verdict, guarded=second.status == "AC", detail=detail, cpu_s=verdict.cpu_s + second.cpu_s), in_doubt


def _compared(result, expected) -> str:
    return "WA" if result.status == "OK" and _trimmed(result.stdout) != _trimmed(expected) else result.status


def _run_tests(language, file_and_main, code, tests, box, status_of=_compared) -> tuple[Verdict, bool]:
    file, main = file_and_main
    if language.beside[0]:
        Path(box, language.beside[0]).write_text(language.beside[1])
    Path(box, file).write_bytes(code.encode(errors="replace"))  # a lone surrogate becomes "?"
    steps = [("compiler", language.compile, language.compile_limits, b"", b"")] if language.compile else []
    steps += [(f"test {number}", language.run, language.limits, test["stdin"].encode(), test["stdout"].encode())
              for number, test in enumerate(tests, 1)]
    cpu_s = wall_s = 0.0
    for step, command, limits, stdin, expected in steps:
        compiles = step == "compiler"
        result = sandbox.run(command.format(file=file, main=main).split(), box, limits, stdin, writable=compiles)
        cpu_s, wall_s = cpu_s + result.cpu_s, wall_s + result.wall_s
        status = result.status if compiles else status_of(result, expected)
        if result.status != "OK":
            if compiles and shutil.disk_usage(box).free < DISK_BYTES:
                raise SandboxError(f"the disk of {box} is full; free {DISK_BYTES >> 20} MiB or set TMPDIR")
            # Given a CPU it might have ended in time: no fault of the program.
            starved = result.status == "TLE" and result.cpu_s <= limits.cpu_s and result.queued_s > limits.wall_s / 4
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


class JudgePool:
    """Judges many answers at a time: each of its threads feeds a worker process. Use it in a `with`, or close() it.

    Equal programs with equal tests are judged once. A worker that dies is replaced. What is in doubt is asked for once
    more, with no other box of this pool beside it; `retries` counts that."""

    def __init__(self, workers: int = os.cpu_count()):
        self.workers, self.retries, self._closed = workers, 0, False
        _sweep()
        self._folder = tempfile.TemporaryDirectory(prefix="oorl-judge-", ignore_cleanup_errors=True)
        self._hold = os.open(self._folder.name, os.O_RDONLY)
        fcntl.flock(self._hold, fcntl.LOCK_EX)  # gone with this process, however it ends
        os.chmod(self._folder.name, 0o711)  # slot uids pass through; the boxes in it are 0700
        self._futures, self._processes = {}, {}  # by digest; by thread
        self._lock, self._turnstile, self._permits = threading.Lock(), threading.Lock(), threading.Semaphore(workers)
        self._command = [*TIED, *namespace(), sys.executable, __file__, "--worker"]
        self._threads = ThreadPoolExecutor(workers)

    def submit(self, problem: dict, completion: str, form: str = "chat") -> "Future[Verdict]":
        """The verdict to come; equal programs share one future. form: of answers to MultiPL-E, "chat" or "completion"."""
        problem = harness.normal(problem)
        asked = {field: problem[field] for field in ("target_language", "tests", *harness.FIELDS) if field in problem}
        key = _digest([asked, form, _answer(problem, completion, form)])
        with self._lock:
            future = self._futures.get(key)
            if not future or future.cancelled() or (future.done() and future.result().status == "JE"):
                request = json.dumps([asked, completion, form]).encode() + b"\n"
                future = self._futures[key] = self._threads.submit(self._serve, request)
            if len(self._futures) > REMEMBERED:
                del self._futures[next(iter(self._futures))]
        return future

    def close(self) -> None:
        """Kill workers and boxes; what was not judged yet is JE."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for worker in self._processes.values():
                worker.kill()
        self._threads.shutdown()
        for worker in self._processes.values():
            worker.communicate()  # closes its pipes and waits
        self._folder.cleanup()
        os.close(self._hold)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self, request) -> Verdict:
        with self._turn(1):
            verdict, in_doubt = self._ask(request)
        if in_doubt:
            with self._turn(self.workers):
                self.retries += 1
                verdict, _ = self._ask(request)
        return verdict

    @contextlib.contextmanager
    def _turn(self, permits):
        with self._turnstile:  # taken by ones too, so that they do not starve the one who gathers all
            for _ in range(permits):
                self._permits.acquire()
        try:
            yield
        finally:
            self._permits.release(permits)

    def _ask(self, request) -> tuple[Verdict, bool]:
        thread = threading.get_ident()
        try:
            with self._lock:
                if self._closed:
                    return _verdict("JE", "the pool was closed"), False
                if thread not in self._processes:
                    self._processes[thread] = subprocess.Popen(
                        self._command, env={**os.environ, "TMPDIR": self._folder.name}, start_new_session=True,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                worker = self._processes[thread]
            worker.stdin.write(request)
            worker.stdin.flush()
            fields, in_doubt = json.loads(worker.stdout.readline())
            return Verdict(*fields), in_doubt
        except (OSError, ValueError) as error:  # no process to be had, a broken pipe, a torn or an empty line
            with self._lock:
                worker = self._processes.pop(thread, None)
            if worker:
                with contextlib.suppress(OSError), worker:  # which closes its pipes and waits
                    worker.kill()
            return _verdict("JE", f"a judge worker died: {error}"), True


def _sweep() -> None:
    """Remove the folders that killed pools left: those that nobody holds, and that are not about to be held."""
    for folder in Path(tempfile.gettempdir()).glob("oorl-judge-*"):
        with contextlib.suppress(OSError):  # held, another user's, or swept by another pool
            hold = os.open(folder, os.O_RDONLY)
            try:
                if time.time() - os.fstat(hold).st_mtime > STALE_S:
                    fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(hold)


def _digest(value) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


TIED = ["/usr/bin/setpriv", "--pdeathsig=KILL"]  # dies with the thread that started it


def namespace() -> list[str]:
    """Makes a process 1 of a namespace, where it may: when it dies, the kernel kills its boxes, half-built ones too."""
    own_user = ["--user", "--map-current-user"] if os.geteuid() else []
    inside = ["/usr/bin/unshare", *own_user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [] if subprocess.run([*TIED, *inside, *TIED, "/usr/bin/true"], capture_output=True).returncode else inside


def _work() -> None:
    """A worker: [problem, completion, form] a line in, [verdict, in doubt] a line out, until its input ends."""
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the trainer's; SIG_IGN would be inherited by programs
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))  # a judge that hangs dies of it, which the pool sees
    for line in sys.stdin.buffer:
        problem, completion, form = json.loads(line)
        language = LANGUAGES[problem["target_language"]]
        compiles, runs = (2, 2) if harness.is_harness(problem) else (1, len(problem["tests"]))
        signal.alarm(int(60 + compiles * language.compile_limits.wall_s + runs * language.limits.wall_s))
        verdict, in_doubt = _judge(problem, completion, form)
        signal.alarm(0)
        print(json.dumps([astuple(verdict), in_doubt]), flush=True)


def canaries(pool: JudgePool, languages) -> None:
    """Judge a known-good and a known-bad program of each language; SandboxError if one gets a wrong verdict."""
    a, b = random.SystemRandom().sample(range(1, 10**6), 2)  # new each time, or the pool would remember the verdicts
    tests = [{"stdin": f"{a}\n{b}\n", "stdout": f"{a + b}\n"}]
    programs = [(name, "AC", LANGUAGES[name].canary) for name in languages]
    programs += [(name, "WA", code.replace(" + ", " - ")) for name, _, code in programs]
    futures = [pool.submit({"target_language": name, "tests": tests}, f"```{name}\n{code}\n```")
               for name, _, code in programs]
    for (name, status, _), future in zip(programs, futures):
        if (verdict := future.result()).status != status:
            raise SandboxError(f"canary: a {LANGUAGES[name].display} program that must be {status} is "
                               f"{verdict.status} ({verdict.detail}); the judge cannot be trusted with this language")


def score(problems_path, completions_path, out: Path, workers: int, form: str = "chat") -> list[tuple[str, dict]]:
    """(target language, verdict row) of every completion. Rows are added to `out` as they come, which is how a run
    that was cut off is continued, and put into the order of the completions at the end."""
    from tqdm import tqdm
    from data import read_jsonl, read_problems

    problems = {problem["id"]: problem for problem in read_problems(problems_path, harness=True)}
    unknown = harness.unknown(problems.values())
    completions = read_jsonl(completions_path, {"id": str, "completion": str})
    for line, row in completions:
        if row["id"] not in problems:
            raise ValueError(f'{completions_path}:{line}: "id" {row["id"]!r} is in no row of {problems_path}; add one')
    completions = [row for _, row in completions]
    keys = [_digest([problems[row["id"]], row["completion"], *[form] * (form != "chat")]) for row in completions]
    known = read_jsonl(out, {"key": str, "verdict": str}) if out.exists() else []
    done = {row["key"]: row for _, row in known if row["verdict"] != "JE"}
    for key, row in zip(keys, completions):
        if why := unknown.get(problems[row["id"]]["target_language"]):
            done[key] = {"id": row["id"], "verdict": "JE", "reward": None, "detail": why, "wall_s": 0.0, "key": key}
    with JudgePool(workers) as pool, open(out, "a") as file:
        canaries(pool, {problems[row["id"]]["target_language"] for row in completions} - found()[1].keys() - unknown.keys())
        todo = {key: row for key, row in zip(keys, completions) if key not in done}
        futures = [pool.submit(problems[row["id"]], row["completion"], form) for row in todo.values()]
        for key, future in zip(todo, tqdm(futures, unit="program")):
            verdict = asdict(future.result())
            if not harness.is_harness(problems[todo[key]["id"]]):
                del verdict["guarded"]
            done[key] = {"id": todo[key]["id"], "verdict": verdict.pop("status"), **verdict, "key": key}
            print(json.dumps(done[key]), file=file, flush=True)
        print(f"{pool.retries} verdicts were in doubt and asked for again")
    rows = [done[key] for key in keys]
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(temporary, out)
    return [(problems[row["id"]]["target_language"], row) for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=Path)
    parser.add_argument("--completions", type=Path)
    parser.add_argument("--out", type=Path, help="the verdicts; a run that was cut off is continued")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="programs judged at a time")
    parser.add_argument("--form", choices=harness.FORMS, default="chat", help="of the answers to MultiPL-E rows")
    parser.add_argument("--probe", action="store_true", help="say what this machine can judge")
    parser.add_argument("--unsafe-no-sandbox", action="store_true", help="run programs WITHOUT isolation")
    args = parser.parse_args()
    if not args.probe and not (args.problems and args.completions and args.out):
        parser.error("give --problems, --completions and --out, or --probe")
    if args.unsafe_no_sandbox:
        os.environ[sandbox.UNSAFE_VARIABLE] = "1"
    try:
        print(sandbox.probe())
        versions, mends = found()
        print(*(f"{name:12}{line}" for name, line in {**versions, **mends}.items()), sep="\n")
        if args.probe:
            with JudgePool(args.workers) as pool:
                canaries(pool, versions)
            print("canaries: every known-good program is AC, every known-bad one WA")
            return 0
        rows = score(args.problems, args.completions, args.out, args.workers, args.form)
    except (ValueError, OSError, SandboxError, KeyboardInterrupt) as error:
        sys.exit(f"reward.py: {str(error) or 'interrupted; the same command continues'}")
    print(f"{'target':12}" + "".join(f"{status:>6}" for status in STATUSES) + "  median_s   p95_s  programs_per_s")
    for name in sorted({name for name, _ in rows}):
        counts = Counter(row["verdict"] for target, row in rows if target == name)
        seconds = sorted(row["wall_s"] for target, row in rows if target == name)
        print(f"{name:12}" + "".join(f"{counts[status]:6}" for status in STATUSES)
              + f"{seconds[len(seconds) // 2]:10.3f}{seconds[int(len(seconds) * 0.95)]:8.3f}"
              + f"{args.workers * len(seconds) / max(sum(seconds), 1e-9):16.1f}")  # if these alone kept all workers busy
        if told := harness.told([row for target, row in rows if target == name]):
            print(f"{'':12}{told}")
    return 3 if any(row["verdict"] == "JE" for _, row in rows) else 0


if __name__ == "__main__":
    sys.exit(_work() if sys.argv[1:] == ["--worker"] else main())
