"""Run one untrusted program in a box: bubblewrap, an own uid, resource limits, a seccomp filter.

    setpriv (slot uid, when root) -> bwrap (namespaces, read-only /usr, tmpfs /tmp, /w) -> prlimit -> the command

The box sees /usr, its own /proc, 64 MiB of /tmp and its folder as /w: no network, no process and no other file of
the host. A fault of the sandbox raises SandboxError, so that it is never taken for a fault of the program.
CPU time is that of the box's init: this process is its subreaper, so wait4 tells what all its children used, and
returns only when none is left. Ten times a second /proc is read for the memory and the CPU of the whole box.

Left out: cgroups (a box may overshoot its memory by what it touches in 0.1 s; CPU burnt by an orphan in its last
0.1 s is not counted), kernel bugs, timing channels. All of /usr is readable. Without bubblewrap nothing runs, unless
OORL_UNSAFE_NO_SANDBOX=1 (--unsafe-no-sandbox): rlimits, an own session and the wall limit, but no isolation.
"""

import contextlib
import ctypes
import json
import os
import re
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

UNSAFE_VARIABLE = "OORL_UNSAFE_NO_SANDBOX"  # in the environment, so that worker processes inherit the choice
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"}  # bwrap's too: /proc/1/environ shows it
BWRAP = shutil.which("bwrap") or "/usr/bin/bwrap"
READABLE = ["/usr", *filter(os.path.exists, ["/var/lib/ghc"]),
            *(f"/etc/{name}" for name in os.listdir("/etc") if re.match("alternatives|ld.so.cache|java|mono", name))]
MOUNTS = [*(word for path in READABLE for word in ("--ro-bind", path, path)),
          *(word for name in ("bin", "lib", "lib64") for word in ("--symlink", f"usr/{name}", f"/{name}")),
          "--dev", "/dev", "--proc", "/proc", "--size", str(64 << 20), "--tmpfs", "/tmp", "--dir", "/w",
          "--remount-ro", "/dev", "--remount-ro", "/"]  # these two are tmpfs of no limited size
SLOT_UIDS = range(61000, 62000)
LOOK_EVERY_S = 0.1
LIBC = ctypes.CDLL(None, use_errno=True)
# In the words of each runtime. A program that fakes them turns its RE into an MLE and gains nothing.
OUT_OF_MEMORY = re.compile(rb"MemoryError|bad_alloc|OutOfMemoryError|Allowed memory size|heap out of memory|"
                           rb"[Cc]annot allocate memory|Array buffer allocation failed|virtual memory exhausted")


class SandboxError(RuntimeError):
    """The sandbox failed, not the program in it: a verdict JE, never a reward of 0."""


@dataclass(frozen=True)
class Limits:
    """What one run may use; memory is that of all processes of the box together, threads count as processes."""

    cpu_s: float = 4.0
    wall_s: float = 10.0
    memory_bytes: int = 512 << 20
    processes: int = 32
    address_space: bool = True  # RLIMIT_AS besides: exact, but per process; java and node break under it
    stdout_bytes: int = 1 << 20
    stderr_bytes: int = 64 << 10
    file_bytes: int = 64 << 20


@dataclass(frozen=True)
class Result:
    status: str  # OK, TLE, MLE, OLE (a stream over its cap), RE (exit code not 0, or a signal)
    returncode: int  # 128 + signal for a death by signal
    stdout: bytes
    stderr: bytes
    cpu_s: float
    wall_s: float
    queued_s: float  # how long its live threads stood ready without getting a CPU, as last seen


def unsafe() -> bool:
    return os.environ.get(UNSAFE_VARIABLE) == "1"


def probe() -> str:
    """Run a boxed `true`; one line that says what isolates it, or SandboxError with the mend if nothing does."""
    with tempfile.TemporaryDirectory(prefix="oorl-probe-") as box:
        try:
            run(["/usr/bin/true"], box, Limits())
        except SandboxError as error:
            raise SandboxError(f"{error}\nno program can be run: the sandbox needs bubblewrap >= 0.8 (apt-get install "
                               "bubblewrap) and user namespaces (sysctl -w kernel.unprivileged_userns_clone=1); "
                               "--unsafe-no-sandbox runs programs without isolation") from error
    isolation = "UNSAFE, no isolation" if unsafe() else "bwrap" + ", seccomp" * bool(SECCOMP)
    return f"sandbox: {isolation}, {'slot uids' if os.geteuid() == 0 else 'own uid'}, rlimits"


