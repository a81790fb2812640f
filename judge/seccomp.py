"""The system calls that a box may not make, and the seccomp(2) filter that refuses them with EPERM.

It is a deny-list, because an allow-list breaks the JVM and node. FILTER is the compiled filter, a
program in classic BPF, which is the form that bubblewrap takes; it is empty on machines other than
x86_64 and aarch64, where no call is filtered.

To deny one more call, add a row to DENIED. The filter also refuses socket families past netlink
(vsock and alg among them) and calls by the x32 ABI, and kills a process that makes a call by any
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


@dataclass(frozen=True)
class Machine:
    audit_arch: int  # AUDIT_ARCH_* of linux/audit.h
    socket: int  # the number of socket(2)
    column: int  # of this machine's numbers in DENIED


MACHINES = {
    "x86_64": Machine(audit_arch=0xC000003E, socket=41, column=1),
    "aarch64": Machine(audit_arch=0xC00000B7, socket=198, column=2),
}
X32_BIT = 0x40000000  # set in the number of a call by the x32 ABI

# What an instruction does, from linux/bpf_common.h
LOAD = 0x20
IF_EQUAL = 0x15
IF_AT_LEAST = 0x35
IF_ABOVE = 0x25
RETURN = 0x06
# What it loads: offsets in struct seccomp_data of linux/seccomp.h
NUMBER = 0
ARCHITECTURE = 4
FIRST_ARGUMENT = 16
# What the filter returns, from linux/seccomp.h
KILL = 0x80000000
ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EPERM


def compile_filter(name):
    """The filter, an array of struct sock_filter, for the machine that os.uname() names so.

    Empty if the machine is not in MACHINES.
    """
    if name not in MACHINES:
        return b""
    machine = MACHINES[name]
    rows = [line.split() for line in DENIED.splitlines() if line]
    denied = sorted(int(row[machine.column]) for row in rows)

    # An instruction is (code, jump if true, jump if false, operand). A jump is the number of
    # instructions to skip. The last instruction denies the call; `deny` is its index.
    deny = len(denied) + 9
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, machine.audit_arch),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, deny - 5, 0, X32_BIT),
    ]
    for number in denied:
        program.append((IF_EQUAL, deny - len(program) - 1, 0, number))
    program += [
        (IF_EQUAL, 0, 2, machine.socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),  # the family of the socket
        (IF_ABOVE, 1, 0, socket.AF_NETLINK),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, DENY),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


FILTER = compile_filter(os.uname().machine)
