"""Hostile programs get their status, see nothing of the host and leave nothing behind.

Each test runs in both kinds of box, with cgroups and without, unless it says which.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import ROOT
from judge import cgroups, landlock, sandbox, seccomp, view
from judge.cgroups import Cgroup, Parents, find_parents
from judge.sandbox import Limits, SandboxError, run
from judge.slots import slot
from support import alive, gone

BWRAP_MISSING = not Path(sandbox.BWRAP).exists() and "CI" not in os.environ
pytestmark = pytest.mark.skipif(BWRAP_MISSING, reason="bubblewrap is not installed")
SHORT = Limits(cpu_s=0.5, wall_s=2)
PARENTS, WHY_NONE = cgroups.usable_parents(os.environ.get(cgroups.CGROUPS_VARIABLE))
VERSION = PARENTS.version if PARENTS else 0
FOLDERS = PARENTS.folders() if PARENTS else []
NOBODY = 65534
OTHER = 61500 + os.getpid() % 498  # a slot that no run gets to
needs_cgroups = pytest.mark.parametrize("tier", ["cgroup"], indirect=True)


@pytest.fixture(params=sandbox.BOXES, autouse=True)
def kind(request, monkeypatch):
    if request.param == "landlock" and landlock.why_not():
        pytest.skip(landlock.why_not())
    monkeypatch.setenv(sandbox.BOX_VARIABLE, request.param)
    return request.param


only_bwrap = pytest.mark.parametrize("kind", ["bwrap"], indirect=True)
only_landlock = pytest.mark.parametrize("kind", ["landlock"], indirect=True)


@pytest.fixture(params=["cgroup", "proc"], autouse=True)
def tier(request, monkeypatch):
    """Run a test with or without cgroups; with them, none that it made is left."""
    if request.param == "cgroup" and not PARENTS:
        pytest.skip(f"no cgroup of our own: {WHY_NONE}")
    monkeypatch.setenv(cgroups.CGROUPS_VARIABLE, "1" if request.param == "cgroup" else "0")
    made = []
    real_enter = Cgroup.__enter__

    def enter(group):
        real_enter(group)
        made.extend(map(identity, group.folders))
        return group

    monkeypatch.setattr(Cgroup, "__enter__", enter)
    yield request.param
    assert not any(map(is_left, made))


def identity(folder):
    return folder, folder.stat().st_ino


def is_left(group):
    """Whether this very group is there: another judge may have made one of its name since."""
    folder, _ = group
    with contextlib.suppress(OSError):
        return identity(folder) == group


@pytest.fixture
def box():
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: its parents keep other users out
        yield folder


def python(box, code, limits=SHORT, **arguments):
    return run(["/usr/bin/python3", "-c", code], box, limits, **arguments)


def bash(box, code, limits=SHORT, **arguments):
    return run(["/usr/bin/bash", "-c", code], box, limits, **arguments)


def test_probe_names_what_isolates(kind, tier):
    line = sandbox.probe()
    assert re.match(f"sandbox: {kind}( [0-9]+)?, seccomp, ", line)
    assert "UNSAFE" not in line and "\n" not in line
    if tier == "cgroup":
        assert line.endswith(f", cgroup v{VERSION}")
    else:
        assert line.endswith(", rlimits and /proc (no cgroup: OORL_CGROUPS=0)")


def test_streams_and_exit_code(box):
    result = python(
        box, "import sys; print(input()); print('e', file=sys.stderr); sys.exit(3)", stdin=b"in\n"
    )
    assert (result.status, result.returncode) == ("RE", 3)
    assert (result.stdout, result.stderr) == (b"in\n", b"e\n")
    assert python(box, "import os; os.abort()").returncode == 128 + signal.SIGABRT


@pytest.mark.parametrize(
    "shell, code, expected",
    [
        (python, "while True: pass", {"TLE"}),
        (python, "import time; time.sleep(100)", {"TLE"}),
        (
            python,
            "import signal, time\n"
            "for s in range(1, 65):\n"
            " try: signal.signal(s, signal.SIG_IGN)\n"
            " except (OSError, ValueError): pass\n"
            "while True: time.sleep(1)",
            {"TLE"},
        ),
        (python, "import os\nwhile True:\n try: os.fork()\n except OSError: pass", {"TLE"}),
        (bash, ":(){ :|:& };:;:", {"OK", "RE", "TLE"}),
        (python, "a = []\nwhile True: a.append(bytearray(1 << 22))", {"MLE"}),
        (
            python,
            "import os, time\nfor _ in range(4): os.fork()\na = bytearray(60 << 20)\ntime.sleep(9)",
            {"MLE"},
        ),
        (python, "while True: print('x' * 4096)", {"OLE"}),
        (python, "import sys\nwhile True: sys.stderr.write('x' * 4096)", {"OLE"}),
        (python, "import os; open(os.environ['HOME'] + '/f', 'wb').write(bytes(65 << 20))", {"RE"}),
        (bash, "for i in {1..80}; do head -c 1M /dev/zero > ~/$i || exit 1; done; sleep 1", {"RE"}),
        (python, "f = [open('/dev/null') for _ in range(999)]", {"RE"}),
        (python, "def f(): f()\nf()", {"RE"}),
        (python, "import sys; print(7, flush=True); sys.exit(1)", {"RE"}),
        (bash, "exit 127", {"RE"}),
        (bash, "kill -9 -1; kill -9 1; kill -9 $PPID; sleep 0.2; echo here", {"OK", "RE"}),
        (
            bash,
            "rm -rf --no-preserve-root $PWD /etc /dev /usr/bin 2>/dev/null; test -x /usr/bin/true",
            {"OK"},
        ),
    ],
)
def test_status(box, shell, code, expected):
    began = time.monotonic()
    limits = replace(SHORT, memory_bytes=256 << 20)
    if expected == {"MLE"}:  # to touch 256 MiB on a busy machine may take 0.5 s
        limits = replace(limits, cpu_s=1.5)
    assert shell(box, code, limits).status in expected
    assert time.monotonic() - began < SHORT.wall_s + 3


@pytest.mark.parametrize(
    "code, expected",
    [
        ("a = []\nwhile True: a.append(bytearray(1 << 22))", "MLE"),  # no RLIMIT_AS here
        (
            "import os, time\n"
            "if os.fork() == 0:\n"
            " a = []\n"
            " while True: a.append(bytearray(1 << 22))\n"
            "os.wait(); print(7, flush=True); time.sleep(0.5)",  # the right answer does not help
            "MLE",
        ),
        (
            "import os, time\n"
            "for _ in range(3): os.fork()\n"
            "a = bytearray(14 << 20)\n"
            "time.sleep(20)",
            "MLE",
        ),
        (
            "import os, time\nfor _ in range(3): os.fork()\na = bytearray(3 << 20)\ntime.sleep(1)",
            "OK",
        ),
        (
            "import mmap, os, time\n"
            "m = mmap.mmap(-1, 48 << 20)\n"
            "m[:] = bytes(len(m))\n"
            "for _ in range(3): os.fork()\n"
            "assert not any(m[::4096]); time.sleep(0.5)",  # one memory, eight processes
            "OK",
        ),
        (
            "for i in range(8):\n"
            " with open(f'{i}', 'wb') as f:\n"
            "  for _ in range(40): f.write(bytes(1 << 20))\n"
            "for i in range(8): f = open(f'{i}', 'rb'); all(f.read(1 << 20) for _ in range(40))",
            "OK",
        ),
        (
            "import os, time\n"
            "os.chdir(os.environ['HOME'])\n"
            "for i in range(80): open(f'{i}', 'wb').write(bytes(1 << 20))\n"
            "time.sleep(1)",
            "RE",
        ),  # no space left, or too much of it used
    ],
    ids=["one", "child", "many", "few", "shared", "page cache", "full /tmp"],
)
@needs_cgroups
def test_memory_is_that_of_the_box(box, code, expected):
    if "rb" in code and subprocess.check_output(["stat", "-f", "-c", "%T", box]) == b"tmpfs\n":
        pytest.skip("the files of this box are memory")
    limits = Limits(cpu_s=8, wall_s=30, memory_bytes=100 << 20, address_space=False)
    if "rb" in code:
        limits = replace(limits, folder_bytes=1 << 30)
    assert python(box, code, limits, writable=True).status == expected


@only_bwrap
@needs_cgroups
def test_tmp_is_memory_of_the_box(box):
    code = (
        "for i in range(40): open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))\na = bytearray(80 << 20)"
    )
    limits = Limits(memory_bytes=100 << 20, address_space=False)
    assert python(box, code, limits).status == "MLE"


def test_a_step_that_fills_its_folder_is_stopped(box):
    """The disk of TMPDIR is the host's: when it is full, no program has a verdict."""
    files = "import os\nfor i in range(400): open(f'{i}', 'wb').write(bytes(1 << 20))"
    deep = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\n" + files
    for code in (files, deep):
        limits = Limits(cpu_s=60, wall_s=60)
        result = python(box, f"{code}\nimport time; time.sleep(50)", limits, writable=True)
        assert result.status == "RE" and result.wall_s < 20
        sandbox.remove(box)
        os.mkdir(box)