def run(command: list[str], box: str | Path, limits: Limits, stdin: bytes = b"", writable: bool = False) -> Result:
    """Run `command` in the host folder `box`, which it sees as its working directory /w (read-only by default).

    Thread-safe. Returns when no process of the box is left. Makes this process a subreaper (prctl(2)); if it is killed,
    its boxes die, save one that bwrap is still building (see reward._namespace). As root, gives the folder to the
    slot's uid, for which its parents must be passable: tempfile.mkdtemp() is right.
    Raises SandboxError when the box cannot be had, or when an absolute path in command[0] does not exist.
    """
    if os.path.isabs(command[0]) and not os.path.exists(command[0]):
        raise SandboxError(f"{command[0]} is missing")
    LIBC.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER; every time, because a fork does not inherit it
    with _slot() as uid:
        began = time.monotonic()
        process, report = _start(command, box, limits, writable, uid)
        streams = [(process.stdout, bytearray(), limits.stdout_bytes),
                   (process.stderr, bytearray(), limits.stderr_bytes)]
        try:
            cause, cpu_s, queued_s = _attend(process, limits, memoryview(stdin), streams, began)
        finally:  # whatever happened, nothing of the box outlives this block, and only then its uid is free again
            os.killpg(process.pid, signal.SIGKILL)
            _, wait_status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(wait_status)
            with report:  # bwrap writes one JSON object when it starts, and one if the command came to an end
                told = {name: value for line in report for name, value in json.loads(line).items()}
            if "child-pid" in told:
                usage = os.wait4(told["child-pid"], 0)[2]
        wall_s = time.monotonic() - began
        process.stdin.close()
        for pipe, text, cap in streams:  # what was left in the pipes: their writers are gone
            while len(text) <= cap and (chunk := pipe.read(1 << 16)):
                text += chunk
            pipe.close()

    stdout, stderr = (bytes(text[:cap]) for _, text, cap in streams)
    returncode = process.returncode if process.returncode >= 0 else 128 - process.returncode
    cpu_s = max(cpu_s, usage.ru_utime + usage.ru_stime)  # a child killed with its init counts in the first only
    if not unsafe() and ("child-pid" if cause else "exit-code") not in told:
        raise SandboxError(stderr.decode(errors="replace").strip() or f"bwrap ended with {returncode}")
    if any(len(text) > cap for _, text, cap in streams):
        cause = "OLE"
    elif not cause and cpu_s > limits.cpu_s:
        cause = "TLE"
    elif not cause and returncode:
        cause = "MLE" if OUT_OF_MEMORY.search(stderr) else "RE"
    return Result(cause or "OK", returncode, stdout, stderr, cpu_s, wall_s, queued_s)


def _start(command, box, limits, writable, uid):  # -> the process, the pipe on which bwrap reports
    # prlimit runs inside the box, where processes are counted per box, not over all of this user's (Linux 5.14).
    # Its CPU limit only backs up _look, which sees all processes.
    command = ["/usr/bin/prlimit", f"--cpu={int(limits.cpu_s) + 2}", f"--fsize={limits.file_bytes}", "--nofile=256",
               f"--stack={64 << 20}", "--core=0", *[f"--nproc={limits.processes}"] * (not unsafe() or not os.geteuid()),
               *[f"--as={limits.memory_bytes}"] * limits.address_space, *command]
    report_in, report_out = os.pipe()
    report = os.fdopen(report_in)
    with os.fdopen(report_out, "w"), os.fdopen(os.memfd_create("seccomp"), "wb") as filter_file:
        filter_file.write(SECCOMP)
        filter_file.seek(0)
        if not unsafe():
            command = [BWRAP, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent",
                       "--new-session", *MOUNTS, "--bind" if writable else "--ro-bind", str(box), "/w",
                       "--chdir", "/w", "--hostname", "box", "--json-status-fd", str(report_out),
                       *["--seccomp", str(filter_file.fileno())] * bool(SECCOMP), "--", *command]
        try:
            if os.geteuid() == 0:
                os.chown(box, uid, uid)  # the folder's mode is 0700: other slots stay out
                command = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                           "--no-new-privs", "--pdeathsig=KILL", *command]
            process = subprocess.Popen(command, bufsize=0, cwd=box if unsafe() else "/", env=ENVIRONMENT,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       start_new_session=True, pass_fds=(report_out, filter_file.fileno()))
        except OSError as error:
            raise SandboxError(f"cannot start a box: {error}") from error
    for pipe in (process.stdin, process.stdout, process.stderr):
        os.set_blocking(pipe.fileno(), False)
    return process, report


