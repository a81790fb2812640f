"""Run one untrusted program in a box: namespaces, its own uid, a cgroup, resource limits, seccomp.

    run(command, folder, Limits(...), stdin) -> Result; or SandboxError, so that a fault of the
    sandbox is never taken for a fault of the program

There are two kinds of box. probe() takes the first that this machine allows:

    bwrap      sh (enters the cgroup) -> setpriv (to the slot's uid, if root) -> bwrap (namespaces,
               mounts, seccomp) -> prlimit (resource limits) -> the program
    landlock   a fork of this process (cgroup, uid, Landlock, seccomp) -> prlimit -> the program

In a bwrap box the program sees its tools, its own /proc, 64 MiB of /tmp and its folder as /w: no
network, no process and no other file of the host. A landlock box, for containers, is without
namespaces: no sockets, no file of the host but its tools, no signal to a process outside; a folder
for temporary files, in TMPDIR and HOME. docs/judge.md lists what it does not hold. Orphaned
processes of either are reparented to us, so that we can wait for all.

Where it can be had, a cgroup (v1 or v2) holds the memory of the whole box, /tmp included, and its
processes, and counts its CPU. Elsewhere /proc is read ten times a second: a box may then overshoot
its memory by what it touches in 0.1 s, and neither what /tmp holds is counted nor the CPU that an
orphan burns in its last 0.1 s. The line of probe() says which of the two it is.

The parts: limits.py (the time limit is there), view.py, slots.py, cgroups.py, seccomp.py; for a
landlock box landlock.py and session.py.

Left out: defences against kernel bugs and timing channels. Judges in one cgroup but in different
network namespaces take each other's slots. Where neither box can be had nothing runs, unless
OORL_UNSAFE_NO_SANDBOX=1 (--unsafe-no-sandbox): then there are rlimits, a session of its own and the
wall limit, but no isolation and no cgroup.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import resource
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from judge import cgroups, landlock, seccomp, session, view
from judge.limits import Limits, Result, SandboxError
from judge.slots import SLOT_UIDS, slot

# Environment variables, so that worker processes inherit the choice. The first is one of BOXES, and
# set by probe().
BOX_VARIABLE = "OORL_SANDBOX"
BOXES = ("bwrap", "landlock")
UNSAFE_VARIABLE = "OORL_UNSAFE_NO_SANDBOX"
# The environment of the program. bwrap gets the same one, as the program can read it in
# /proc/1/environ.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp"}
# The processes that an ordinary user may start in a landlock box beyond all that the machine has:
# the kernel counts them for the user, not for the box.
SPARE_PROCESSES = 1000
BWRAP = shutil.which("bwrap") or "/usr/bin/bwrap"
CHUNK_BYTES = 1 << 16  # the most that is read from or written to a pipe at a time
LOOK_EVERY_S = 0.1
LOOK_WITHIN_S = 2  # at the files of a box
# What shows that this is a container: a variable, a file in / or /run, or the name of the cgroup.
CONTAINER = re.compile(
    r"^(container|KUBERNETES_SERVICE_HOST|\.dockerenv|\.containerenv)$|/docker[/-]|kubepods|"
    "libpod|/lxc",
    re.M,
)
# What must be free beside the boxes: what a compiler and then a program may fill.
DISK_BYTES = 2 * Limits.folder_bytes
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36
# How each runtime says on stderr that memory ran out; a new language may say it in other words. A
# program that prints such words itself turns its RE into an MLE and gains nothing.
OUT_OF_MEMORY = re.compile(
    rb"MemoryError|bad_alloc|OutOfMemoryError|Allowed memory size|heap out of memory|"
    rb"[Cc]annot allocate memory|Array buffer allocation failed|virtual memory exhausted"
)


@contextlib.contextmanager
def folder(parent=None):
    """A new folder for run(), in a `with`. It is removed whatever a program left in it."""
    path = tempfile.mkdtemp(prefix="oorl-box-", dir=parent)
    try:
        yield path
    finally:
        remove(path)


def remove(path):
    """Remove a folder that programs wrote to. Never raises."""
    try:
        shutil.rmtree(path)
    except (OSError, RecursionError):
        # Nested too deep for rmtree, or in a folder that its owner may not enter.
        script = 'chmod -R u+rwX -- "$0"; rm -rf -- "$0"'
        subprocess.run(["/bin/sh", "-c", script, path], capture_output=True)


def check_disk():
    """Raises SandboxError if the disk of the boxes is full: what failed there may be right.

    To be called when the box is gone, so that what its program wrote does not count."""
    path = tempfile.gettempdir()
    if shutil.disk_usage(path).free < DISK_BYTES:
        raise SandboxError(f"the disk of {path} is full; free {DISK_BYTES >> 20} MiB or set TMPDIR")


def kind():
    """What runs a program: "bwrap", "landlock" or "unsafe"."""
    if os.environ.get(UNSAFE_VARIABLE) == "1":
        return "unsafe"
    return os.environ.get(BOX_VARIABLE, BOXES[0])


def probe():
    """One line that says what isolates a program here, found out by running `true` in a box.

    SandboxError, which says what to install, if nothing does. Holds the workers that this process
    starts to the box and the cgroups that it found.
    """
    chosen = os.environ.get(BOX_VARIABLE)
    if chosen and chosen not in BOXES:
        raise SandboxError(f"{BOX_VARIABLE}={chosen} is unknown; known are {', '.join(BOXES)}")
    errors = []
    for box_kind in [chosen] if chosen else BOXES:
        os.environ[BOX_VARIABLE] = box_kind
        try:
            _try()
            break
        except SandboxError as error:
            errors.append(f"{box_kind}: {error}")
    else:
        if not chosen:
            del os.environ[BOX_VARIABLE]
        raise SandboxError(
            "\n".join(errors) + "\nno program can be run: the sandbox needs bubblewrap >= 0.8 "
            f"(apt-get install bubblewrap) and user namespaces ({_how_to_allow()}), or Landlock; "
            f"{UNSAFE_VARIABLE}=1 runs programs without isolation"
        )
    why_no_bwrap = f" (no {' '.join(errors[0].split())})" if errors else ""
    isolation = {
        "bwrap": "bwrap, seccomp" if seccomp.FILTER else "bwrap",
        "landlock": f"landlock {landlock.version()}, seccomp{why_no_bwrap}",
        "unsafe": "UNSAFE, no isolation",
    }
    uids = "slot uids" if os.geteuid() == 0 else "own uid"
    parents, why_none = _cgroup_parents()
    if parents:
        os.environ[cgroups.CGROUPS_VARIABLE] = "1"
        limits = f"cgroup v{parents.version}"
    else:
        limits = f"rlimits and /proc (no cgroup: {why_none})"
    return f"sandbox: {isolation[kind()]}, {uids}, {limits}"


def _try():
    """Runs `true`. SandboxError if there is no box of the kind that is chosen."""
    if kind() == "landlock":
        _end_abandoned()
    with folder() as box:
        result = run(["/usr/bin/true"], box, Limits())
    if result.status != "OK":
        raise SandboxError(f"`true` fails in a box: {result}")


def _end_abandoned():
    """Ends what killed judges left: processes of slots that nobody holds. As root only."""
    if os.geteuid() == 0:
        for uid in session.uids() & set(SLOT_UIDS):
            with contextlib.suppress(SandboxError), slot([uid]):
                session.end_uid(uid)


def _how_to_allow():
    """How user namespaces are allowed, by name of what forbids them here."""
    marks = [*os.environ, *os.listdir("/"), *os.listdir("/run")]
    marks.append(Path("/proc/self/cgroup").read_text())
    if CONTAINER.search("\n".join(marks)):
        return (
            "this is a container, start it with --security-opt seccomp=unconfined --security-opt "
            "apparmor=unconfined --security-opt systempaths=unconfined; in Kubernetes with "
            "securityContext.privileged"
        )
    return (
        "sysctl -w kernel.unprivileged_userns_clone=1, on Ubuntu sysctl -w "
        "kernel.apparmor_restrict_unprivileged_userns=0"
    )


def run(command, box, limits, stdin=b"", writable=False, bare=False):
    """Run `command` in the host's folder `box`, its working directory (by default read-only).

    bare: with no tool in sight but the one that the command names, see view.py.
    Thread-safe. Returns when no process of the box is left. Makes this process a subreaper
    (prctl(2)). If this process is killed, its boxes die, except one that bwrap is still building
    (see judge.pool.namespace), and the next judge removes their cgroups. As root, gives the folder
    to the slot's uid, which must be able to pass its parents: it can pass those of
    tempfile.mkdtemp().
    Raises SandboxError when no box can be had, or when an absolute path in command[0] does not
    exist.
    """
    if os.path.isabs(command[0]) and not os.path.exists(command[0]):
        raise SandboxError(f"{command[0]} is missing")
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # every time: a fork does not inherit it
    with contextlib.ExitStack() as stack:
        uid = stack.enter_context(slot(_clean_slots()))
        scratch = stack.enter_context(_scratch(box))
        group = stack.enter_context(_cgroup(uid, limits))
        began = time.monotonic()
        program = _start(command, _Box(box, scratch, writable, bare, uid, group), limits)
        try:
            broken_limit, usage = _attend(program, limits, stdin, began, group)
        finally:
            # Whatever happened, nothing of the box outlives this, and only then its uid is free.
            report, reaped_cpu_s = _end(program)
        if group:
            usage.cpu_s, out_of_memory = group.used()
            if out_of_memory:
                broken_limit = "MLE"
        if kind() == "landlock" and writable and os.geteuid():
            _make_executable(box)
        wall_s = time.monotonic() - began
        program.stdin.close()
        for stream in program.streams:
            stream.read_rest()

    stdout, stderr = (bytes(stream.text[: stream.cap]) for stream in program.streams)
    returncode = program.process.returncode
    if returncode < 0:
        returncode = 128 - returncode
    # bwrap reports "child-pid" when the box is there, and "exit-code" when the command has ended; a
    # command that broke a limit may have been killed before that.
    expected_report = "child-pid" if broken_limit else "exit-code"
    if kind() == "bwrap" and expected_report not in report:
        reason = stderr.decode(errors="replace").strip()
        raise SandboxError(reason or f"bwrap ended with {returncode}")
    # A process that was killed together with the box's init is missing from what was reaped.
    cpu_s = max(usage.cpu_s, reaped_cpu_s)
    status = _status(program, limits, broken_limit, cpu_s)
    return Result(status, returncode, stdout, stderr, cpu_s, wall_s, usage.queued_s)


def _make_executable(box):
    """What a linker does to its output, for an ordinary user's, which may not change modes."""
    with os.scandir(box) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                os.chmod(entry.path, 0o700)