def test_boxes_do_not_share_limits(box):
    """Two at a time, each within its limits, both together over those of one."""
    code = (
        "import threading, time\n"
        "a = bytearray(90 << 20)\n"
        "for _ in range(10): threading.Thread(target=time.sleep, args=(1,)).start()"
    )
    limits = Limits(memory_bytes=128 << 20, processes=16, address_space=False)
    results = []

    def one():
        with tempfile.TemporaryDirectory() as folder:
            results.append(python(folder, code, limits))

    at_once(one, 2)
    assert [result.status for result in results] == ["OK", "OK"]


def at_once(target, times):
    threads = [threading.Thread(target=target) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "code",
    [
        "import resource, time; resource.prlimit(1, resource.RLIMIT_CPU, (0, 0)); time.sleep(0.2)",
        "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
        "import os\nfor s in range(1, 65):\n try: os.kill(1, s)\n except OSError: pass",
        "open('/proc/1/oom_score_adj', 'w').write('1000')\n"
        "for i in range(60): open(f'/tmp/{i}', 'wb').write(bytes(1 << 20))\n"
        "a = []\nwhile True: a.append(bytearray(1 << 22))",
        "import os\n"
        "for _ in range(2000):\n"
        " try:\n"
        "  if os.fork() == 0: os.fork(); os._exit(0)\n"
        " except OSError: pass",
    ],
    ids=["CPU", "files", "signals", "oom", "orphans"],
)
def test_what_is_done_to_process_1_is_the_program_s_own_verdict(box, code):
    limits = replace(SHORT, cpu_s=2, memory_bytes=128 << 20, address_space=False)
    for _ in range(5):
        assert python(box, code, limits).status in {"OK", "RE", "TLE", "MLE"}


def test_no_box_is_too_deep_to_be_removed_or_shut_to_the_next_run():
    nest = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    with sandbox.folder() as box:
        assert python(box, nest, Limits(), writable=True).status == "OK"
        shut = "mkdir a; chmod 0 a; echo echo 1 > p; chmod 0 ."
        assert bash(box, shut, Limits(), writable=True).status == "OK"
        assert bash(box, ". ./p", Limits()).stdout == b"1\n"
    assert not os.path.lexists(box)


@needs_cgroups
def test_a_group_that_cannot_be_removed_is_no_verdict(box, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cgroups, "REMOVE_WITHIN_S", 0.1)
        patch.setattr(Path, "rmdir", lambda path: os.rmdir("/proc"))  # busy
        assert bash(box, "echo 1").stdout == b"1\n"
    cgroups._sweep(PARENTS)


def test_processes_are_limited(box):
    code = (
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        " while True:\n"
        "  if os.fork() == 0: time.sleep(9)\n"
        "  n += 1\n"
        "except OSError: print(n)"
    )
    assert 4 <= int(python(box, code, replace(SHORT, processes=10)).stdout) <= 10


