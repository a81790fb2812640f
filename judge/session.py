"""The processes of a box that has no PID namespace: those of one session, which none can leave.

    report(watchdog(), pid)     a session begins, that of the process pid
    end(pid)                    kills what is left of it
    report(watchdog(), -pid)    it has ended

The judge is the subreaper of its boxes: a process whose parent dies becomes a child of the judge.
If the judge dies itself, the watchdog ends its sessions. That is a process of its own, the program
at the end of this file, and reads the reports until nobody can write any more.

Left out: a judge and a watchdog that are killed in the same moment. An ordinary user's box is then
left; that of root is ended by the next judge, by its uid.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

_lock = threading.Lock()
_watchdog = None


def watchdog():
    """The file descriptor at which the watchdog of this process listens; starts it if need be."""
    global _watchdog
    with _lock:
        if _watchdog is None or _watchdog.poll() is not None:
            _watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        return _watchdog.stdin.fileno()


def report(file, session):
    """Tells the watchdog of a session that begins, or by its negative number, that it has ended."""
    os.write(file, b"%d\n" % session)


def members(session):
    """Our children in a session, a list of pids: the first one, and orphans; the dead included."""
    children = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may end
            children += (task / "children").read_text().split()
    return [int(pid) for pid in children if _session_of(pid) == session]


def tree(pids):
    """The pids and those of all descendants, one by one."""
    left = list(pids)
    while left:
        pid = left.pop()
        with contextlib.suppress(OSError):  # it may end while we look
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
        yield pid


def end(session):
    """Kills all that is left of a session, and waits for it. Returns its CPU seconds, a float."""
    cpu_s = 0.0
    while pids := members(session):
        _kill_all(session)
        for pid in pids:
            _, _, usage = os.wait4(pid, 0)
            cpu_s += usage.ru_utime + usage.ru_stime
    return cpu_s


def _kill_all(session):
    """At once: all are of one process group too, which none can leave, and a fork cannot escape."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def uids():
    """Whose processes there are: a set of int."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found.add(os.stat(f"/proc/{name}").st_uid)
    return found


def end_uid(uid):
    """Kills all processes of a user."""
    subprocess.run(
        ["/usr/bin/setpriv", f"--reuid={uid}", "--clear-groups", "/bin/kill", "-9", "-1"]
    )


def _session_of(pid):
    """proc(5): field 6 of stat, after a name that may hold anything. 0 if the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[3])
    except OSError:
        return 0


def _watch():
    sessions = set()
    for line in sys.stdin.buffer:
        session = int(line)
        sessions.add(session)
        if session < 0:
            sessions -= {session, -session}
    for session in sessions:
        _kill_all(session)


if __name__ == "__main__":
    _watch()