def _status(program, limits, broken_limit, cpu_s):
    """The status of a run that has ended; the first rule that holds decides.

    broken_limit: TLE, MLE, OLE or RE if it was stopped for that, else "". cpu_s: what all its
    processes used.
    """
    _, stderr = program.streams
    if any(stream.is_over_cap() for stream in program.streams):
        return "OLE"
    if broken_limit:
        return broken_limit
    if cpu_s > limits.cpu_s:
        return "TLE"
    if not program.process.returncode:
        return "OK"
    return "MLE" if OUT_OF_MEMORY.search(stderr.text) else "RE"


@dataclass
class _Stream:
    """An output of a program."""

    pipe: io.FileIO  # non-blocking
    cap: int  # bytes
    text: bytearray = field(default_factory=bytearray)  # at most a chunk over the cap

    def read(self):
        """Read a chunk: b"" at the end of the stream, None if there is nothing to read yet."""
        chunk = self.pipe.read(CHUNK_BYTES)
        self.text += chunk or b""
        return chunk

    def read_rest(self):
        """Read what was left in the pipe when all who could write to it were gone."""
        while not self.is_over_cap() and self.read():
            pass
        self.pipe.close()

    def is_over_cap(self):
        return len(self.text) > self.cap


@dataclass(frozen=True)
class _Box:
    """Where a program is to run."""

    folder: str
    scratch: str  # a folder for temporary files; "" in a bwrap box, which has a /tmp
    writable: bool  # whether the program may change `folder`
    bare: bool
    uid: int  # that of the slot
    group: cgroups.Cgroup | None

    def growing(self):
        """The folders of the host that the program may fill."""
        return list(filter(None, [self.writable and self.folder, self.scratch]))