def test_no_deadlock_on_pipes(box):
    assert bash(box, "exit 0", stdin=bytes(50 << 20)).status == "OK"
    assert bash(box, "exec <&-; sleep 0.2; echo a", stdin=bytes(1 << 20)).stdout == b"a\n"
    echoed = bash(box, "cat", stdin=b"0123456789" * 50_000)
    assert echoed.status == "OK" and len(echoed.stdout) == 500_000


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("writable", [False, True], ids=["run", "compile"])
def test_streams_can_be_opened_by_name(box, name, writable):
    """As by readFileSync("/dev/stdin"), which is how most JavaScript reads its input."""
    output = name.replace("stdin", "stdout").replace("0", "1")
    errors = name.replace("stdin", "stderr").replace("0", "2")
    code = (
        f"text = open({name!r}).read()\n"
        f"open({output!r}, 'w').write(text[::-1])\n"
        f"open({errors!r}, 'w').write('e' + text)"
    )
    result = python(box, code, stdin=b"123", writable=writable)
    assert (result.status, result.stdout, result.stderr) == ("OK", b"321", b"e123")


def test_a_stream_opened_by_name_keeps_its_limits(box):
    endless = "f = open('/dev/stdout', 'w')\nwhile True: f.write('x' * 4096)"
    assert python(box, endless).status == "OLE"
    # The program holds its own input open, and feeds itself; nothing comes after its time.
    code = (
        "import os, time\n"
        "w = open('/dev/stdin', 'wb', 0)\n"
        "if os.fork() == 0:\n"
        " while True: w.write(b'x'); os.write(1, b'late' * 9); time.sleep(0.01)\n"
        "time.sleep(99)"
    )
    assert python(box, code, replace(SHORT, wall_s=0.5), stdin=b"1").status == "TLE"


def test_no_other_pipe_can_be_opened(box):
    """Nor what bwrap reports, by way of the box's process 1."""
    code = (
        "import os\n"
        "for pid in range(max(1, os.getpid() - 200), os.getpid() + 9):\n"
        " for fd in range(20):\n"
        "  try: name = os.readlink(f'/proc/{pid}/fd/{fd}')\n"
        "  except OSError: continue\n"
        "  if 'pipe:' in name: print(name)"
    )
    result = python(box, code)
    assert result.status == "OK" and len(set(result.stdout.split())) == 3


def test_cpu_of_children_is_counted(box):
    busy = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        " while time.process_time() < 0.3: pass\n"
        " os._exit(0)\n"
        "os.wait()"
    )
    result = python(box, busy, Limits())
    assert result.status == "OK" and 0.3 <= result.cpu_s <= 0.6
    assert python(box, busy, replace(SHORT, cpu_s=0.2)).status == "TLE"


@needs_cgroups
def test_cpu_of_orphans_is_counted(box, monkeypatch):
    monkeypatch.setattr(sandbox, "LOOK_EVERY_S", 99)  # by the group alone, when all is over
    code = (
        "import os, time\n"
        "r, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        " if os.fork() == 0:\n"
        "  while time.process_time() < 0.4: pass\n"
        "  os.write(w, b'x'); time.sleep(9)\n"
        " os._exit(0)\n"
        "os.wait(); os.read(r, 1)"
    )
    result = python(box, code, Limits())
    assert result.status == "OK" and 0.4 <= result.cpu_s <= 0.7
    assert python(box, code, Limits(cpu_s=0.3)).status == "TLE"


# setsid(1) where it is allowed
DAEMON = "$(setsid true && echo setsid) nohup"


def test_a_daemon_that_burns_cpu_is_seen(box):
    began = time.monotonic()
    code = f"({DAEMON} bash -c 'while :; do :; done' &) ; sleep 99"
    assert bash(box, code, Limits(cpu_s=0.5, wall_s=60)).status == "TLE"
    assert time.monotonic() - began < 30


SECRET = f"secret-{uuid.uuid4()}"


@pytest.mark.parametrize(
    "code",
    [
        "print(open('/etc/shadow').read())",
        "print(open('/etc/passwd').read())",
        f"print(open({str(ROOT / 'judge' / 'sandbox.py')!r}).read())",
        "import os; print(os.listdir('/root'))",
        "import os; print(os.listdir('/sys/fs/cgroup'))",
        "import os\n"
        "texts = [str(dict(os.environ)), open('/proc/1/environ').read()]\n"
        "assert any('SECRET' in text or 'secret' in text for text in texts)",
        "import os; assert any(p.isdigit() and int(p) > 5 for p in os.listdir('/proc'))",
        "open('f', 'w')",
        "open('/f', 'w')",
        "open('/usr/f', 'w')",
        "open('/dev/shm/f', 'w')",
        "open('/proc/sys/kernel/core_pattern', 'w').write('|/w/x')",
        "import socket; socket.create_connection(('1.1.1.1', 53), 1)",
        "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
        "import socket; socket.socket(40, socket.SOCK_STREAM)",
        "import subprocess; "
        "subprocess.run(['/bin/bash', '-c', 'exec 3<>/dev/tcp/1.1.1.1/53'], check=True)",
        "import ctypes; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
        "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "import subprocess; subprocess.run(['unshare', '-Ur', 'true'], check=True)",
        "import ctypes; assert ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0",
        "import ctypes; assert ctypes.CDLL(None).syscall(425, 1, 0) >= 0",
        "import os; os.memfd_create('x')",
        "import os; os.setuid(0)",
        "import os; os.chmod('.', 0o777)",
    ],
    ids=lambda code: code[-45:],
)
def test_nothing_to_see_and_nowhere_to_go(box, code, monkeypatch):
    """Each of these raises in the box; the same program in a lenient box would end with 0."""
    monkeypatch.setenv("SECRET", SECRET)
    result = python(box, code, Limits())
    assert result.status == "RE" and SECRET.encode() not in result.stdout + result.stderr
    assert not list(Path(box).iterdir())


