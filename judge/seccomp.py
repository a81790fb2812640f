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
    column: int  # which column of DENIED has this machine's numbers


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
    lines = filter(None, DENIED.splitlines())
    denied = sorted(int(line.split()[machine.column]) for line in lines)

    # What the filter does, with N denied calls:
    #
    #            0  load the architecture
    #            1  if it is this machine's, go to 3
    #            2  kill
    #            3  load the number of the call
    #            4  if it is a call by the x32 ABI, go to `deny`
    #     5 to 4+N  if it is this denied call, go to `deny`
    #          5+N  if it is not socket(2), go to `allow`
    #          6+N  load the family of the socket
    #          7+N  if it is past netlink, go to `deny`
    #   allow: 8+N  allow
    #    deny: 9+N  deny
    allow = len(denied) + 8
    deny = allow + 1
    program = []

    def add(code, operand, if_true=None, if_false=None):
        """Append an instruction. if_true, if_false: where it goes on, if not to the next one."""
        following = len(program) + 1
        # The instruction holds the number of instructions to skip.
        skips = [(target or following) - following for target in (if_true, if_false)]
        program.append(struct.pack("HBBI", code, *skips, operand))

    add(LOAD, ARCHITECTURE)
    add(IF_EQUAL, machine.audit_arch, if_true=3)
    add(RETURN, KILL)
    add(LOAD, NUMBER)
    add(IF_AT_LEAST, X32_BIT, if_true=deny)
    for number in denied:
        add(IF_EQUAL, number, if_true=deny)
    add(IF_EQUAL, machine.socket, if_false=allow)
    add(LOAD, FIRST_ARGUMENT)
    add(IF_ABOVE, socket.AF_NETLINK, if_true=deny)
    add(RETURN, ALLOW)
    add(RETURN, DENY)
    return b"".join(program)


FILTER = compile_filter(os.uname().machine)
