"""Run one untrusted program in a box: bubblewrap, an own uid, a cgroup, resource limits, a seccomp filter.

    sh (cgroup) -> setpriv (slot uid, if root) -> bwrap (namespaces, read-only /usr, /tmp, /w) -> prlimit -> program

The box sees /usr, its own /proc, 64 MiB of /tmp and its folder as /w: no network, no process and no other file of
the host. A fault of the sandbox raises SandboxError, so that it is never taken for a fault of the program.
This process is the subreaper of the box's init, so that wait4 on it returns only when nothing of the box is left.
Where it can, a cgroup (v1 or v2) holds the memory of the whole box, /tmp included, and its processes, and counts its
CPU. Elsewhere /proc is read ten times a second: a box may overshoot its memory by what it touches in 0.1 s, and what
/tmp holds is not counted, nor the CPU that an orphan burns in its last 0.1 s. The line of probe() says which it is.

Left out: kernel bugs, timing channels. All of /usr is readable. Judges in one cgroup but different network namespaces
take each other's slots. Without bubblewrap nothing runs, unless OORL_UNSAFE_NO_SANDBOX=1 (--unsafe-no-sandbox):
rlimits, an own session and the wall limit, but no isolation and no cgroup.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

UNSAFE_VARIABLE = (
    "OORL_UNSAFE_NO_SANDBOX"  # in the environment, so that worker processes inherit the choice
)
CGROUPS_VARIABLE = "OORL_CGROUPS"  # 0: do without; 1: to have none is a fault: probe holds the workers to what it said
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",
}  # bwrap's too: /proc/1/environ shows it
BWRAP = shutil.which("bwrap") or "/usr/bin/bwrap"
READABLE = [
    "/usr",
    *filter(os.path.exists, ["/var/lib/ghc"]),
    *(
        f"/etc/{name}"
        for name in os.listdir("/etc")
        if re.match("alternatives|ld.so.cache|java|mono", name)
    ),
]
MOUNTS = [
    *(word for path in READABLE for word in ("--ro-bind", path, path)),
    *(
        word
        for name in ("bin", "lib", "lib64")
        for word in ("--symlink", f"usr/{name}", f"/{name}")
    ),
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--size",
    str(64 << 20),
    "--tmpfs",
    "/tmp",
    "--dir",
    "/w",
    "--remount-ro",
    "/dev",
    "--remount-ro",
    "/",
]  # these two are tmpfs of no limited size
SLOT_UIDS = range(61000, 62000)
BWRAP_BYTES, BWRAP_PROCESSES = 16 << 20, 2  # what the box itself takes of its cgroup, at most
LOOK_EVERY_S = 0.1
LIBC = ctypes.CDLL(None, use_errno=True)
# In the words of each runtime. A program that fakes them turns its RE into an MLE and gains nothing.
OUT_OF_MEMORY = re.compile(
    rb"MemoryError|bad_alloc|OutOfMemoryError|Allowed memory size|heap out of memory|"
    rb"[Cc]annot allocate memory|Array buffer allocation failed|virtual memory exhausted"
)


class SandboxError(RuntimeError):
    """The sandbox failed, not the program in it: a verdict JE, never a reward of 0."""


@dataclass(frozen=True)
class Limits:
    """What one run may use; memory is that of all processes of the box together, threads count as processes."""

    cpu_s: float = 4.0
    wall_s: float = 10.0
    memory_bytes: int = 512 << 20
    processes: int = 32
    address_space: bool = (
        True  # RLIMIT_AS besides: exact, but per process; java and node break under it
    )
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
            raise SandboxError(
                f"{error}\nno program can be run: the sandbox needs bubblewrap >= 0.8 (apt-get install "
                "bubblewrap) and user namespaces (sysctl -w kernel.unprivileged_userns_clone=1); "
                "--unsafe-no-sandbox runs programs without isolation"
            ) from error
    isolation = "UNSAFE, no isolation" if unsafe() else "bwrap" + ", seccomp" * bool(SECCOMP)
    version, _, why = _cgroups(unsafe(), os.environ.get(CGROUPS_VARIABLE))
    if version:
        os.environ[CGROUPS_VARIABLE] = "1"
    limits = f"cgroup v{version}" if version else f"rlimits and /proc (no cgroup: {why})"
    return f"sandbox: {isolation}, {'slot uids' if os.geteuid() == 0 else 'own uid'}, {limits}"


def run(
    command: list[str], box: str | Path, limits: Limits, stdin: bytes = b"", writable: bool = False
) -> Result:
    """Run `command` in the host folder `box`, which it sees as its working directory /w (read-only by default).

    Thread-safe. Returns when no process of the box is left. Makes this process a subreaper (prctl(2)); if it is killed,
    its boxes die, save one that bwrap is still building (see reward.namespace), and the next judge removes their
    cgroups. As root, gives the folder to the slot's uid, for which its parents must be passable: tempfile.mkdtemp() is.
    Raises SandboxError when the box cannot be had, or when an absolute path in command[0] does not exist.
    """
    if os.path.isabs(command[0]) and not os.path.exists(command[0]):
        raise SandboxError(f"{command[0]} is missing")
    LIBC.prctl(
        36, 1, 0, 0, 0
    )  # PR_SET_CHILD_SUBREAPER; every time, because a fork does not inherit it
    with _slot() as uid, _cgroup(uid, limits) as group:
        began = time.monotonic()
        process, report = _start(command, box, limits, writable, uid, group)
        streams = [
            (process.stdout, bytearray(), limits.stdout_bytes),
            (process.stderr, bytearray(), limits.stderr_bytes),
        ]
        try:
            cause, cpu_s, queued_s = _attend(
                process, limits, memoryview(stdin), streams, began, group
            )
        finally:  # whatever happened, nothing of the box outlives this block, and only then its uid is free again
            os.killpg(process.pid, signal.SIGKILL)
            _, wait_status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(wait_status)
            with (
                report
            ):  # bwrap writes one JSON object when it starts, and one if the command came to an end
                told = {name: value for line in report for name, value in json.loads(line).items()}
            if "child-pid" in told:
                usage = os.wait4(told["child-pid"], 0)[2]
        if group:
            cpu_s, out_of_memory = group.used()
            cause = "MLE" if out_of_memory else cause
        wall_s = time.monotonic() - began
        process.stdin.close()
        for pipe, text, cap in streams:  # what was left in the pipes: their writers are gone
            while len(text) <= cap and (chunk := pipe.read(1 << 16)):
                text += chunk
            pipe.close()

    stdout, stderr = (bytes(text[:cap]) for _, text, cap in streams)
    returncode = process.returncode if process.returncode >= 0 else 128 - process.returncode
    cpu_s = max(
        cpu_s, usage.ru_utime + usage.ru_stime
    )  # a child killed with its init counts in the first only
    if not unsafe() and ("child-pid" if cause else "exit-code") not in told:
        raise SandboxError(
            stderr.decode(errors="replace").strip() or f"bwrap ended with {returncode}"
        )
    if any(len(text) > cap for _, text, cap in streams):
        cause = "OLE"
    elif not cause and cpu_s > limits.cpu_s:
        cause = "TLE"
    elif not cause and returncode:
        cause = "MLE" if OUT_OF_MEMORY.search(stderr) else "RE"
    return Result(cause or "OK", returncode, stdout, stderr, cpu_s, wall_s, queued_s)


def _start(
    command, box, limits, writable, uid, group
):  # -> the process, the pipe on which bwrap reports
    # prlimit runs inside the box, where processes are counted per box, not over all of this user's (Linux 5.14).
    # Its CPU limit only backs up _look, which sees all processes.
    command = [
        "/usr/bin/prlimit",
        f"--cpu={int(limits.cpu_s) + 2}",
        f"--fsize={limits.file_bytes}",
        "--nofile=256",
        f"--stack={64 << 20}",
        "--core=0",
        *[f"--nproc={limits.processes}"] * (not unsafe() or not os.geteuid()),
        *[f"--as={limits.memory_bytes}"] * limits.address_space,
        *command,
    ]
    report_in, report_out = os.pipe()
    report = os.fdopen(report_in)
    with os.fdopen(report_out, "w"), os.fdopen(os.memfd_create("seccomp"), "wb") as filter_file:
        filter_file.write(SECCOMP)
        filter_file.seek(0)
        if not unsafe():
            command = [
                BWRAP,
                "--unshare-all",
                "--unshare-user",
                "--disable-userns",
                "--die-with-parent",
                "--new-session",
                *MOUNTS,
                "--bind" if writable else "--ro-bind",
                str(box),
                "/w",
                "--chdir",
                "/w",
                "--hostname",
                "box",
                "--json-status-fd",
                str(report_out),
                *["--seccomp", str(filter_file.fileno())] * bool(SECCOMP),
                "--",
                *command,
            ]
        try:
            if os.geteuid() == 0:
                os.chown(box, uid, uid)  # the folder's mode is 0700: other slots stay out
                command = [
                    "/usr/bin/setpriv",
                    f"--reuid={uid}",
                    f"--regid={uid}",
                    "--clear-groups",
                    "--no-new-privs",
                    "--pdeathsig=KILL",
                    *command,
                ]
            command = [*group.enter, *command] if group else command
            process = subprocess.Popen(
                command,
                bufsize=0,
                cwd=box if unsafe() else "/",
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(report_out, filter_file.fileno()),
            )
        except OSError as error:
            raise SandboxError(f"cannot start a box: {error}") from error
    for pipe in (process.stdin, process.stdout, process.stderr):
        os.set_blocking(pipe.fileno(), False)
    return process, report


def _attend(process, limits, stdin, streams, began, group) -> tuple[str, float, float]:
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
                out_of_memory = memory_bytes > limits.memory_bytes
                if group:  # knows both better: pages that processes share are one there, and orphans are in it
                    cpu_s, out_of_memory = group.used()
                look_at = now + LOOK_EVERY_S
                if out_of_memory or cpu_s > limits.cpu_s or now >= deadline:
                    return "MLE" if out_of_memory else "TLE", cpu_s, queued_s


def _look(root: int) -> tuple[float, float, int]:
    """CPU seconds (ended children included), run queue seconds, resident bytes of a process and its descendants."""
    cpu_ticks, queued_ns, pages, todo = 0, 0, 0, [root]
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        with contextlib.suppress(OSError):  # it may end while we look
            for task in (process / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
                queued_ns += int((task / "schedstat").read_text().split()[1])
            stat = (
                (process / "stat").read_bytes().rpartition(b")")[2].split()
            )  # proc(5), from field 3 on
            cpu_ticks += sum(map(int, stat[11:15]))
            pages += int(stat[21])
    return (
        cpu_ticks / os.sysconf("SC_CLK_TCK"),
        queued_ns * 1e-9,
        pages * os.sysconf("SC_PAGE_SIZE"),
    )


@contextlib.contextmanager
def _slot(uids=SLOT_UIDS):
    """A uid that no other box of this machine has, locked by the name of an abstract socket: the kernel frees it when
    its process dies, and nothing is left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        for uid in uids:
            try:
                lock.bind(f"\0oorl-slot-{uid}")
            except OSError:  # in use
                continue
            yield uid
            return
    raise SandboxError(f"all {len(uids)} slots of this machine are taken")