def test_compile_steps_may_write_their_folder_only(box):
    assert bash(box, "echo 1 > a && ! echo 1 > /usr/a", writable=True).status == "OK"
    assert bash(box, "cat a; echo 2 > a").stdout == b"1\n" and Path(box, "a").read_text() == "1\n"


def test_other_boxes_cannot_be_seen(box):
    with tempfile.TemporaryDirectory() as other:
        Path(other, "expected").write_text(SECRET)
        result = bash(box, f"cat {other}/* /tmp/*/* ../*/expected 2>&1; true")
        assert SECRET.encode() not in result.stdout


def test_daemons_die_with_the_program(box):
    mark = str(40000 + os.getpid())
    began = time.monotonic()
    code = f"({DAEMON} sleep {mark} &) & ({DAEMON} sleep {mark} >&- 2>&- &); echo done"
    result = bash(box, code, Limits())
    assert result.status == "OK" and result.stdout == b"done\n"
    # At once: run returns when the box is empty.
    assert time.monotonic() - began < 5 and not alive(mark)


def test_a_killed_judge_leaves_nothing(box, tier):
    mark = str(50000 + os.getpid())
    code = f"trap : TERM HUP INT; ({DAEMON} sleep {mark} &) & sleep {mark}"
    program = (
        "from judge import sandbox\n"
        f"sandbox.run(['/usr/bin/bash', '-c', {code!r}], {box!r}, sandbox.Limits())"
    )
    judge = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    while len(sleeps := alive(f"sleep\0{mark}")) < 2:
        assert judge.poll() is None
        time.sleep(0.02)
    slots = [slots_of(pid) for pid in sleeps]
    assert slots[0] == slots[1]
    assert len(slots[0]) == (len(FOLDERS) if tier == "cgroup" else 0)
    groups = [identity(folder / name) for folder, name in zip(FOLDERS, slots[0])]
    judge.kill()
    judge.wait()
    assert gone(mark)
    python_here("from judge import sandbox; sandbox.probe()")
    assert not any(map(is_left, groups))  # the next judge swept them


def slots_of(pid):
    """The names of the groups of slots that a process is in, one for each hierarchy."""
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return re.findall("/(oorl-slot-[0-9]+)$", text, re.M)


def python_here(code):
    """Run it outside of any box, as another judge."""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_boxes_do_not_share_a_uid(box):
    if os.geteuid():
        pytest.skip("only root has slot uids")
    uids = []

    def one():
        with tempfile.TemporaryDirectory() as folder:
            uids.append(int(bash(folder, "id -u; sleep 0.5", Limits()).stdout))

    at_once(one, 4)
    assert len(set(uids)) == 4 and all(uid in sandbox.SLOT_UIDS for uid in uids)


@only_bwrap
@pytest.mark.parametrize("bwrap", ["/usr/bin/false", "/usr/bin/true", "/nonexistent/bwrap"])
def test_a_broken_sandbox_is_no_verdict(box, bwrap, monkeypatch):
    monkeypatch.setattr(sandbox, "BWRAP", bwrap)
    with pytest.raises(SandboxError):
        run(["/usr/bin/true"], box, Limits())
    with pytest.raises(SandboxError, match="apt-get install"):
        sandbox.probe()


@only_bwrap
@pytest.mark.parametrize("tier", ["proc"], indirect=True)
def test_a_masked_proc_is_said_in_words():
    """As in a pod of Kubernetes: no box may have a /proc of its own there."""
    if os.geteuid():
        pytest.skip("only root can mask a part of /proc")
    if landlock.version() < landlock.SIGNALS_SINCE:
        pytest.skip("there is no box for an ordinary user then")
    code = (
        "import os\n"
        "from judge import landlock, sandbox\n"
        "print(sandbox.probe())\n"
        "del os.environ['OORL_SANDBOX']\n"
        "landlock.version = lambda: 0\n"
        "try: sandbox.probe()\n"
        "except sandbox.SandboxError as error: print(error)"
    )
    mask = ["/usr/bin/unshare", "-m", "/bin/sh", "-c", 'mount -t tmpfs x /proc/fs && exec "$@"']
    with_landlock, *without = ordinary(code, *mask, "sh")
    assert re.search(r"landlock \d+, seccomp \(no bwrap: .*proc.*\), own uid", with_landlock)
    assert "proc" in without[0] and "child processes" not in without[0]
    assert without[1].startswith("landlock: the kernel has no Landlock")
    assert "apt-get install bubblewrap" in without[2] and "--unsafe" not in without[2]


@only_landlock
@pytest.mark.parametrize("tier", ["proc"], indirect=True)
@pytest.mark.parametrize(
    "uid, version, said",
    [
        (1000, 5, "Landlock 5 lets .* on Linux 6.12"),
        (0, 0, "the kernel has no Landlock"),
        (0, 1, ""),
    ],
)
def test_a_landlock_that_is_too_old_is_said(box, monkeypatch, uid, version, said):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(landlock, "version", lambda: version)
    assert re.match(said, landlock.why_not())
    if said:
        with pytest.raises(SandboxError, match=f"landlock: {said}"):
            sandbox.probe()
    elif os.getuid() == 0:
        assert bash(box, "echo 1 > ~/a; cat ~/a", bare=True).stdout == b"1\n"


@only_landlock
@pytest.mark.parametrize(
    "code",
    [
        f"socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].bind('\\0oorl-slot-{OTHER}')",
        "socket.socketpair(40, socket.SOCK_STREAM)",
        "a, b = socket.socketpair(); a.bind('\\0oorl')",
        "os.fork() or (os.setpgid(0, 0), os._exit(0)); assert os.wait()[1] == 0",
        "os.setxattr(os.open('.', 0), 'user.a', b'1')",
    ],
    ids=["slot", "vsock", "bind", "group", "attribute"],
)
def test_landlock_walls_have_no_gap(box, code, monkeypatch):
    """Each is done where the filter is only that of a bwrap box."""
    code = f"import os, socket\n{code}"
    assert python(box, code, Limits()).status == "RE"
    if "(40," not in code:  # this kernel may have no vsock
        monkeypatch.setattr(seccomp, "ALONE_READER", seccomp.FILTER)
        assert python(box, code, Limits()).status == "OK"


