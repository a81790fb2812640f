"""The pool: equal programs once, workers that die, doubts, and nothing left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import ROOT
from judge import pool as pool_module
from judge import sandbox, view
from judge.languages import LANGUAGES
from judge.limits import SandboxError
from judge.pool import check_canaries
from judge.verdict import Judgement, Verdict
from judging import ONE_SUM, block, missing_tools, prints, problem, skip_without_tool
from reward import judge_pool
from support import alive, descendants, gone

MISSING = missing_tools(LANGUAGES)
sandbox.LIBC.prctl(36, 1, 0, 0, 0)  # orphans of what is killed here come to this process
SLEEP = block("python", "import time; time.sleep(1); print(int(input()) + int(input()))")


@pytest.fixture(autouse=True)
def skip(request):
    skip_without_tool(request, MISSING)


@pytest.fixture(scope="module")
def pool():
    with judge_pool(2) as pool:
        yield pool


def workers_of(pool):
    return [worker.pid for worker in pool._processes.values()]


def test_pool_judges_equal_programs_once(pool):
    text = block("python", LANGUAGES["python"].canary)
    first = pool.submit(problem(), text)
    assert pool.submit(problem(), "Other words. " + text) is first and first.result().reward == 1.0
    assert pool.submit(problem(tests=prints("x")), text) is not first
    assert (
        pool.submit(problem("bash"), block("bash", LANGUAGES["python"].canary)).result().status
        == "RE"
    )
    assert pool.submit(problem(), "no code").result().status == "NC"


def test_pool_agrees_with_judge(pool):
    codes = [LANGUAGES["python"].canary, "print(3)", "1 / 0", "print(", "print('\ud800\0')"] * 3
    futures = [
        pool.submit(problem(), block("python", code + f"\n#{i}")) for i, code in enumerate(codes)
    ]
    assert [f.result().status for f in futures] == ["AC", "WA", "RE", "RE", "RE"] * 3


def test_a_killed_worker_costs_no_verdict(pool):
    retries = pool.retries
    future = pool.submit(problem(tests=ONE_SUM), SLEEP)
    time.sleep(0.5)
    for pid in workers_of(pool):
        os.kill(pid, signal.SIGKILL)
    assert future.result(30).status == "AC" and pool.retries > retries
    assert (
        pool.submit(problem(tests=ONE_SUM), block("python", "print(3) # after")).result(30).status
        == "AC"
    )


def test_a_worker_that_always_dies_is_je():
    with judge_pool(1) as pool:
        stop = threading.Event()

        def killer():
            while not stop.wait(0.05):
                for pid in workers_of(pool):
                    os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=killer)
        thread.start()
        verdict = pool.submit(problem(tests=ONE_SUM), SLEEP).result(30)
        stop.set()
        thread.join()
        assert (verdict.status, verdict.reward) == ("JE", None) and "died" in verdict.detail
        assert (
            pool.submit(problem(tests=ONE_SUM), SLEEP).result(30).status == "AC"
        )  # JE is not remembered


def test_ctrl_c_is_not_for_workers(pool):
    future = pool.submit(problem(tests=ONE_SUM), SLEEP + " ")
    time.sleep(0.3)
    for pid in workers_of(pool):
        for process in (pid, *descendants(pid)[:1]):
            os.kill(int(process), signal.SIGINT)
    assert future.result(30).status == "AC" and pool.submit(problem(), "").result().status == "NC"


def test_a_doubt_is_settled_alone(pool, monkeypatch):
    """Of two workers: another program runs beside its first judgement, and none beside the next."""
    running = []
    beside = []  # each judgement of the doubt: the most others seen beside it

    def ask(request):
        running.append(request)
        seen = []
        for _ in range(10):
            time.sleep(0.02)
            seen.append(len(running) - 1)
        running.remove(request)
        if b"doubt" not in request:
            return Judgement(Verdict("AC", 1.0))
        beside.append(max(seen))
        if len(beside) == 1:
            return Judgement(Verdict("WA", 0.0), in_doubt=True)
        return Judgement(Verdict("AC", 1.0))

    monkeypatch.setattr(pool, "_ask", ask)
    retries = pool.retries
    names = ("a", "doubt", "b", "c", "d", "e")
    futures = [pool.submit(problem(), block("python", f"# {name}")) for name in names]
    assert [future.result(30).status for future in futures] == ["AC"] * 6
    assert beside == [1, 0] and pool.retries == retries + 1


def test_close_is_prompt_and_leaves_nothing():
    pool = judge_pool(2)
    mark = str(60000 + os.getpid())
    futures = [
        pool.submit(
            problem("bash", tests=ONE_SUM),
            block("bash", f"setsid sleep {mark} & sleep {mark} #{i}"),
        )
        for i in range(5)
    ]
    time.sleep(0.7)
    pids, folder = workers_of(pool), pool._folder.name
    assert len(pids) == 2
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 2
    assert {future.result(1).status for future in futures} == {"JE"}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids) and not Path(folder).exists()
    assert gone(f"sleep\0{mark}")


def test_a_pool_hides_where_it_works(pool):
    assert {str(ROOT), os.getcwd(), tempfile.gettempdir()} <= view._hidden_folders()


def test_folders_of_killed_pools_are_swept(monkeypatch, tmp_path):
    monkeypatch.setattr(pool_module, "STALE_S", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # not among the pools of others
    left = Path(tempfile.mkdtemp(prefix="oorl-judge-"))
    (left / "box").mkdir()
    deep = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", deep], cwd=left, check=True)
    with judge_pool(1) as held:
        time.sleep(0.05)
        judge_pool(1).close()
        assert not left.exists() and Path(held._folder.name).exists()
    assert not Path(held._folder.name).exists()


# Judges two answers, says so with an empty line, then judges two more.
TRAINER = """
import json, reward, sys
pool = reward.judge_pool(2)
requests = json.load(sys.stdin)
for part in requests[:2], requests[2:]:
    futures = [pool.submit(*request) for request in part]
    for future in futures:
        future.result()
    print(flush=True)
"""


@pytest.mark.parametrize("delay_s", [1.0, 0.0, 0.004, 0.008, 0.012, 0.016, 0.02])
def test_a_killed_trainer_leaves_nothing(delay_s):
    """Killed in the middle of a program, or while bwrap builds its box."""
    # All that works for this trainer has the folder on its command line.
    folder = tempfile.mkdtemp(prefix=f"mark{os.getpid()}")
    os.chmod(folder, 0o755)
    codes = [f"trap : TERM; {'sleep 99' if i > 1 else ''} #{i}" for i in range(4)]
    requests = [(problem("bash", tests=ONE_SUM), block("bash", code)) for code in codes]
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, folder],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": folder},
    )
    trainer.stdin.write(json.dumps(requests).encode())
    trainer.stdin.close()
    trainer.stdout.readline()
    time.sleep(delay_s)
    workers = descendants(trainer.pid)
    trainer.kill()
    trainer.wait()
    assert len(workers) >= 4  # two workers, each with its unshare
    assert gone(folder)
    end = time.monotonic() + 3
    while (left := set(alive("reward.py\0--worker")) & set(workers)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left
    shutil.rmtree(folder)


def test_canaries(pool, monkeypatch):
    check_canaries(pool, ["python", "bash"])
    monkeypatch.setitem(LANGUAGES, "bash", replace(LANGUAGES["bash"], canary="echo 1"))
    with pytest.raises(SandboxError, match="Bash program that must be AC is WA"):
        check_canaries(pool, ["python", "bash"])


def test_workers_import_no_torch():
    code = "import reward, data, sys; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