def _attend(process, limits, stdin, streams, began) -> tuple[str, float, float]:
    """Feed and read the program until it ends or breaks a limit: ("", "TLE", "MLE" or "OLE"; cpu_s; queued_s)."""
    cpu_s = queued_s = 0.0
    deadline, look_at = began + limits.wall_s, began + LOOK_EVERY_S
    with selectors.DefaultSelector() as selector, os.fdopen(os.pidfd_open(process.pid)) as end:
        # The run is over when the process ends, not when its pipes close: a daemon may hold those.
        selector.register(end, selectors.EVENT_READ)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        for stream in streams:
            selector.register(stream[0], selectors.EVENT_READ, stream)
        while True:
            for key, _ in selector.select(max(0.0, min(look_at, deadline) - time.monotonic())):
                if key.fileobj is end:
                    return "", cpu_s, queued_s
                if key.fileobj is process.stdin:
                    try:
                        stdin = stdin[process.stdin.write(stdin[: 1 << 16]) :]
                    except BrokenPipeError:  # it may close its input unread
                        stdin = b""
                    if not stdin:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                else:
                    pipe, text, cap = key.data
                    text += (chunk := pipe.read(1 << 16))
                    if not chunk:
                        selector.unregister(pipe)
                    if len(text) > cap:
                        return "OLE", cpu_s, queued_s
            now = time.monotonic()
            if now >= min(look_at, deadline):
                cpu_s, queued_s, memory_bytes = _look(process.pid)
                look_at = now + LOOK_EVERY_S
                if memory_bytes > limits.memory_bytes or cpu_s > limits.cpu_s or now >= deadline:
                    return "MLE" if memory_bytes > limits.memory_bytes else "TLE", cpu_s, queued_s


def _look(root: int) -> tuple[float, float, int]:
    """CPU seconds (ended children included), run queue seconds, resident bytes of a process and its descendants."""
    cpu_ticks, queued_ns, pages, todo = 0, 0, 0, [root]
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        with contextlib.suppress(OSError):  # it may end while we look
            for task in (process / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
                queued_ns += int((task / "schedstat").read_text().split()[1])
            stat = (process / "stat").read_bytes().rpartition(b")")[2].split()  # proc(5), from field 3 on
            cpu_ticks += sum(map(int, stat[11:15]))
            pages += int(stat[21])
    return cpu_ticks / os.sysconf("SC_CLK_TCK"), queued_ns * 1e-9, pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def _slot():
    """A uid that no other box of this machine has, locked by the name of an abstract socket: the kernel frees it when
    its process dies, and nothing is left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        for uid in SLOT_UIDS:
            try:
                lock.bind(f"\0oorl-slot-{uid}")
            except OSError:  # in use
                continue
            yield uid
            return
    raise SandboxError(f"all {len(SLOT_UIDS)} slots of this machine are taken")


def _seccomp() -> bytes:
    """A deny-list in classic BPF, see seccomp(2): an allow-list breaks the JVM and node. Empty on other machines.

    Denied: ptrace and its kin, mounts, namespaces, keys, bpf, perf, userfaultfd, io_uring, file handles, memory that
    no process maps and so escapes the count (memfd, System V), socket families past netlink (vsock, alg).
    """
    arch, socket_call, calls = {
        "x86_64": (0xC000003E, 41, [29, 101, 155, 165, 166, 248, 249, 250, 272, 298, 303, 304, 308, 310, 311, 312, 319,
                                    321, 323]),
        "aarch64": (0xC00000B7, 198, [39, 40, 41, 97, 117, 194, 217, 218, 219, 241, 264, 265, 268, 270, 271, 272,
                                      279, 280, 282]),
    }.get(os.uname().machine, (0, 0, []))
    calls += [425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447]  # numbered alike on both
    load, equal, at_least, above, answer, n = 0x20, 0x15, 0x35, 0x25, 0x06, len(calls)
    program = [(load, 0, 0, 4), (equal, 1, 0, arch), (answer, 0, 0, 0x80000000)]  # another ABI: kill
    program += [(load, 0, 0, 0), (at_least, n + 4, 0, 0x40000000)]  # x32: deny
    program += [(equal, n + 3 - i, 0, call) for i, call in enumerate(calls)]
    program += [(equal, 0, 2, socket_call), (load, 0, 0, 16), (above, 1, 0, socket.AF_NETLINK)]
    program += [(answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x50001)]  # allow; deny with EPERM
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program) if arch else b""


SECCOMP = _seccomp()