@only_landlock
def test_no_datagram_reaches_a_socket_of_the_host(box):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
            host.bind(f"{folder}/log")
            os.chmod(f"{folder}/log", 0o666)
            host.setblocking(False)
            code = (
                "import socket\n"
                "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
                f"a.sendto(b'x', {folder + '/log'!r})"
            )
            assert python(box, code).status == "RE"
            with pytest.raises(BlockingIOError):
                host.recv(9)


@only_landlock
def test_a_reader_leaves_nothing_for_the_next_run(box):
    code = "import os\nos.utime('.', ns=(0, 123)); os.fchmod(os.open('.', 0), 0o777)"
    assert python(box, code, Limits()).status == "OK"  # they are ignored
    assert os.stat(box).st_mtime_ns != 123 and os.stat(box).st_mode & 0o777 == 0o700


# The process goes on in a thread; its first thread, which is what /proc/PID/stat shows, has ended.
LEADERLESS = (
    "import ctypes, os, threading, time\n"
    "def f(): time.sleep(0.2); {}\n"
    "threading.Thread(target=f).start(); ctypes.CDLL(None).syscall(60, 0)"
)


def test_memory_of_a_process_without_its_first_thread_is_seen(box):
    code = LEADERLESS.format("a = bytearray(600 << 20); time.sleep(0.5); os._exit(0)")
    limits = Limits(memory_bytes=128 << 20, address_space=False)
    assert python(box, code, limits).status == "MLE"


@only_landlock
def test_a_killed_judge_leaves_no_process_without_its_first_thread(box):
    mark = str(60000 + os.getpid())
    code = f"# {mark}\n" + LEADERLESS.format("time.sleep(30)")
    program = (
        "from judge import sandbox\n"
        f"sandbox.run(['/usr/bin/python3', '-c', {code!r}], {box!r}, sandbox.Limits(wall_s=30))"
    )
    judge = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    while not (found := of_session_with(mark, judge.pid)):
        time.sleep(0.02)
    time.sleep(0.5)
    judge.kill()
    judge.wait()
    end = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}/task") and tasks(pid) for pid in found):
        assert time.monotonic() < end
        time.sleep(0.02)


def of_session_with(mark, judge):
    return [pid for pid in alive(mark) if int(pid) != judge]


def tasks(pid):
    """The threads of a process that have not ended."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(stat.read_text().rpartition(")")[2].split()[0])
    return [state for state in states if state not in "ZX"]


@only_landlock
def test_the_dead_of_another_judge_are_not_counted_for_a_box(box):
    """As of a judge that was killed, when nobody waits for what its boxes leave."""
    if os.geteuid():
        pytest.skip("only root has slot uids")
    with slot() as free:
        pass
    become = ["/usr/bin/setpriv", f"--reuid={free}", "--clear-groups", "/usr/bin/true"]
    dead = [subprocess.Popen(become) for _ in range(12)]
    time.sleep(0.5)
    start = "threading.Thread(target=time.sleep, args=(1,)).start()"
    code = f"import threading, time\nfor _ in range(8): {start}"
    assert python(box, code, replace(SHORT, processes=12)).status == "OK"
    for process in dead:
        process.wait()


@only_landlock
def test_files_without_a_name_are_counted(box):
    code = (
        "import os, time\n"
        "os.chdir(os.environ['HOME'])\n"
        "files = []\n"
        "for _ in range(5):\n"
        " files.append(os.open('x', os.O_CREAT | os.O_RDWR)); os.unlink('x')\n"
        " os.posix_fallocate(files[-1], 0, 60 << 20)\n"
        "time.sleep(1)"
    )
    assert python(box, code).status == "RE"


CHANGES_MODES = """
import ctypes, os, tempfile
from judge import sandbox
code = '''
import ctypes, os, struct
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 0, 2**32 - 1) for tag in (1, 4, 32))
text = ctypes.create_string_buffer(acl, len(acl))
args = struct.pack("QII", ctypes.addressof(text), len(acl), 0)
name = b"system.posix_acl_access"
ctypes.CDLL(None).syscall(463, -100, FILE.encode(), 0, name, args, ctypes.c_size_t(16))
try: os.chmod(FILE, 0)
except OSError: pass
'''
for writable in (False, True):
    with tempfile.TemporaryDirectory() as box, tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o644)
        command = ["/usr/bin/python3", "-c", code.replace("FILE", repr(file.name))]
        sandbox.run(command, box, sandbox.Limits(), writable=writable)
        print(oct(os.stat(file.name).st_mode))
with tempfile.TemporaryDirectory() as box:
    open(box + "/a.cpp", "w").write("int main() {}")
    print(sandbox.run(["/usr/bin/g++", "a.cpp"], box, sandbox.Limits(), writable=True).status)
    print(sandbox.run(["./a.out"], box, sandbox.Limits(), bare=True).status)
"""


@only_landlock
def test_no_mode_of_an_ordinary_user_s_files_is_changed():
    assert ordinary(CHANGES_MODES) == ["0o100644", "0o100644", "OK", "OK"]


REACHES_QUEUES = """
import ctypes, tempfile
from judge import sandbox
libc = ctypes.CDLL(None)
shm, msg, sem = libc.shmget(0, 4096, 0o1600), libc.msgget(0, 0o1600), libc.semget(0, 1, 0o1600)
code = f'''
import ctypes
libc = ctypes.CDLL(None)
print(libc.shmctl({shm}, 0, None), libc.msgctl({msg}, 0, None), libc.semctl({sem}, 0, 0))
'''
with tempfile.TemporaryDirectory() as box:
    result = sandbox.run(["/usr/bin/python3", "-c", code], box, sandbox.Limits())
    print(result.stdout.decode().strip())
