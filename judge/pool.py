"""Many answers judged at a time, by worker processes."""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from judge import harnesses
from judge.answer import code_in_answer
from judge.languages import LANGUAGES
from judge.sandbox import SandboxError
from judge.verdict import Verdict, judge_error

REMEMBERED = 50_000  # verdicts
STALE_S = 60  # age from which a pool's folder that nobody holds is of a killed one


class JudgePool:
    """Judges many answers at a time: each of its threads feeds a worker process. Use it in a `with`, or close() it.

    Equal programs with equal tests are judged once. A worker that dies is replaced. What is in doubt is asked for once
    more, with no other box of this pool beside it; `retries` counts that."""

    def __init__(self, workers: int, worker_command: list[str]):
        self.workers, self.retries, self._closed = workers, 0, False
        _sweep()
        self._folder = tempfile.TemporaryDirectory(prefix="oorl-judge-", ignore_cleanup_errors=True)
        self._hold = os.open(self._folder.name, os.O_RDONLY)
        fcntl.flock(self._hold, fcntl.LOCK_EX)  # gone with this process, however it ends
        os.chmod(self._folder.name, 0o711)  # slot uids pass through; the boxes in it are 0700
        self._futures, self._processes = {}, {}  # by digest; by thread
        self._lock, self._turnstile, self._permits = (
            threading.Lock(),
            threading.Lock(),
            threading.Semaphore(workers),
        )
        self._command = [*TIED, *namespace(), *worker_command]
        self._threads = ThreadPoolExecutor(workers)

    def submit(self, problem: dict, completion: str, form: str = "chat") -> "Future[Verdict]":
        """The verdict to come; equal programs share one future. form: of answers to MultiPL-E, "chat" or "completion"."""
        problem = harnesses.with_common_fields(problem)
        asked = {
            field: problem[field]
            for field in ("target_language", "tests", *harnesses.FIELDS)
            if field in problem
        }
        key = digest([asked, form, code_in_answer(problem, completion, form)])
        with self._lock:
            future = self._futures.get(key)
            if (
                not future
                or future.cancelled()
                or (future.done() and future.result().status == "JE")
            ):
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
        with (
            self._turnstile
        ):  # taken by ones too, so that they do not starve the one who gathers all
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
                    return judge_error("the pool was closed"), False
                if thread not in self._processes:
                    self._processes[thread] = subprocess.Popen(
                        self._command,
                        env={**os.environ, "TMPDIR": self._folder.name},
                        start_new_session=True,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                    )
                worker = self._processes[thread]
            worker.stdin.write(request)
            worker.stdin.flush()
            fields, in_doubt = json.loads(worker.stdout.readline())
            return Verdict(*fields), in_doubt
        except (
            OSError,
            ValueError,
        ) as error:  # no process to be had, a broken pipe, a torn or an empty line
            with self._lock:
                worker = self._processes.pop(thread, None)
            if worker:
                with contextlib.suppress(OSError), worker:  # which closes its pipes and waits
                    worker.kill()
            return judge_error(f"a judge worker died: {error}"), True


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


def digest(value) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


TIED = ["/usr/bin/setpriv", "--pdeathsig=KILL"]  # dies with the thread that started it


def namespace() -> list[str]:
    """Makes a process 1 of a namespace, where it may: when it dies, the kernel kills its boxes, half-built ones too."""
    own_user = ["--user", "--map-current-user"] if os.geteuid() else []
    inside = ["/usr/bin/unshare", *own_user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    return (
        []
        if subprocess.run([*TIED, *inside, *TIED, "/usr/bin/true"], capture_output=True).returncode
        else inside
    )


def check_canaries(pool: JudgePool, languages) -> None:
    """Judge a known-good and a known-bad program of each language; SandboxError if one gets a wrong verdict."""
    a, b = random.SystemRandom().sample(
        range(1, 10**6), 2
    )  # new each time, or the pool would remember the verdicts
    tests = [{"stdin": f"{a}\n{b}\n", "stdout": f"{a + b}\n"}]
    programs = [(name, "AC", LANGUAGES[name].canary) for name in languages]
    programs += [(name, "WA", code.replace(" + ", " - ")) for name, _, code in programs]
    futures = [
        pool.submit({"target_language": name, "tests": tests}, f"```{name}\n{code}\n```")
        for name, _, code in programs
    ]
    for (name, status, _), future in zip(programs, futures):
        if (verdict := future.result()).status != status:
            raise SandboxError(
                f"canary: a {LANGUAGES[name].display} program that must be {status} is "
                f"{verdict.status} ({verdict.detail}); the judge cannot be trusted with this language"
            )
