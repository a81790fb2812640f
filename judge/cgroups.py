"""The cgroup of a box: it bounds the memory and the processes of the whole box and counts its CPU.

    usable_parents(os.environ.get(CGROUPS_VARIABLE))   -> where the groups go, or why there are none
    with Cgroup(parents, uid, limits) as group:        makes it; removes it with all that is in it
        group.enter                                    a command prefix that runs a command in it
        group.join()                                   moves this process into it
        group.used()                                   -> CPU seconds, whether it ran out of memory

A group is made anew for each run, as oorl-slot-<uid>: in cgroup v1 a folder in each of the three
hierarchies memory, pids and cpuacct, in v2 one folder. The caller holds the slot of that uid (see
slots.py) as long as the group is there; so a group whose slot nobody holds was left by a judge that
was killed, and the next judge removes it.
"""

import atexit
import contextlib
import functools
import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from judge.limits import Limits, SandboxError
from judge.slots import slot

# An environment variable. Set by probe(). 0: never use cgroups. 1: fail if there is none.
CGROUPS_VARIABLE = "OORL_CGROUPS"
# What bubblewrap itself needs at most, in addition to the limits of the program.
BWRAP_BYTES = 16 << 20
BWRAP_PROCESSES = 2
REMOVE_WITHIN_S = 5  # a killed process may be in the kernel for a while


@dataclass(frozen=True)
class Parents:
    """The groups in which those of the slots are made. In v2 all three are the same folder."""

    version: int  # 1 or 2
    memory: Path
    pids: Path
    cpu: Path

    def folders(self):
        return list(dict.fromkeys([self.memory, self.pids, self.cpu]))