libc.shmctl(shm, 0, None), libc.msgctl(msg, 0, None), libc.semctl(sem, 0, 0)
"""


@only_landlock
def test_no_queue_of_the_host_is_reached():
    assert ordinary(REACHES_QUEUES) == ["-1 -1 -1"]


@only_landlock
@pytest.mark.parametrize("tier", ["proc"], indirect=True)
def test_a_hard_limit_on_processes_is_kept_to():
    limited = ["/usr/bin/prlimit", "--nproc=300:300"]
    assert ordinary(READS_BY_NAME, *limited) == ["b'123'"]


@pytest.mark.parametrize("tool", ["/usr/bin/php", "/usr/bin/bash", "/usr/bin/python3"])
def test_a_tool_of_another_language_cannot_be_built_in(box, tool):
    section = f'asm(".section .rodata\\n.incbin \\"{os.path.realpath(tool)}\\"\\n.text");'
    Path(box, "p.cpp").write_text(f"{section}\nint main() {{}}")
    limits = Limits(address_space=False)
    result = run(["/usr/bin/g++", "p.cpp"], box, limits, writable=True)
    # bwrap shows an empty file in its place.
    assert result.status == "RE" or Path(box, "a.out").stat().st_size < 1 << 17


@only_landlock
@pytest.mark.parametrize(
    "code",
    [
        "import os; assert not os.path.exists('/w'); os.mkdir('/tmp/' + str(os.getpid()))",
        "import os; assert os.stat('/etc/shadow').st_size; os.access('/root', os.R_OK) or 1 / 0",
        "import socket; socket.socketpair(); socket.socket()",
        "import os; open('/proc/self/maps'); os.fork() or open(f'/proc/{os.getpid()}/maps')\n"
        "assert os.wait()[1] == 0",
    ],
    ids=["/tmp", "stat", "sockets", "/proc/self"],
)
def test_what_landlock_does_not_hold(box, code):
    """The lines of docs/judge.md; those on the disk and on processes have tests of their own."""
    assert python(box, code, Limits()).status == "RE"
    held = code.rpartition("; ")[0] if "/maps" not in code else "open('/proc/self/maps')"
    assert python(box, held, Limits()).status == "OK"


def test_an_unknown_box_is_an_error(monkeypatch):
    monkeypatch.setenv(sandbox.BOX_VARIABLE, "chroot")
    with pytest.raises(SandboxError, match="OORL_SANDBOX=chroot is unknown; known are bwrap, land"):
        sandbox.probe()


def test_the_mend_fits_where_it_is_said(monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda folder: [])
    for name in ("container", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: "0::/user.slice/docker.service\n")
    assert "sysctl" in sandbox._how_to_allow()
    monkeypatch.setattr(Path, "read_text", lambda _: "4:memory:/docker/0123abcd\n")
    assert "sysctl" not in sandbox._how_to_allow()
    monkeypatch.setattr(Path, "read_text", lambda _: "0::/\n")
    monkeypatch.setattr(os, "listdir", lambda folder: [".dockerenv"])
    assert "--security-opt seccomp=unconfined" in sandbox._how_to_allow()


@pytest.fixture(params=["", ":"])
def shown(monkeypatch, request):
    """A folder that boxes see, as they see /usr/src/app."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", suffix=request.param) as folder:
        os.chmod(folder, 0o755)
        Path(folder, "app").mkdir()
        Path(folder, "app", "problems.jsonl").write_text(SECRET)
        monkeypatch.setattr(view, "READABLE", [*view.READABLE, folder])
        monkeypatch.setenv(view.HIDDEN_VARIABLE, "")
        yield Path(folder, "app")


def test_hidden_folders_are_empty(box, shown):
    show = f"cat {shown}/*; echo 1 > {shown}/a; ls {shown} | wc -l"
    assert SECRET.encode() in bash(box, show).stdout
    view.hide(shown, "/", "/no/such/folder")
    for writable in (False, True):
        result = bash(box, show, writable=writable)
        assert (result.status, result.stdout) == ("OK", b"0\n")


@pytest.mark.parametrize("folder", ["/usr", "/usr/bin", "/usr/lib", "/usr/local/lib"])
def test_folders_that_boxes_need_are_refused(folder, monkeypatch):
    monkeypatch.setenv(view.HIDDEN_VARIABLE, "")
    with pytest.raises(SandboxError, match="keep what is yours elsewhere"):
        view.hide(folder)


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


# ------------------------------------------------------------------------------------ cgroups


@needs_cgroups
def test_groups_of_killed_judges_are_swept_or_used():
    """All but those whose slot is held, and also when something is still alive in them."""
    left = Cgroup(PARENTS, OTHER, Limits())
    held = Cgroup(PARENTS, OTHER + 1, Limits())
    with slot([OTHER + 1]), held:
        for fate in ("swept", "used"):
            for folder in left.folders:
                folder.mkdir()
            stray = subprocess.Popen([*left.enter, "/usr/bin/sleep", "99"])
            members = left.folders[-1] / "cgroup.procs"
            while not members.read_text():
                time.sleep(0.01)
            if fate == "swept":
                python_here("import os; from judge import sandbox; sandbox.probe(); os._exit(0)")
            else:
                with left:
                    assert not members.read_text()
            assert stray.wait(5) == -signal.SIGKILL
            assert not any(folder.exists() for folder in left.folders)
        assert all(folder.exists() for folder in held.folders)
    assert not any(folder.exists() for folder in held.folders)


@needs_cgroups
def test_groups_of_killed_workers_are_swept_at_the_end():
    folder = FOLDERS[0] / f"oorl-slot-{OTHER}"
    python_here(f"import os; from judge import sandbox; sandbox.probe(); os.mkdir({str(folder)!r})")
    assert not folder.exists()


@needs_cgroups
def test_a_group_limits_processes():
    code = (
        "import os, time\n"
        "for n in range(50):\n"
        " try:\n"
        "  if os.fork() == 0: time.sleep(99)\n"
        " except OSError: os._exit(n)"
    )
    with slot() as uid, Cgroup(PARENTS, uid, Limits(processes=8)) as group:
        done = subprocess.run([*group.enter, "/usr/bin/python3", "-c", code])
    assert done.returncode == 8 + cgroups.BWRAP_PROCESSES - 1