@dataclass
class _Program:
    """A program that was started in its box."""

    box: _Box
    process: subprocess.Popen  # the outermost command
    report: io.TextIOBase  # what bwrap reports, one JSON object per line
    stdin: io.FileIO  # non-blocking
    streams: list[_Stream]  # stdout, stderr


@dataclass
class _Usage:
    """What a process and its descendants use."""

    cpu_s: float = 0.0  # ended children included
    queued_s: float = 0.0  # time spent runnable without a CPU
    memory_bytes: int = 0  # resident memory
    tasks: int = 0  # processes and threads


def _start(command, box, limits):
    """Start the command in its box."""
    report_in, report_out = os.pipe()
    report = os.fdopen(report_in)
    owner = box.uid if os.geteuid() == 0 else -1
    theirs = []
    stdin = _pipe(1, owner, theirs)
    stdout = _pipe(0, owner, theirs)
    stderr = _pipe(0, owner, theirs)
    with contextlib.ExitStack() as stack:
        for end in (*theirs, report_out):
            stack.callback(os.close, end)
        try:
            os.chmod(box.folder, 0o700)  # other slots stay out; a compile step may have changed it
            if os.geteuid() == 0:
                for path in filter(None, (box.folder, box.scratch)):
                    os.chown(path, box.uid, box.uid)
            if kind() == "landlock":
                launch = _landlock(command, box, limits, stack)
            else:
                launch = _bwrap(command, box, limits, stack, report_out)
            process = subprocess.Popen(
                **launch,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"cannot start a box: {error}") from error
    streams = [_Stream(stdout, limits.stdout_bytes), _Stream(stderr, limits.stderr_bytes)]
    return _Program(box, process, report, stdin, streams)


