"""What goes into the sandbox and what comes out of it: Limits, Result, SandboxError.

The defaults of Limits, among them the time limit, hold for the programs of python, cpp, php and
bash. The other languages have limits of their own in their rows of judge/languages.py (`limits`):
java, javascript, typescript, go, csharp and scala those of VIRTUAL_MACHINE, haskell the same with
less memory. The limits of all compilers are there too (`compile_limits`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one run may use, all processes of its box together."""

    cpu_s: float = 4.0
    wall_s: float = 10.0
    memory_bytes: int = 512 << 20
    processes: int = 32  # threads count as processes
    # Whether to set RLIMIT_AS to memory_bytes, too. It is exact, but it holds for each process on
    # its own, and java and node break under it.
    address_space: bool = True
    stdout_bytes: int = 1 << 20
    stderr_bytes: int = 64 << 10
    file_bytes: int = 64 << 20  # the size of each file that the program writes
    folder_bytes: int = 64 << 20  # of all files in a folder that it may write to


@dataclass(frozen=True)
class Result:
    """How one run ended."""

    status: str  # OK, TLE, MLE, OLE (a stream over its cap), RE (exit code not 0, or a signal)
    returncode: int  # 128 + signal for a death by signal
    stdout: bytes  # at most stdout_bytes
    stderr: bytes  # at most stderr_bytes
    cpu_s: float  # CPU time of all its processes together
    wall_s: float
    queued_s: float  # seconds spent runnable without a CPU, at the last poll


class SandboxError(RuntimeError):
    """The sandbox failed, not the program in it: the verdict is JE, never a reward of 0."""