@pytest.fixture
def anew(tier, monkeypatch):
    """Nothing is known of cgroups yet, and nothing is asked."""
    monkeypatch.delenv(cgroups.CGROUPS_VARIABLE)
    cgroups.usable_parents.cache_clear()
    yield
    cgroups.usable_parents.cache_clear()


@only_bwrap
@needs_cgroups
def test_a_group_that_cannot_be_entered_is_no_verdict_and_is_said(box, anew, monkeypatch):
    run(["/usr/bin/true"], box, Limits())
    monkeypatch.setattr(cgroups.shlex, "quote", lambda path: f"/sys/fs/cgroup/nowhere{path}")
    with pytest.raises(SandboxError, match="nowhere"):
        run(["/usr/bin/true"], box, Limits())
    cgroups.usable_parents.cache_clear()
    assert "rlimits and /proc (no cgroup: cannot enter a cgroup: " in sandbox.probe()


@needs_cgroups
@pytest.mark.parametrize(
    "find, why",
    [
        # They can be made, but have no such limit.
        (lambda: replace(PARENTS, version=3 - VERSION), "cannot make a cgroup: .*/memory[.]"),
        (
            lambda: Parents(VERSION, *[Path("/proc/self")] * 3),
            "cannot make a cgroup: .*/proc/self/oorl-slot-",
        ),
        (lambda: find_parents("", ""), "not delegated"),
    ],
    ids=["no limit", "no folder", "no mount"],
)
def test_groups_that_are_no_good_are_not_used_and_it_is_said(box, anew, monkeypatch, find, why):
    monkeypatch.setattr(cgroups, "find_parents", lambda *_: find())
    assert re.search(rf", rlimits and /proc \(no cgroup: .*{why}.*\)$", sandbox.probe())
    assert cgroups.CGROUPS_VARIABLE not in os.environ and bash(box, "echo 1").status == "OK"
    # As in a worker of a judge that said it has them.
    monkeypatch.setenv(cgroups.CGROUPS_VARIABLE, "1")
    with pytest.raises(SandboxError, match=why):
        bash(box, "echo 1")


@needs_cgroups
def test_workers_are_held_to_what_the_probe_said(anew):
    assert f"cgroup v{VERSION}" in sandbox.probe() and os.environ[cgroups.CGROUPS_VARIABLE] == "1"


@pytest.fixture
def branch():
    """A part of the tree that is nobody's: (its folders, a command that enters it)."""
    if os.geteuid() or not VERSION:
        pytest.skip("only root can give a part of the tree away")
    folders = [parent / f"oorl-test-{os.getpid()}" for parent in FOLDERS]
    leaves = folders if VERSION == 1 else [folders[0] / "judge"]
    every = list(dict.fromkeys(folders + leaves))
    for folder in every:
        folder.mkdir()
        if folder not in leaves:
            (folder / "cgroup.subtree_control").write_text("+memory +pids")
        for path in (folder, folder / "cgroup.procs", folder / "tasks"):
            if path.exists():
                os.chown(path, NOBODY, NOBODY)
    entries = "".join(f"echo 0 > {leaf}/cgroup.procs && " for leaf in leaves)
    yield folders, ["/bin/sh", "-c", entries + 'exec "$@"', "sh"]
    for folder in reversed(every):
        folder.rmdir()