def _clean_slots():
    """The slots of whose uid there is no process, not even a dead one that nobody has waited for.

    Without namespaces the kernel would count it for the box that comes next."""
    if kind() == "landlock" and os.geteuid() == 0:
        return sorted(set(SLOT_UIDS) - session.uids())
    return SLOT_UIDS


def _scratch(box):
    """A context that holds the folder for a program's temporary files; "" if the box has a /tmp."""
    if kind() == "landlock":
        return folder(os.path.dirname(box))
    return contextlib.nullcontext("")


def _pipe(ours, owner, their_ends):
    """Our end of a new pipe, non-blocking: 0 is the end to read from, 1 the end to write to.

    A program may open /dev/stdin only if the pipe belongs to its uid: `owner`, or -1 for our own.
    """
    ends = os.pipe()
    their_ends.append(ends[1 - ours])
    os.fchown(ends[ours], owner, owner)
    os.set_blocking(ends[ours], False)
    return open(ends[ours], "rw"[ours] + "b", buffering=0)


def _most_stack():
    """All that may be had: the limit on memory bounds the stack too.

    With a limit of its own every thread would take as much of the address space."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    return "unlimited" if hard == resource.RLIM_INFINITY else hard


def _prlimit(limits):
    """The command that sets the resource limits.

    It runs inside the box, where processes are counted for the box alone, not over all of this
    user's (Linux 5.14). Its CPU limit only backs up _look, which sees all processes.
    """
    prlimit = (
        f"/usr/bin/prlimit --cpu={int(limits.cpu_s) + 2} --fsize={limits.file_bytes} "
        f"--nofile=256 --stack={_most_stack()} --core=0"
    ).split()
    if kind() == "bwrap" or os.geteuid() == 0:
        prlimit.append(f"--nproc={limits.processes}")
    elif kind() == "landlock":
        threads = Path("/proc/loadavg").read_text().split()[3].partition("/")[2]
        processes = int(threads) + SPARE_PROCESSES
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        if hard != resource.RLIM_INFINITY:
            processes = min(processes, hard)
        prlimit.append(f"--nproc={processes}")
    if limits.address_space:
        prlimit.append(f"--as={limits.memory_bytes}")
    return prlimit


def _bwrap(command, box, limits, stack, report_out):
    """The arguments of Popen that start a command in a bwrap box, or without one if unsafe.

    stack: closes what this opens. From the innermost command to the outermost."""
    command = [*_prlimit(limits), *command]
    filter_file = stack.enter_context(os.fdopen(os.memfd_create("seccomp"), "wb"))
    filter_file.write(seccomp.FILTER)
    filter_file.seek(0)
    if kind() == "bwrap":
        bwrap = [BWRAP, "--unshare-all", "--unshare-user", "--disable-userns"]
        bwrap += ["--die-with-parent", "--new-session"]
        bwrap += view.bwrap_arguments(view.view(command, box.bare))
        bwrap += "--symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64".split()
        bwrap += f"--dev /dev --proc /proc --size {64 << 20} --tmpfs /tmp --dir /w".split()
        bwrap += "--remount-ro /dev --remount-ro /".split()  # they are tmpfs of no limited size
        bwrap += ["--bind" if box.writable else "--ro-bind", box.folder, "/w", "--chdir", "/w"]
        bwrap += f"--hostname box --json-status-fd {report_out}".split()
        if seccomp.FILTER:
            bwrap += ["--seccomp", str(filter_file.fileno())]
        command = [*bwrap, "--", *command]
    if os.geteuid() == 0:
        command = [*_setpriv(box.uid), *command]
    if box.group:
        command = [*box.group.enter, *command]
    return {
        "args": command,
        "cwd": box.folder if kind() == "unsafe" else "/",
        "env": ENVIRONMENT,
        "pass_fds": (report_out, filter_file.fileno()),
    }


def _landlock(command, box, limits, stack):
    """The arguments of Popen that start a command in a landlock box.

    stack: closes what this opens."""
    if reason := landlock.why_not():
        raise SandboxError(reason)
    command = [*_prlimit(limits), *command]
    seen = view.view(command, box.bare)
    rulesets = [landlock.box_rules(seen, box.folder, box.scratch, box.writable)]
    stack.callback(os.close, rulesets[0])
    if seen.hidden:
        rulesets.insert(0, landlock.view_rules(seen, os.path.dirname(box.folder)))
    watchdog = session.watchdog()

    def enclose():
        """Runs in the new process, which has a session of its own, before it is the program."""
        session.report(watchdog, os.getpid())
        if box.group:
            box.group.join()
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(box.uid, box.uid, box.uid)
            os.setresuid(box.uid, box.uid, box.uid)
        landlock.enclose(rulesets, own_modes=box.writable and os.geteuid() in SLOT_UIDS)

    return {
        "args": command,
        "cwd": box.folder,
        "env": {**ENVIRONMENT, "HOME": box.scratch, "TMPDIR": box.scratch},
        "preexec_fn": enclose,
    }


def _setpriv(uid):
    """The command that gives up root, and dies when the judge does."""
    return (
        f"/usr/bin/setpriv --reuid={uid} --regid={uid} --clear-groups "
        "--no-new-privs --pdeathsig=KILL"
    ).split()


def _cgroup_parents():
    """(where cgroups are made, "") or (None, why nowhere)."""
    if kind() == "unsafe":
        return None, f"{UNSAFE_VARIABLE}=1"
    return cgroups.usable_parents(os.environ.get(cgroups.CGROUPS_VARIABLE))


def _cgroup(uid, limits):
    """A context that holds the Cgroup of a run, or None."""
    parents, _ = _cgroup_parents()
    return cgroups.Cgroup(parents, uid, limits) if parents else contextlib.nullcontext()


def _attend(program, limits, stdin, began, group):
    """Feed and read the program until it ends or breaks a limit.

    Returns (TLE, MLE, OLE, or "" if it ended; what it used at the last poll).
    """
    process = program.process
    rest = memoryview(stdin)
    usage = _Usage()
    deadline = began + limits.wall_s
    look_at = began + LOOK_EVERY_S
    with selectors.DefaultSelector() as selector, os.fdopen(os.pidfd_open(process.pid)) as end:
        # The run is over when the process ends, not when its pipes close: a daemon may hold those.
        selector.register(end, selectors.EVENT_READ)
        selector.register(program.stdin, selectors.EVENT_WRITE)
        for stream in program.streams:
            selector.register(stream.pipe, selectors.EVENT_READ, stream)
        while True:
            wait_s = min(look_at, deadline) - time.monotonic()
            for key, _ in selector.select(max(0.0, wait_s)):
                if key.fileobj is end:
                    return "", usage
                if key.fileobj is program.stdin:
                    rest = _feed(program.stdin, rest)
                    if not rest:
                        selector.unregister(program.stdin)
                        program.stdin.close()
                elif key.data.read() == b"":
                    selector.unregister(key.fileobj)
                elif key.data.is_over_cap():
                    return "OLE", usage
            clock_s = time.monotonic()
            if clock_s < min(look_at, deadline):
                continue
            usage = _look(_roots(program))
            out_of_memory = usage.memory_bytes > limits.memory_bytes
            if group:
                # The group knows both better: it counts a page that processes share once, and it
                # counts orphans.
                usage.cpu_s, out_of_memory = group.used()
            if out_of_memory:
                return "MLE", usage
            if usage.tasks > limits.processes + cgroups.BWRAP_PROCESSES:
                return "RE", usage
            if _used_bytes(program) > limits.folder_bytes:
                return "RE", usage
            if usage.cpu_s > limits.cpu_s or clock_s >= deadline:
                return "TLE", usage
            look_at = clock_s + LOOK_EVERY_S


def _feed(pipe, rest):
    """Write as much of the rest of the input as the pipe takes. Returns what is still to write."""
    try:
        written = pipe.write(rest[:CHUNK_BYTES])
    except BrokenPipeError:  # a program may close its input unread
        return rest[:0]
    return rest[written:]


def _roots(program):
    """The processes from which all others of the box descend."""
    if kind() == "landlock":
        return session.members(program.process.pid)
    return [program.process.pid]


def _look(roots):
    """What processes and their descendants use, from /proc."""
    cpu_ticks = 0
    queued_ns = 0
    pages = 0
    tasks = 0
    for pid in session.tree(roots):
        process = Path(f"/proc/{pid}")
        own_pages = 0
        with contextlib.suppress(OSError):  # it may end while we look
            for task in (process / "task").iterdir():
                queued_ns += int((task / "schedstat").read_text().split()[1])
                tasks += 1
                # A thread that has ended, such as the first one may, has no memory.
                own_pages = max(own_pages, int(_stat(task)[21]))
            cpu_ticks += sum(map(int, _stat(process)[11:15]))
        pages += own_pages
    return _Usage(
        cpu_ticks / os.sysconf("SC_CLK_TCK"),
        queued_ns * 1e-9,
        pages * os.sysconf("SC_PAGE_SIZE"),
        tasks,
    )


def _stat(task):
    """The fields of proc(5) from field 3 on; field 2 may hold anything."""
    return (task / "stat").read_bytes().rpartition(b")")[2].split()


def _used_bytes(program):
    """What the files of a box take on the host's disk, those without a name included."""
    total = 0
    for path in program.box.growing():
        command = ["/usr/bin/du", "-s", "--block-size=1", path]
        # It may take too long, or not be started on a full machine: the next look will tell.
        with contextlib.suppress(subprocess.TimeoutExpired, OSError, IndexError):
            done = subprocess.run(command, capture_output=True, timeout=LOOK_WITHIN_S)
            total += int(done.stdout.split()[0])
    if program.box.growing():
        total += _nameless_bytes(_roots(program))
    return total


