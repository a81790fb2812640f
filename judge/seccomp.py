"""The system calls that a box may not make, and the seccomp(2) filters that refuse them with EPERM.

They are deny-lists, because an allow-list breaks the JVM and node. FILTER is the compiled filter, a
program in classic BPF, which is the form that bubblewrap takes. ALONE refuses besides what
namespaces make harmless, for boxes that have none (landlock.py), and ALONE_READER some more for
programs that may not change their folder. All are empty on machines other than x86_64 and aarch64.

To deny one more call, add a row to DENIED. The filters also refuse socket families past netlink
(vsock and alg among them) and calls by the x32 ABI, and kill a process that makes a call by any
other ABI, such as a 32-bit program.
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass

# In the form of the kernel's tables: name, number on x86_64, number on aarch64, why it is denied.
DENIED = """
    ptrace             101  117  debugs other processes
    process_vm_readv   310  270  reads their memory
    process_vm_writev  311  271  writes their memory
    kcmp               312  272  compares what they have open
    pidfd_getfd        438  438  takes what they have open

    mount              165   40  mounts
    umount2            166   39  mounts
    pivot_root         155   41  mounts
    open_tree          428  428  mounts
    move_mount         429  429  mounts
    fsopen             430  430  mounts
    fsconfig           431  431  mounts
    fsmount            432  432  mounts
    fspick             433  433  mounts
    mount_setattr      442  442  mounts

    unshare            272   97  makes namespaces
    setns              308  268  enters namespaces

    add_key            248  217  the kernel's keys are not per box
    request_key        249  218  the kernel's keys are not per box
    keyctl             250  219  the kernel's keys are not per box

    syslog             103  116  reads the kernel's log
    bpf                321  280  a way into the kernel that no program here needs
    perf_event_open    298  241  a way into the kernel that no program here needs
    userfaultfd        323  282  a way into the kernel that no program here needs
    io_uring_setup     425  425  makes system calls that no filter sees
    io_uring_enter     426  426  makes system calls that no filter sees
    io_uring_register  427  427  makes system calls that no filter sees
    name_to_handle_at  303  264  names files by handles, past the mounts
    open_by_handle_at  304  265  opens files by handles, past the mounts

    memfd_create       319  279  memory that no process maps, and so is not counted
    memfd_secret       447  447  memory that no process maps, and so is not counted
    shmget              29  194  System V memory that no process maps, and so is not counted
"""
# Where a box has no namespaces. "-": the machine has no such call.
DENIED_ALONE = """
    socket              41  198  reaches the network and the sockets of the host
    bind                49  200  takes names among the host's sockets
    setsid             112  157  leaves the session by which the processes of a box are known
    setpgid            109  154  leaves the process group, which can be killed at once
    inotify_init       253    -  watches the host's folders
    inotify_init1      294   26  watches the host's folders
    fanotify_init      300  262  watches the host's folders

    shmat               30  196  the host's shared memory
    shmctl              31  195  the host's shared memory
    msgget              68  186  the host's queues
    msgsnd              69  189  the host's queues
    msgrcv              70  188  the host's queues
    msgctl              71  187  the host's queues
    mq_open            240  180  the host's queues
    mq_unlink          241  181  the host's queues
    semget              64  190  the host's semaphores
    semop               65  193  the host's semaphores
    semctl              66  191  the host's semaphores
    semtimedop         220  192  the host's semaphores

    setxattrat         463  463  access control lists are modes
    removexattrat      466  466  access control lists are modes
    file_setattr       469  469  attributes of an ordinary user's files
"""
# For programs that may not change their folder, and for all of an ordinary user: Landlock has no
# right for these.
DENIED_READER = """
    chmod               90    -  the modes of an ordinary user's files
    fchmodat           268   53  the modes of an ordinary user's files
    fchmodat2          452  452  the modes of an ordinary user's files
    chown               92    -  their owners
    lchown              94    -  their owners
    fchownat           260   54  their owners
    setxattr           188    5  their attributes
    lsetxattr          189    6  their attributes
    fsetxattr          190    7  their attributes
    removexattr        197   14  their attributes
    lremovexattr       198   15  their attributes
    fremovexattr       199   16  their attributes
"""
# These return 0 as if they were done, since programs that copy files give up without.
IGNORED_READER = """
    fchmod              91   52  the mode of a file
    fchown              93   55  its owner
    utime              132    -  its times
    utimes             235    -  its times
    futimesat          261    -  its times
    utimensat          280   88  its times
"""
# These may act on other processes of an ordinary user: the call is stopped if the argument, counted
# from 0, is above the limit, so that it names another process than its caller, or all of the
# user's. Ignored, it returns 0 as if it were done, since mono sets the priority of its threads.
STOPPED_FOR_OTHERS = """
    prlimit64          302  261  argument 0 limit 0 deny
    setpriority        141  140  argument 0 limit 0 ignore
    setpriority        141  140  argument 1 limit 0 ignore
    ioprio_set         251   30  argument 0 limit 1 ignore
    ioprio_set         251   30  argument 1 limit 0 ignore
    sched_setaffinity  203  122  argument 0 limit 0 ignore
    sched_setparam     142  118  argument 0 limit 0 ignore
    sched_setscheduler 144  119  argument 0 limit 0 ignore
    sched_setattr      314  274  argument 0 limit 0 ignore
