"""Hostile programs get their status, see nothing of the host and leave nothing behind."""
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

import sandbox
from conftest import ROOT
from sandbox import Limits, SandboxError, run

BWRAP_MISSING = not Path(sandbox.BWRAP).exists() and "CI" not in os.environ
pytestmark = pytest.mark.skipif(BWRAP_MISSING, reason="bubblewrap is not installed")
SHORT = Limits(cpu_s=0.5, wall_s=2)


@pytest.fixture
def box():
    with tempfile.TemporaryDirectory() as folder:            # not tmp_path: its parents keep other users out
        yield folder


def python(box, code, limits=SHORT, **how):
    return run(["/usr/bin/python3", "-c", code], box, limits, **how)


def bash(box, code, limits=SHORT, **how):
    return run(["/usr/bin/bash", "-c", code], box, limits, **how)


def alive(mark):
    """Host processes with the mark on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(entry.name)
        except OSError:
            pass
    return found


def gone(mark, seconds=15.0):
    end = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(mark)


def test_probe_names_what_isolates():
    line = sandbox.probe()
    assert line.startswith("sandbox: bwrap, ") and "UNSAFE" not in line and "\n" not in line


def test_streams_and_exit_code(box):
    result = python(box, "import sys; print(input()); print('e', file=sys.stderr); sys.exit(3)", stdin=b"in\n")
    assert (result.status, result.returncode, result.stdout, result.stderr) == ("RE", 3, b"in\n", b"e\n")
    assert python(box, "import os; os.abort()").returncode == 128 + signal.SIGABRT


@pytest.mark.parametrize("shell, code, expected", [
    (python, "while True: pass", {"TLE"}),
    (python, "import time; time.sleep(100)", {"TLE"}),
    (python, "import signal, time\nfor s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n except (OSError, ValueError): pass\n"
             "while True: time.sleep(1)", {"TLE"}),
    (python, "import os\nwhile True:\n try: os.fork()\n except OSError: pass", {"TLE"}),
    (bash, ":(){ :|:& };:;:", {"OK", "RE", "TLE"}),
    (python, "a = []\nwhile True: a.append(bytearray(1 << 22))", {"MLE"}),
    (python, "import os\nfor _ in range(4): os.fork()\na = bytearray(60 << 20)\nimport time; time.sleep(9)", {"MLE"}),
    (python, "while True: print('x' * 4096)", {"OLE"}),
    (python, "import sys\nwhile True: sys.stderr.write('x' * 4096)", {"OLE"}),
    (python, "open('/tmp/f', 'wb').write(bytes(65 << 20))", {"RE"}),
    (bash, "for i in {1..80}; do head -c 1M /dev/zero > /tmp/$i || exit 1; done", {"RE"}),
    (python, "f = [open('/dev/null') for _ in range(999)]", {"RE"}),
    (python, "def f(): f()\nf()", {"RE"}),
    (python, "import sys; print(7, flush=True); sys.exit(1)", {"RE"}),
    (bash, "exit 127", {"RE"}),
    (bash, "kill -9 -1; kill -9 1; kill -9 $PPID; sleep 0.2; echo here", {"OK", "RE"}),
    (bash, "rm -rf --no-preserve-root /w /etc /dev /usr/bin 2>/dev/null; test -x /usr/bin/true", {"OK"}),
])
def test_status(box, shell, code, expected):
    began = time.monotonic()
    assert shell(box, code, replace(SHORT, memory_bytes=256 << 20)).status in expected
    assert time.monotonic() - began < SHORT.wall_s + 3


def test_no_deadlock_on_pipes(box):
    assert bash(box, "exit 0", stdin=bytes(50 << 20)).status == "OK"
    assert bash(box, "exec <&-; sleep 0.2; echo a", stdin=bytes(1 << 20)).stdout == b"a\n"
    echoed = bash(box, "cat", stdin=b"0123456789" * 50_000)
    assert echoed.status == "OK" and len(echoed.stdout) == 500_000


def test_cpu_of_children_is_counted(box):
    busy = "import os, time\nif os.fork() == 0:\n while time.process_time() < 0.3: pass\n os._exit(0)\nos.wait()"
    result = python(box, busy, Limits())
    assert result.status == "OK" and 0.3 <= result.cpu_s <= 0.6
    assert python(box, busy, replace(SHORT, cpu_s=0.2)).status == "TLE"


SECRET = f"secret-{uuid.uuid4()}"


@pytest.mark.parametrize("code", [
    "print(open('/etc/shadow').read())",
    "print(open('/etc/passwd').read())",
    f"print(open({str(ROOT / 'sandbox.py')!r}).read())",
    "import os; print(os.listdir('/root'))",
    "import os; assert any('SECRET' in str(v) or 'secret' in str(v) for v in [dict(os.environ), open('/proc/1/environ').read()])",
    "import os; assert any(p.isdigit() and int(p) > 5 for p in os.listdir('/proc'))",
    "open('/w/f', 'w')", "open('/f', 'w')", "open('/usr/f', 'w')", "open('/dev/shm/f', 'w')",
    "open('/proc/sys/kernel/core_pattern', 'w').write('|/w/x')",
    "import socket; socket.create_connection(('1.1.1.1', 53), 1)",
    "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
    "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "import subprocess; subprocess.run('exec 3<>/dev/tcp/1.1.1.1/53', shell=True, executable='/bin/bash', check=True)",
    "import ctypes; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
    "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "import subprocess; subprocess.run(['unshare', '-Ur', 'true'], check=True)",
    "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0",
    "import ctypes; assert ctypes.CDLL(None).syscall(425, 1, 0) >= 0",
    "import os; os.memfd_create('x')",
    "import os; os.setuid(0)",
    "import os; os.chmod('/w', 0o777)",
], ids=lambda code: code[-45:])
def test_nothing_to_see_and_nowhere_to_go(box, code, monkeypatch):
    """Each of these raises in the box; the same program in a lenient box would end with 0."""
    monkeypatch.setenv("SECRET", SECRET)
    result = python(box, code, Limits())
    assert result.status == "RE" and SECRET.encode() not in result.stdout + result.stderr
    assert not list(Path(box).iterdir())


def test_compile_steps_may_write_their_folder_only(box):
    assert bash(box, "echo 1 > /w/a && ! echo 1 > /usr/a", writable=True).status == "OK"
    assert bash(box, "cat a; echo 2 > a").stdout == b"1\n" and Path(box, "a").read_text() == "1\n"


def test_other_boxes_cannot_be_seen(box):
    with tempfile.TemporaryDirectory() as other:
        Path(other, "expected").write_text(SECRET)
        assert SECRET.encode() not in bash(box, f"cat {other}/* /tmp/*/* ../*/expected 2>&1; true").stdout


def test_daemons_die_with_the_program(box):
    mark = str(40000 + os.getpid())
    began = time.monotonic()
    result = bash(box, f"(setsid sleep {mark} &) & (setsid setsid sleep {mark} >&- 2>&- &); echo done", Limits())
    assert result.status == "OK" and result.stdout == b"done\n"
    assert time.monotonic() - began < 5 and not alive(mark)  # at once: run returns when the box is empty


def test_a_killed_judge_leaves_nothing(box):
    mark = str(50000 + os.getpid())
    judge = subprocess.Popen([sys.executable, "-c", f"import sandbox; sandbox.run(['/usr/bin/bash', '-c', "
                              f"'trap : TERM HUP INT; setsid sleep {mark} & sleep {mark}'], {box!r}, sandbox.Limits())"], cwd=ROOT)
    while len(alive(f"sleep\0{mark}")) < 2:
        assert judge.poll() is None
        time.sleep(0.02)
    judge.kill()
    judge.wait()
    assert gone(mark)


def test_boxes_do_not_share_a_uid(box):
    if os.geteuid():
        pytest.skip("only root has slot uids")
    uids = []

    def one():
        with tempfile.TemporaryDirectory() as folder:
            uids.append(int(bash(folder, "id -u; sleep 0.5", Limits()).stdout))
    threads = [threading.Thread(target=one) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(set(uids)) == 4 and all(uid in sandbox.SLOT_UIDS for uid in uids)


@pytest.mark.parametrize("bwrap", ["/usr/bin/false", "/usr/bin/true", "/nonexistent/bwrap"])
def test_a_broken_sandbox_is_no_verdict(box, bwrap, monkeypatch):
    monkeypatch.setattr(sandbox, "BWRAP", bwrap)
    with pytest.raises(SandboxError):
        run(["/usr/bin/true"], box, Limits())
    with pytest.raises(SandboxError, match="apt-get install"):
        sandbox.probe()


def test_a_missing_tool_is_no_verdict(box):
    with pytest.raises(SandboxError, match="/usr/bin/no-such-tool is missing"):
        run(["/usr/bin/no-such-tool"], box, Limits())


def test_unsafe_mode_says_so_and_still_limits(box, monkeypatch):
    monkeypatch.setenv(sandbox.UNSAFE_VARIABLE, "1")
    assert "UNSAFE" in sandbox.probe()
    assert bash(box, "read a; echo $a$HOME", stdin=b"1\n").stdout == b"1/tmp\n"
    assert bash(box, "kill -9 $$").returncode == 137
    assert bash(box, "sleep 9", replace(SHORT, wall_s=0.3)).status == "TLE"
    assert python(box, "while True: pass", replace(SHORT, cpu_s=0.2)).status == "TLE"
    assert python(box, "a = bytearray(1 << 30)").status == "MLE"