def _nameless_bytes(roots):
    """What files take that processes and their descendants have open and have removed."""
    sizes = {}
    for pid in session.tree(roots):
        with contextlib.suppress(OSError):  # it may end while we look
            for entry in os.scandir(f"/proc/{pid}/fd"):
                file = os.stat(entry.path)
                if stat.S_ISREG(file.st_mode) and file.st_nlink == 0:
                    sizes[file.st_dev, file.st_ino] = file.st_blocks * 512
    return sum(sizes.values())


def _end(program):
    """Kill what is left of a program and wait for it.

    Returns (what bwrap reported, CPU seconds).
    """
    process = program.process
    os.killpg(process.pid, signal.SIGKILL)
    _, wait_status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(wait_status)
    cpu_s = usage.ru_utime + usage.ru_stime
    if kind() == "landlock":
        cpu_s += session.end(process.pid)
        session.report(session.watchdog(), -process.pid)
    report = {}
    with program.report as lines:
        for line in lines:
            report |= json.loads(line)
    if "child-pid" in report:
        # That is the init of the box. If it died first, by what the program did to it or because
        # the box could not be built, then bwrap has waited for it.
        with contextlib.suppress(ChildProcessError):
            _, _, usage = os.wait4(report["child-pid"], 0)
            cpu_s = usage.ru_utime + usage.ru_stime
    return report, cpu_s