"""


@dataclass(frozen=True)
class Machine:
    audit_arch: int  # AUDIT_ARCH_* of linux/audit.h
    socket: int  # the number of socket(2)
    socketpair: int
    clone: int
    column: int  # which column of the tables has this machine's numbers


MACHINES = {
    "x86_64": Machine(0xC000003E, socket=41, socketpair=53, clone=56, column=1),
    "aarch64": Machine(0xC00000B7, socket=198, socketpair=199, clone=220, column=2),
}
CLONE3 = 435  # on both
# The flags of clone(2) that make namespaces, CLONE_NEW* of linux/sched.h
NEW_NAMESPACES = 0x7E020000
X32_BIT = 0x40000000  # set in the number of a call by the x32 ABI

# What an instruction does, from linux/bpf_common.h
LOAD = 0x20
IF_EQUAL = 0x15
IF_AT_LEAST = 0x35
IF_ABOVE = 0x25
IF_ANY_BIT = 0x45
RETURN = 0x06
# What it loads: offsets in struct seccomp_data of linux/seccomp.h
NUMBER = 0
ARCHITECTURE = 4
ARGUMENTS = 16  # of 8 bytes each, the low half first
# What the filter returns, from linux/seccomp.h
KILL = 0x80000000
ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EPERM
IGNORE = 0x00050000  # an error number of 0
NO_SUCH_CALL = 0x00050000 | errno.ENOSYS
INSTRUCTION = "HBBI"  # struct sock_filter: code, how many to skip if true, if false, operand
INSTRUCTION_BYTES = struct.calcsize(INSTRUCTION)


def compile_filter(name, denied, ignored="", alone=False):
    """A filter, an array of struct sock_filter, for the machine that os.uname() names so.

    denied, ignored: tables of calls. alone: for a box without namespaces.
    Empty if the machine is not in MACHINES.
    """
    if name not in MACHINES:
        return b""
    machine = MACHINES[name]
    program = []

    def add(code, operand, skip_if_true=0, skip_if_false=0):
        program.append(struct.pack(INSTRUCTION, code, skip_if_true, skip_if_false, operand))

    def when(condition, operand, action):
        """Ends with `action` if the condition holds for what is loaded."""
        add(condition, operand, skip_if_false=1)
        add(RETURN, action)

    def when_argument(number, argument, condition, operand, action=DENY):
        """Ends with `action` if the call of this number has such an argument."""
        add(IF_EQUAL, number, skip_if_false=4)
        add(LOAD, ARGUMENTS + 8 * argument)
        when(condition, operand, action)
        add(LOAD, NUMBER)

    add(LOAD, ARCHITECTURE)
    add(IF_EQUAL, machine.audit_arch, skip_if_true=1)
    add(RETURN, KILL)
    add(LOAD, NUMBER)
    when(IF_AT_LEAST, X32_BIT, DENY)
    for number, _ in _calls(machine, denied):
        when(IF_EQUAL, number, DENY)
    for number, _ in _calls(machine, ignored):
        when(IF_EQUAL, number, IGNORE)
    when_argument(machine.socket, 0, IF_ABOVE, socket.AF_NETLINK)
    when_argument(machine.socketpair, 0, IF_ABOVE, socket.AF_NETLINK)
    if alone:
        when(IF_EQUAL, CLONE3, NO_SUCH_CALL)  # the C library then takes clone(2)
        when_argument(machine.clone, 0, IF_ANY_BIT, NEW_NAMESPACES)
        # Of a pair of datagram sockets each end may send to any name; a stream is connected.
        when_argument(machine.socketpair, 1, IF_ANY_BIT, socket.SOCK_DGRAM)
        for number, row in _calls(machine, STOPPED_FOR_OTHERS):
            action = {"deny": DENY, "ignore": IGNORE}[row[7]]
            when_argument(number, int(row[4]), IF_ABOVE, int(row[6]), action)
    add(RETURN, ALLOW)
    return b"".join(program)


def _calls(machine, table):
    """(number, row of the table) of each call that the machine has."""
    rows = [line.split() for line in table.splitlines() if line]
    return [(int(row[machine.column]), row) for row in rows if row[machine.column] != "-"]


_MACHINE = os.uname().machine
FILTER = compile_filter(_MACHINE, DENIED)
ALONE = compile_filter(_MACHINE, DENIED + DENIED_ALONE, alone=True)
ALONE_READER = compile_filter(
    _MACHINE, DENIED + DENIED_ALONE + DENIED_READER, IGNORED_READER, alone=True
)
