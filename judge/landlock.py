"""The walls of a box on machines that allow no user namespaces, as most containers do: landlock(7).

    box_rules(seen, box, scratch, writable)   -> a file descriptor: what a box may do with files
    view_rules(seen, parent)                  -> another, for a view that hides something
    enclose([rules, ...], own_modes)          puts the calling process behind the walls, for good

A process that is behind them opens no file but those of its ruleset and what /proc says of it, ends
or debugs no process but those behind the same walls, and makes no system call that the stricter
filters of seccomp.py refuse, such as socket(2). The kernel keeps it to that through every fork and
exec.

Left out, as Landlock has no right for it: the name, the size and the times of a file that a box may
not open can still be asked for.
"""

import ctypes
import functools
import os
import struct

from judge import seccomp, view
from judge.limits import SandboxError

LIBC = ctypes.CDLL(None, use_errno=True)
# System calls, by the same numbers on all machines
CREATE_RULESET = 444
ADD_RULE = 445
RESTRICT_SELF = 446
# Options of prctl(2)
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
# From linux/landlock.h
GET_VERSION = 1
PATH_BENEATH = 1
READ = 0b1101  # to execute and to read a file, to list a folder
ALL = 0xFFFF
OF_FILES = 0b1100000000000111  # the rights that a file can have
WRITE_FILE = 0b0010
SCOPES = 0b11  # abstract sockets and signals
# How many rights on files each version of the interface knows
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
# Since Linux 6.12 signals stop at the walls. Before, a uid of its own has to stop them.
SIGNALS_SINCE = 6
# What every program may read, and devices that it may write to.
DEVICES = ["/dev/null", "/dev/zero", "/dev/full"]
FILES = ["/dev/random", "/dev/urandom", "/etc/ssl/openssl.cnf"]
FILES += [f"/proc/{name}" for name in "cpuinfo meminfo stat version filesystems".split()]


def version():
    """The version of the kernel's interface, an int; 0 if there is none."""
    return max(LIBC.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION), 0)


def why_not():
    """Why no box can have these walls, and what to do; empty if it can."""
    if not seccomp.FILTER:
        return f"there is no filter of system calls for {os.uname().machine}"
    if version() == 0:
        return "the kernel has no Landlock, or this container's seccomp profile refuses it"
    if not os.path.exists("/proc/thread-self/children"):
        return "/proc does not tell the children of a process (CONFIG_PROC_CHILDREN)"
    if os.geteuid() and version() < SIGNALS_SINCE:
        return (
            f"Landlock {version()} lets an ordinary user's programs signal all that is yours: run "
            f"as root, whose boxes have uids of their own, or on Linux 6.12 (Landlock "
            f"{SIGNALS_SINCE}) or later"
        )
    return ""


@functools.cache
def view_rules(seen, parent):
    """The file descriptor of a ruleset without what a View hides.

    parent: the folder in which boxes are made, all of it allowed. Kept for the next box, since it
    may name the hundreds of files in /usr/bin that are no interpreters. Raises SandboxError."""
    allowed = dict.fromkeys((*view.without_hidden(seen), *FILES, "/proc"), READ)
    allowed |= {**dict.fromkeys(DEVICES, READ | WRITE_FILE), parent: ALL}
    return _ruleset(allowed)


def box_rules(seen, box, scratch, writable):
    """The file descriptor of a new ruleset for one box, with what its View hides still in it.

    seen: View. box: the folder of the program, which it may change if `writable`. scratch: a folder
    that it may always change. Raises SandboxError."""
    allowed = dict.fromkeys((*seen.shown, *FILES), READ)
    allowed |= {**dict.fromkeys(DEVICES, READ | WRITE_FILE), box: READ, scratch: ALL}
    if writable:
        allowed[box] = ALL
    return _ruleset(allowed)


def _ruleset(allowed):
    """allowed: {path: rights}. Nothing else may be done with any file."""
    known = version()
    every = (1 << RIGHTS.get(known, 16)) - 1
    attributes = struct.pack("QQQ", every, 0, SCOPES)
    size = len(attributes)
    if known < SIGNALS_SINCE:
        size = 8  # the first of the fields
    rules = LIBC.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        raise SandboxError(f"no Landlock ruleset: {os.strerror(ctypes.get_errno())}")
    try:
        for path, rights in allowed.items():
            _allow(rules, path, rights & every)
    except OSError as error:
        os.close(rules)
        raise SandboxError(f"no Landlock rule: {error}") from error
    return rules


def _allow(rules, path, rights):
    """Adds to a ruleset what may be done with a file, or with all that is in a folder."""
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:  # a link to nowhere
        return
    try:
        if not os.path.isdir(path):
            rights &= OF_FILES
        rule = struct.pack("=Qi", rights, beneath)
        _check(LIBC.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0))
    finally:
        os.close(beneath)


def enclose(rulesets, own_modes):
    """Puts the calling process behind the walls of all rulesets. Raises OSError.

    The last one is extended by /proc/self. own_modes: whether the process may change the modes of
    all files that its user owns.
    """
    program = seccomp.ALONE_READER
    if own_modes:
        program = seccomp.ALONE
    text = ctypes.create_string_buffer(program, len(program))
    pointer = ctypes.addressof(text)
    filter_program = struct.pack("HP", len(program) // seccomp.INSTRUCTION_BYTES, pointer)
    _allow(rulesets[-1], "/proc/self", READ)
    _check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    for rules in rulesets:
        _check(LIBC.syscall(RESTRICT_SELF, rules, 0))
    _check(LIBC.prctl(PR_SET_SECCOMP, 2, filter_program, 0, 0))


def _check(failed):
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
