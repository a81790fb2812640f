"""Slots: each box that runs on this machine holds a uid of its own.

As root, the judge runs the program of a box under that uid, so that no box can touch the files or
processes of another. As an ordinary user it only takes the number, which names the box's cgroup.
"""

import contextlib
import socket

from judge.limits import SandboxError

SLOT_UIDS = range(61000, 62000)


@contextlib.contextmanager
def slot(uids=SLOT_UIDS):
    """Hold, in a `with`, one of `uids` that no other box of this machine holds.

    The lock is the name of an abstract socket: the kernel frees it when the process dies, and
    nothing is left behind. Such names belong to a network namespace, so judges in different ones do
    not see each other's locks. SandboxError if all of `uids` are taken.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        for uid in uids:
            try:
                lock.bind(f"\0oorl-slot-{uid}")
            except OSError:  # in use
                continue
            yield uid
            return
    raise SandboxError(f"all {len(uids)} slots of this machine are taken")