class _Cgroup:
    """The group of a slot for one run, in a `with` of the slot: in v1 a folder in each of three hierarchies, in v2 one
    folder. New for each run, so that its counters begin at 0 and no page of another run is charged to it."""

    def __init__(self, version: int, parents: list[Path], uid: int, limits: Limits):
        self.v1, self.limits = version == 1, limits
        self.memory, self.pids, self.cpu = folders = [
            parent / f"oorl-slot-{uid}" for parent in parents
        ]
        self.folders = list(dict.fromkeys(folders))
        file = (
            "tasks" if self.v1 else "cgroup.procs"
        )  # sh is one thread; for a process v1 stops all forks meanwhile
        entries = " && ".join(
            f"echo 0 > {shlex.quote(str(folder / file))}" for folder in self.folders
        )
        self.enter = [
            "/bin/sh",
            "-c",
            entries + ' && exec "$@"',
            "sh",
        ]  # if one fails, bwrap never reports

    def __enter__(self):
        self.remove()  # a killed judge may have left one
        memory_bytes = self.limits.memory_bytes + BWRAP_BYTES
        try:
            for folder in self.folders:
                folder.mkdir()
            (self.memory / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(
                str(memory_bytes)
            )
            swap = self.memory / ("memory.memsw.limit_in_bytes" if self.v1 else "memory.swap.max")
            if swap.exists():  # some kernels keep no account of it; memsw is the sum of both
                swap.write_text(str(memory_bytes * self.v1))
            (self.pids / "pids.max").write_text(str(self.limits.processes + BWRAP_PROCESSES))
        except OSError as error:
            self.remove()
            raise SandboxError(f"cannot make a cgroup: {error}") from error
        return self

    def used(self) -> tuple[float, bool]:
        """CPU seconds of all that was in it; whether it ran out of its memory, by what the kernel killed for it."""
        events = _fields(self.memory / ("memory.oom_control" if self.v1 else "memory.events"))
        if self.v1:
            cpu_s = int((self.cpu / "cpuacct.usage").read_text()) * 1e-9
            peak = int((self.memory / "memory.max_usage_in_bytes").read_text())
            own = (
                peak > 0.9 * self.limits.memory_bytes
            )  # when it was killed it was full but for a huge page
        else:
            cpu_s, own = _fields(self.cpu / "cpu.stat")["usage_usec"] * 1e-6, events["oom"]
        if events["oom_kill"] and not own:
            raise SandboxError(
                "the machine, or the judge's own cgroup, ran out of memory and killed in a box"
            )
        return cpu_s, events["oom_kill"] > 0

    def remove(self, *_) -> None:
        """Kill all that is in it, and remove it when that is gone."""
        deadline = time.monotonic() + 5  # a killed process may be in the kernel for a while
        for folder in self.folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError as error:  # busy
                    if time.monotonic() > deadline:
                        raise SandboxError(f"{folder} cannot be removed: {error}") from error
                    with contextlib.suppress(OSError):  # gone meanwhile
                        if (folder / "cgroup.kill").exists():  # v2 since Linux 5.14
                            (folder / "cgroup.kill").write_text("1")
                        for pid in {*(folder / "cgroup.procs").read_text().split()} - {
                            "0"
                        }:  # 0: one we cannot see
                            os.kill(int(pid), signal.SIGKILL)
                    time.sleep(0.001)

    __exit__ = remove


def _cgroup(uid: int, limits: Limits):  # -> a context of its _Cgroup, or of None
    version, parents, _ = _cgroups(unsafe(), os.environ.get(CGROUPS_VARIABLE))
    return _Cgroup(version, parents, uid, limits) if version else contextlib.nullcontext()


@functools.cache
def _cgroups(unsafe: bool, wanted: str | None) -> tuple[int, list[Path], str]:
    """(1 or 2, the groups in which slots get theirs, "") or (0, [], why there are none). Found out by entering one."""
    if unsafe or wanted == "0":
        return 0, [], f"{UNSAFE_VARIABLE}=1" if unsafe else f"{CGROUPS_VARIABLE}=0"
    try:
        version, parents = _parents(
            *(Path(f"/proc/self/{name}").read_text() for name in ("cgroup", "mountinfo"))
        )
        _sweep(version, parents)
        with _slot() as uid, _Cgroup(version, parents, uid, Limits()) as group:
            trial = subprocess.run([*group.enter, "/usr/bin/true"], capture_output=True, text=True)
            group.used()
        if trial.returncode:
            raise SandboxError(f"cannot enter a cgroup: {trial.stderr}")
    except (SandboxError, OSError, KeyError) as error:
        if wanted == "1":
            raise SandboxError(f"no cgroup ({error}), but {CGROUPS_VARIABLE}=1") from error
        return 0, [], " ".join(str(error).split())
    atexit.register(_sweep, version, parents)  # after workers that were killed
    return version, parents, ""


def _parents(groups: str, mounts: str) -> tuple[int, list[Path]]:
    """The version, and the folders for memory, pids and CPU, from the texts of /proc/self/cgroup and mountinfo."""
    mounted, own = {}, {}  # by controller, "" for all of v2
    for line in (
        mounts.splitlines()
    ):  # proc(5): id parent device root point options... - kind source options
        fields, (kind, *_, options) = map(str.split, line.split(" - "))
        if kind in ("cgroup", "cgroup2"):
            mounted |= dict.fromkeys(options.split(",") if kind == "cgroup" else [""], fields[3:5])
    for line in groups.splitlines():
        _, names, path = line.split(":", 2)
        for name in set(names.split(",")) & mounted.keys():
            root, point = mounted[name]  # a container sees the branch at `root` only
            if not (below := os.path.relpath(path, root)).startswith(".."):
                own[name] = Path(point, below)
    if {"memory", "pids", "cpuacct"} <= own.keys():
        return 1, [own["memory"], own["pids"], own["cpuacct"]]
    # In v2 a group that has processes cannot share out memory, save the root: ours is beside this process then.
    for parent in (own[""], own[""].parent) if "" in own else ():
        control = parent / "cgroup.subtree_control"
        if control.exists() and {"memory", "pids"} <= set(control.read_text().split()):
            return 2, [parent] * 3
    raise SandboxError(
        "memory and pids are not delegated; `systemd-run --user --scope COMMAND` may help"
    )


def _sweep(version, parents) -> None:
    """Remove the groups that killed judges left: those whose slot nobody holds."""
    for uid in {
        int(folder.name[10:]) for parent in parents for folder in parent.glob("oorl-slot-[0-9]*")
    }:
        with contextlib.suppress(SandboxError), _slot([uid]):
            _Cgroup(version, parents, uid, Limits()).remove()


def _fields(file: Path) -> dict[str, int]:
    return {name: int(value) for name, value in map(str.split, file.read_text().splitlines())}


def _seccomp() -> bytes:
    """A deny-list in classic BPF, see seccomp(2): an allow-list breaks the JVM and node. Empty on other machines.

    Denied: ptrace and its kin, mounts, namespaces, keys, bpf, perf, userfaultfd, io_uring, file handles, memory that
    no process maps and so escapes the count (memfd, System V), socket families past netlink (vsock, alg).
    """
    arch, socket_call, calls = {
        "x86_64": (
            0xC000003E,
            41,
            [
                29,
                101,
                155,
                165,
                166,
                248,
                249,
                250,
                272,
                298,
                303,
                304,
                308,
                310,
                311,
                312,
                319,
                321,
                323,
            ],
        ),
        "aarch64": (
            0xC00000B7,
            198,
            [
                39,
                40,
                41,
                97,
                117,
                194,
                217,
                218,
                219,
                241,
                264,
                265,
                268,
                270,
                271,
                272,
                279,
                280,
                282,
            ],
        ),
    }.get(os.uname().machine, (0, 0, []))
    calls += [425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447]  # numbered alike on both
    load, equal, at_least, above, answer, n = 0x20, 0x15, 0x35, 0x25, 0x06, len(calls)
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, arch),
        (answer, 0, 0, 0x80000000),
    ]  # another ABI: kill
    program += [(load, 0, 0, 0), (at_least, n + 4, 0, 0x40000000)]  # x32: deny
    program += [(equal, n + 3 - i, 0, call) for i, call in enumerate(calls)]
    program += [(equal, 0, 2, socket_call), (load, 0, 0, 16), (above, 1, 0, socket.AF_NETLINK)]
    program += [(answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x50001)]  # allow; deny with EPERM
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program) if arch else b""


SECCOMP = _seccomp()