def ordinary(code, *enter):
    """What a judge prints that runs as an ordinary user, in the kind of box that is asked for."""
    user = ["/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if os.geteuid():
        user = []
    environment = {"PATH": os.environ["PATH"]}
    if os.environ[sandbox.BOX_VARIABLE] == "landlock":
        if landlock.version() < landlock.SIGNALS_SINCE:
            pytest.skip(f"Landlock {landlock.version()} has no box for an ordinary user")
        environment[sandbox.BOX_VARIABLE] = "landlock"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(ROOT / "judge", Path(folder, "judge"))
        done = subprocess.run(
            [*enter, *user, "/usr/bin/python3", "-B", "-c", code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


READS_BY_NAME = """
import tempfile
from judge import sandbox
command = ["/usr/bin/python3", "-c", "open('/dev/stdout', 'w').write(open('/dev/stdin').read())"]
with tempfile.TemporaryDirectory() as box:
    print(sandbox.run(command, box, sandbox.Limits(), b"123").stdout)
"""


def test_an_ordinary_user_opens_streams_by_name():
    assert ordinary(READS_BY_NAME) == ["b'123'"]


HOSTILE = """
import tempfile
from judge import sandbox
print(sandbox.probe())
codes = [
    "print(1)",
    "while True: pass",
    "import os, time\\nfor _ in range(4): os.fork()\\na = bytearray(60 << 20)\\ntime.sleep(9)",
    '''
import os, time
n = 0
try:
    while True:
        if os.fork() == 0: time.sleep(9)
        n += 1
except OSError: print(n)
time.sleep(0.5)
''',
]
limits = sandbox.Limits(cpu_s=0.5, wall_s=2, memory_bytes=256 << 20)
for code in codes:
    with tempfile.TemporaryDirectory() as box:
        result = sandbox.run(["/usr/bin/python3", "-c", code], box, limits)
        print(result.status, result.stdout.decode())
"""


def assert_hostile_are_limited(lines):
    """The lines that HOSTILE prints after its first."""
    assert [line.split()[0] for line in lines if line] == ["OK", "TLE", "MLE", "OK"]
    assert int(lines[-2].split()[1]) <= 32 + cgroups.BWRAP_PROCESSES


@pytest.mark.parametrize("tier", ["proc"], indirect=True)
def test_an_ordinary_user_without_cgroups_is_told_and_limited(kind):
    if os.geteuid():
        pytest.skip("all the other tests run as such a user")
    probed, *lines = ordinary(HOSTILE)
    assert re.search(r", own uid, rlimits and /proc \(no cgroup: .+\)$", probed)
    if kind == "landlock":  # the kernel counts the processes of a user; those of the box we count
        assert lines[-1].split()[0] in ("RE", "MLE", "TLE")
        lines[-1:] = ["OK 0", ""]
    assert_hostile_are_limited(lines)


@needs_cgroups
def test_an_ordinary_user_with_cgroups(branch):
    folders, enter = branch
    probed, *lines = ordinary(HOSTILE, *enter)
    assert probed.endswith(f"own uid, cgroup v{VERSION}")
    assert_hostile_are_limited(lines)
    for folder in folders:
        assert not list(folder.glob("oorl-slot*"))


@needs_cgroups
def test_a_machine_out_of_memory_is_no_verdict(branch):
    """The judge and its boxes together have less than one box may take."""
    folders, enter = branch
    file = "memory.limit_in_bytes" if VERSION == 1 else "memory.max"
    (folders[0] / file).write_text(str(128 << 20))
    code = (
        "import tempfile\n"
        "from judge import sandbox\n"
        "command = ['/usr/bin/python3', '-c', 'a = bytearray(300 << 20)']\n"
        "try: print(sandbox.run(command, tempfile.mkdtemp(), sandbox.Limits()))\n"
        "except sandbox.SandboxError as e: print(e)"
    )
    assert "ran out of memory" in ordinary(code, *enter)[-1]


MOUNT = "30 23 0:26 {} /sys/fs/cgroup{} rw,nosuid - cgroup{} cgroup rw{}\n"
V1_MOUNTS = "".join(
    MOUNT.format("/", f"/{name}", "", f",{name}")
    for name in ("cpu,cpuacct", "memory", "pids", "cpu")
)


@pytest.mark.parametrize(
    "groups, mounts, expected",
    [
        (
            "4:memory:/a/b\n2:cpu,cpuacct:/c\n8:pids:/\n1:name=systemd:/x\n0::/y",
            V1_MOUNTS + MOUNT.format("/", "/unified", "2", ""),
            (1, ["memory/a/b", "pids", "cpu,cpuacct/c"]),
        ),
        (
            "4:memory:/docker/1\n2:cpu,cpuacct:/docker/1/d\n8:pids:/docker/1",
            V1_MOUNTS.replace(" / ", " /docker/1 "),
            (1, ["memory", "pids", "cpu,cpuacct/d"]),
        ),
        (
            "4:memory:/\n2:cpu,cpuacct:/docker/1\n8:pids:/docker/1",
            V1_MOUNTS.replace(" / ", " /docker/1 "),
            None,
        ),  # out of sight
        ("4:memory:/\n2:cpu,cpuacct:/\n", V1_MOUNTS, None),
        ("4:memory:/\n", "", None),
        ("0::/", MOUNT.format("/", "", "2", ""), None),
        ("", "", None),
    ],
)
def test_where_groups_go_v1(groups, mounts, expected, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    if expected:
        version, paths = expected
        parents = Parents(version, *[Path("/sys/fs/cgroup", path) for path in paths])
        assert find_parents(groups, mounts) == parents
    else:
        with pytest.raises(SandboxError, match="not delegated"):
            find_parents(groups, mounts)


def test_v2_in_a_made_up_tree(tmp_path, monkeypatch):
    """Where v2 is not mounted: which of its files are written and read, in a folder that looks so.

    No kernel acts on them here; that is tested by the rest of this file where it runs on v2 (it did
    on Linux 6.1 in user mode).
    """
    mounts = f"30 23 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw,nsdelegate\n"
    app = tmp_path / "app.slice"
    (app / "run.scope").mkdir(parents=True)
    (tmp_path / "cgroup.subtree_control").write_text("cpu io memory pids\n")
    (app / "cgroup.subtree_control").write_text("memory pids\n")
    (app / "run.scope/cgroup.subtree_control").write_text("\n")
    beside_its_own = find_parents("0::/app.slice/run.scope\n", mounts)
    assert beside_its_own == Parents(2, app, app, app)
    in_the_root = find_parents("0::/\n", mounts)
    assert in_the_root == Parents(2, tmp_path, tmp_path, tmp_path)
    (app / "cgroup.subtree_control").write_text("memory\n")
    with pytest.raises(SandboxError, match="not delegated"):
        find_parents("0::/app.slice/run.scope\n", mounts)

    files = {
        "cgroup.procs": "0\n",
        "cgroup.kill": "",
        "memory.max": "max\n",
        "memory.swap.max": "max\n",
        "pids.max": "max\n",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nnr_throttled 0\n",
        "memory.events": "low 0\nmax 9\noom 0\noom_kill 0\n",
    }
    busy = []  # what cgroup.kill held at each rmdir that was refused

    def mkdir(path):
        os.mkdir(path)
        for name, text in files.items():
            (path / name).write_text(text)

    def rmdir(path):
        if len(busy) < 2:
            busy.append((path / "cgroup.kill").read_text())
            raise OSError(16, "Device or resource busy")
        shutil.rmtree(path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    folder = tmp_path / "oorl-slot-61000"
    limits = Limits(memory_bytes=100 << 20, processes=32)
    with Cgroup(in_the_root, 61000, limits) as group:
        assert group.enter[2] == f'echo 0 > {folder}/cgroup.procs && exec "$@"'
        assert {name: (folder / name).read_text() for name in files if name.endswith("max")} == {
            "memory.max": str((100 << 20) + cgroups.BWRAP_BYTES),
            "memory.swap.max": "0",
            "pids.max": str(32 + cgroups.BWRAP_PROCESSES),
        }
        assert group.used() == (1.5, False)
        (folder / "memory.events").write_text("low 0\nmax 9\noom 1\noom_kill 2\n")
        assert group.used() == (1.5, True)
        (folder / "memory.events").write_text("low 0\nmax 9\noom 0\noom_kill 2\n")
        with pytest.raises(SandboxError, match="ran out of memory"):
            group.used()
    # The whole group was killed, not what can be seen of it.
    assert busy == ["", "1"] and not folder.exists()
