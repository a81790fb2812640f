"""Many answers judged at a time, by worker processes.

JudgePool takes a problem and an answer and returns a Future of the Verdict. The caller says which
command starts a worker (reward.judge_pool does), so that nothing in this room imports reward.py. A
worker reads one request per line, JSON [problem, completion, form], and answers each with one
Judgement per line. check_canaries shows that a pool can be trusted before it is used.

Left out: workers on other machines, and a store of verdicts that outlives the pool.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from judge import harnesses, sandbox, view
from judge.answer import code_in_answer
from judge.languages import LANGUAGES
from judge.limits import SandboxError
from judge.verdict import Judgement, judge_error

REMEMBERED = 50_000  # the number of verdicts that a pool remembers
# A pool locks its folder just after it has made it. A folder that is older than this and that
# nobody locks was left by a pool that was killed.
STALE_S = 60
FOLDER_PREFIX = "oorl-judge-"
# The process dies with the thread that started it.
TIED_TO_PARENT = ["/usr/bin/setpriv", "--pdeathsig=KILL"]


class JudgePool:
    """Judges many answers at a time: each of its threads feeds one worker process.

    Use it in a `with` statement, or close() it. Equal programs with equal tests are judged once. A
    worker that dies is replaced. A verdict in doubt is asked for once more, while no other program
    of this pool runs; `retries` counts these.
    """

    def __init__(self, workers, worker_command):
        """worker_command: the command line that starts a worker."""
        self.workers = workers
        self.retries = 0
        self._closed = False
        view.hide(Path(__file__).parent.parent, os.getcwd(), tempfile.gettempdir())
        _remove_abandoned_folders()
        self._folder = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True)
        self._folder_lock = os.open(self._folder.name, os.O_RDONLY)
        # The kernel drops this lock when this process ends, however it ends.
        fcntl.flock(self._folder_lock, fcntl.LOCK_EX)
        # Slot uids must pass through it to their boxes, which have mode 0700.
        os.chmod(self._folder.name, 0o711)
        self._futures = {}  # by digest of the request
        self._processes = {}  # by id of the thread that feeds them
        self._lock = threading.Lock()  # guards _futures, _processes and _closed
        self._turnstile = threading.Lock()
        self._permits = threading.Semaphore(workers)  # one for each program that runs
        self._command = [*TIED_TO_PARENT, *namespace(), *worker_command]
        self._threads = ThreadPoolExecutor(workers)

    def submit(self, problem, completion, form="chat"):
        """The verdict to come; equal programs share one future.

        form: of the answers to MultiPL-E problems, "chat" or "completion".
        """
        problem = harnesses.with_common_fields(problem)
        relevant = {field: problem[field] for field in harnesses.VERDICT_FIELDS if field in problem}
        key = digest([relevant, form, code_in_answer(problem, completion, form)])
        with self._lock:
            future = self._futures.get(key)
            if future is None or _must_be_judged_again(future):
                request = json.dumps([relevant, completion, form]).encode() + b"\n"
                future = self._threads.submit(self._serve, request)
                self._futures[key] = future
            if len(self._futures) > REMEMBERED:
                oldest = next(iter(self._futures))
                del self._futures[oldest]
        return future

    def close(self):
        """Kills the workers and their boxes. Answers that are not judged yet get the verdict JE."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for worker in self._processes.values():
                worker.kill()
        self._threads.shutdown()
        for worker in self._processes.values():
            worker.communicate()  # closes its pipes and waits
        sandbox.remove(self._folder.name)
        self._folder.cleanup()
        os.close(self._folder_lock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self, request):
        with self._turn(1):
            judgement = self._ask(request)
        if judgement.in_doubt:
            with self._turn(self.workers):
                self.retries += 1
                judgement = self._ask(request)
        return judgement.verdict

    @contextlib.contextmanager
    def _turn(self, permits):
        """Holds `permits` of the pool's permits; who holds them all runs alone."""
        # Everybody waits here, so that those who need one permit cannot starve one who needs all.
        with self._turnstile:
            for _ in range(permits):
                self._permits.acquire()
        try:
            yield
        finally:
            self._permits.release(permits)

    def _ask(self, request):
        try:
            worker = self._worker_of_this_thread()
            if worker is None:
                return Judgement(judge_error("the pool was closed"))
            worker.stdin.write(request)
            worker.stdin.flush()
            return Judgement.from_json(worker.stdout.readline())
        # No process could be started, the pipe is broken, or the answer is cut short or empty.
        except (OSError, ValueError) as error:
            self._discard_worker_of_this_thread()
            return Judgement(judge_error(f"a judge worker died: {error}"), in_doubt=True)

    def _worker_of_this_thread(self):
        """The worker that this thread feeds, started if need be; None if the pool is closed."""
        thread = threading.get_ident()
        with self._lock:
            if self._closed:
                return None
            if thread not in self._processes:
                self._processes[thread] = subprocess.Popen(
                    self._command,
                    env={**os.environ, "TMPDIR": self._folder.name},
                    start_new_session=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            return self._processes[thread]

    def _discard_worker_of_this_thread(self):
        with self._lock:
            worker = self._processes.pop(threading.get_ident(), None)
        if worker:
            # Leaving the worker's own `with` closes its pipes and waits for it.
            with contextlib.suppress(OSError), worker:
                worker.kill()


def check_canaries(pool, languages):
    """Judges a known-good and a known-bad program of each language.

    Raises SandboxError if one gets a wrong verdict.
    """
    # New numbers each time, or the pool would remember the verdicts.
    a, b = random.SystemRandom().sample(range(1, 10**6), 2)
    tests = [{"stdin": f"{a}\n{b}\n", "stdout": f"{a + b}\n"}]
    good = [Canary(name, LANGUAGES[name].canary, "AC") for name in languages]
    bad = [Canary(each.language, each.program.replace(" + ", " - "), "WA") for each in good]
    canaries = good + bad
    futures = []
    for canary in canaries:
        answer = f"```{canary.language}\n{canary.program}\n```"
        futures.append(pool.submit({"target_language": canary.language, "tests": tests}, answer))
    for canary, future in zip(canaries, futures):
        verdict = future.result()
        if verdict.status != canary.status:
            raise SandboxError(
                f"canary: a {LANGUAGES[canary.language].display} program that must be "
                f"{canary.status} is {verdict.status} ({verdict.detail}); "
                "the judge cannot be trusted with this language"
            )


@dataclass(frozen=True)
class Canary:
    """A program whose verdict is known."""

    language: str
    program: str
    status: str


def namespace():
    """The command that makes a process number 1 of a PID namespace; empty where that is forbidden.

    When such a process dies, the kernel kills its boxes, even one that bwrap is still building.
    """
    own_user = ["--user", "--map-current-user"] if os.geteuid() else []
    unshare = ["/usr/bin/unshare", *own_user, "--pid", "--fork", "--kill-child", "--mount-proc"]
    trial = [*TIED_TO_PARENT, *unshare, *TIED_TO_PARENT, "/usr/bin/true"]
    if subprocess.run(trial, capture_output=True).returncode != 0:
        return []
    return unshare


def restart_as_process_1():
    """Begin again as process 1 of a namespace, where that is possible. -> None in that process.

    If that process is killed, its sandboxes end with it. A SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt_once)
    if "OORL_NAMESPACE" in os.environ:
        return
    unshare = namespace()
    if not unshare:
        return
    command = [*TIED_TO_PARENT, *unshare, sys.executable, *sys.argv]
    process = subprocess.Popen(command, env={**os.environ, "OORL_NAMESPACE": "1"})

    def pass_on(number, _):  # unshare keeps it to itself
        with contextlib.suppress(OSError):  # they have just ended
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both
    returncode = process.wait()
    sys.exit(returncode if returncode >= 0 else 128 - returncode)


def _interrupt_once(number, frame):
    """Further signals, of who sends one to all processes, do not disturb the end of the first."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def digest(value):
    """A short name for a JSON value."""
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _must_be_judged_again(future):
    """Whether no verdict will come of it; a judge error is not remembered."""
    return future.cancelled() or (future.done() and future.result().status == "JE")


def _remove_abandoned_folders():
    """Removes the folders that killed pools left; STALE_S says how they are recognised."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        # An OSError: it is locked, it is another user's, or another pool has just removed it.
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                if time.time() - os.fstat(lock).st_mtime > STALE_S:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    sandbox.remove(folder)
            finally:
                os.close(lock)