@functools.cache
def usable_parents(wanted):
    """(the parents, "") or (None, why there are none), found out by entering a group.

    wanted: the value of CGROUPS_VARIABLE. If it is "1", SandboxError in place of None.
    """
    if wanted == "0":
        return None, f"{CGROUPS_VARIABLE}=0"
    try:
        own_groups = Path("/proc/self/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
        parents = find_parents(own_groups, mounts)
        _sweep(parents)
        with slot() as uid, Cgroup(parents, uid, Limits()) as group:
            trial = subprocess.run([*group.enter, "/usr/bin/true"], capture_output=True, text=True)
            group.used()
        if trial.returncode:
            raise SandboxError(f"cannot enter a cgroup: {trial.stderr}")
    except (SandboxError, OSError, KeyError) as error:
        if wanted == "1":
            raise SandboxError(f"no cgroup ({error}), but {CGROUPS_VARIABLE}=1") from error
        return None, " ".join(str(error).split())
    atexit.register(_sweep, parents)  # workers that were killed leave groups
    return parents, ""


class Cgroup:
    """The group of a slot for one run.

    It is new for each run, so that its counters begin at 0 and no page of another run is charged
    to it.
    """

    def __init__(self, parents, uid, limits):
        name = f"oorl-slot-{uid}"
        self.v1 = parents.version == 1
        self.limits = limits
        self.memory = parents.memory / name
        self.pids = parents.pids / name
        self.cpu = parents.cpu / name
        self.folders = [folder / name for folder in parents.folders()]
        # In v1, writing to cgroup.procs would stop all forks of the machine meanwhile. sh is a
        # single thread, so "tasks", which moves one thread, does as well.
        file = "tasks" if self.v1 else "cgroup.procs"
        self.doors = [str(folder / file) for folder in self.folders]
        script = "".join(f"echo 0 > {shlex.quote(door)} && " for door in self.doors)
        # If an echo fails, nothing runs, and the sandbox sees that bwrap never reported.
        self.enter = ["/bin/sh", "-c", script + 'exec "$@"', "sh"]

    def __enter__(self):
        self.remove()  # a killed judge may have left one
        try:
            for folder in self.folders:
                folder.mkdir()
            self._set_limits()
        except OSError as error:
            self.remove()
            raise SandboxError(f"cannot make a cgroup: {error}") from error
        return self

    def join(self):
        """Moves the calling process into the group."""
        for door in self.doors:
            with open(door, "wb", buffering=0) as file:
                file.write(b"0")

    def _set_limits(self):
        memory_bytes = str(self.limits.memory_bytes + BWRAP_BYTES)
        memory_file = "memory.limit_in_bytes" if self.v1 else "memory.max"
        (self.memory / memory_file).write_text(memory_bytes)
        swap = self.memory / ("memory.memsw.limit_in_bytes" if self.v1 else "memory.swap.max")
        if swap.exists():  # some kernels keep no account of swap
            # No swap for the box: v1 bounds the sum of memory and swap, v2 swap alone.
            swap.write_text(memory_bytes if self.v1 else "0")
        (self.pids / "pids.max").write_text(str(self.limits.processes + BWRAP_PROCESSES))

    def used(self):
        """(CPU seconds of all that was in the group, whether it ran out of its memory).

        It ran out if the kernel killed one of its processes for that. SandboxError if the kernel
        killed one because the machine, or a group above, was out of memory.
        """
        events = _counters(self.memory / ("memory.oom_control" if self.v1 else "memory.events"))
        if self.v1:
            cpu_s = int((self.cpu / "cpuacct.usage").read_text()) * 1e-9
            # v1 does not say whose memory ran out. If it was the group's, then the group was full,
            # except for at most a huge page.
            peak_bytes = int((self.memory / "memory.max_usage_in_bytes").read_text())
            was_full = peak_bytes > 0.9 * self.limits.memory_bytes
        else:
            cpu_s = _counters(self.cpu / "cpu.stat")["usage_usec"] * 1e-6
            was_full = events["oom"] > 0
        killed = events["oom_kill"] > 0
        if killed and not was_full:
            raise SandboxError(
                "the machine, or the judge's own cgroup, ran out of memory and killed in a box"
            )
        return cpu_s, killed

    def remove(self):
        """Kill all that is in the group, and remove it when that is gone."""
        deadline = time.monotonic() + REMOVE_WITHIN_S
        for folder in self.folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError as error:  # busy
                    if time.monotonic() > deadline:
                        raise SandboxError(f"{folder} cannot be removed: {error}") from error
                    _kill_members(folder)
                    time.sleep(0.001)

    def __exit__(self, *_):
        # The run is over and has its verdict. The next box of this slot tries again.
        with contextlib.suppress(SandboxError):
            self.remove()


def _counters(file):
    """A file with lines of a name and a number."""
    lines = file.read_text().splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


def _kill_members(folder):
    kill_all = folder / "cgroup.kill"
    with contextlib.suppress(OSError):  # gone meanwhile
        if kill_all.exists():  # v2 since Linux 5.14
            kill_all.write_text("1")
        pids = set((folder / "cgroup.procs").read_text().split())
        for pid in pids - {"0"}:  # 0 stands for a process that we cannot see
            os.kill(int(pid), signal.SIGKILL)


def find_parents(own_groups, mounts):
    """Where groups can be made, by the texts of /proc/self/cgroup and /proc/self/mountinfo.

    SandboxError if nowhere.
    """
    own = _own_folders(own_groups, _mounted_controllers(mounts))
    if {"memory", "pids", "cpuacct"} <= own.keys():
        return Parents(1, own["memory"], own["pids"], own["cpuacct"])
    if V2 in own:
        # In v2 only the root may both have processes and share out memory. So the groups are made
        # in the group of this process if that is the root, and else beside it.
        for parent in (own[V2], own[V2].parent):
            control = parent / "cgroup.subtree_control"
            if control.exists() and {"memory", "pids"} <= set(control.read_text().split()):
                return Parents(2, parent, parent, parent)
    raise SandboxError(
        "memory and pids are not delegated; `systemd-run --user --scope COMMAND` may help"
    )


V2 = ""  # the name by which /proc/self/cgroup lists v2 among the controllers of v1


def _mounted_controllers(mounts):
    """{controller: (the group at the top of its mount, the mount point)}."""
    mounted = {}
    for line in mounts.splitlines():
        # proc(5): id parent device root point options... - kind source options
        mount, filesystem = line.split(" - ")
        root_and_point = mount.split()[3:5]
        kind, *_, options = filesystem.split()
        if kind == "cgroup":
            mounted |= dict.fromkeys(options.split(","), root_and_point)
        elif kind == "cgroup2":
            mounted[V2] = root_and_point
    return mounted


def _own_folders(own_groups, mounted):
    """{controller: the folder of this process's group}, of the controllers where it is in sight."""
    own = {}
    for line in own_groups.splitlines():
        _, names, path = line.split(":", 2)
        for controller in mounted.keys() & names.split(","):
            root, point = mounted[controller]
            below = os.path.relpath(path, root)
            if not below.startswith(".."):  # a container sees only the branch at `root`
                own[controller] = Path(point, below)
    return own


def _sweep(parents):
    """Remove the groups that killed judges left: those whose slot nobody holds."""
    uids = set()
    for parent in parents.folders():
        for folder in parent.glob("oorl-slot-[0-9]*"):
            uids.add(int(folder.name.removeprefix("oorl-slot-")))
    for uid in uids:
        with contextlib.suppress(SandboxError), slot([uid]):
            Cgroup(parents, uid, Limits()).remove()
