"""The processes of a run: start and end, each rank's share of the work, and collectives on lists.

    torchrun --nproc_per_node=8 train.py ...                       on one machine
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d \\
        --rdzv_endpoint=HOST:29500 train.py ...                    on each of two

Ranks wait for slow ones (sampling, judging) only in all_gather_list() and what is built on it:
these do not time out. A rank that dies closes its connections, which ends the wait of the others.
Without torchrun on a CPU there is one rank, and the functions below return what they are given.
"""

import ctypes
import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

PR_SET_PDEATHSIG = 1  # prctl(2)
TORCHRUN_VARIABLES = ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
patient_group = None  # a gloo group whose waits do not time out


# ---------------------------------------------------------------------------- start and end


def start(mixed_precision=False):
    """Joins the ranks that torchrun, or whoever sets its environment variables, has started.

    Returns this rank's device. On a GPU, and for mixed precision, there is a process group even
    without torchrun: float32 master weights under bfloat16 ones are FSDP's, for one rank too.
    Raises ValueError when some of torchrun's variables are missing."""
    launched_by_torchrun = "RANK" in os.environ
    if launched_by_torchrun:
        missing = [name for name in TORCHRUN_VARIABLES if name not in os.environ]
        if missing:
            raise ValueError(
                f"the environment has RANK but no {', '.join(missing)}: start with torchrun, or "
                "unset RANK for a run of one process"
            )
        # No rank outlives its torchrun.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    several = launched_by_torchrun and int(os.environ["WORLD_SIZE"]) > 1
    if not dist.is_initialized() and (device.type == "cuda" or mixed_precision or several):
        _init_process_groups(device, launched_by_torchrun)
    if world_size() > 1:
        # Python's own handlers would wait for a collective to end.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return device


def _init_process_groups(device, launched_by_torchrun):
    global patient_group
    store, rank_here, size = dist.HashStore(), 0, 1
    if launched_by_torchrun:
        store, rank_here, size = next(dist.rendezvous("env://"))
    # After torchrun --max-restarts, addresses of the dead ranks must not be found.
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend, store=store, rank=rank_here, world_size=size, timeout=timedelta(minutes=10)
    )
    patient_group = dist.new_group(backend="gloo", timeout=timedelta(days=30))


def shut_down():
    """Closes the ranks' connections, once all ranks have come here."""
    barrier()
    if dist.is_initialized():
        dist.destroy_process_group()


def report_rank_failure(main):
    """Wraps main so that torchrun's last lines are the exception of the rank that failed first.

    A rank that only lost its connection to the failed one waits, so that the failed one is first.
    With several ranks the wrapper exits instead of returning: gloo's threads may still hold Python
    objects, and one that asks for the interpreter while it ends would abort a finished run."""

    def run(*args):
        try:
            exit_code = main(*args) or 0
        except RuntimeError as error:
            lost_connection = isinstance(error, dist.DistError) or "gloo" in str(error)
            if world_size() > 1 and lost_connection:
                time.sleep(5)
            raise
        if patient_group:
            sys.stdout.flush()
            os._exit(exit_code)
        return exit_code

    return record(run)


# ---------------------------------------------------------------------------- shares, collectives


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    return dist.get_world_size() if dist.is_initialized() else 1


def share_of(n):
    """This rank's part of n places. Contiguous, so that all_gather_list restores the order."""
    return range(rank() * n // world_size(), (rank() + 1) * n // world_size())


def all_gather_list(items):
    """The lists of all ranks, one after the other, on every rank. Waits without a time limit."""
    if world_size() == 1:
        return items
    lists = [None] * world_size()
    dist.all_gather_object(lists, items, group=patient_group)
    return [item for one_rank in lists for item in one_rank]


def broadcast_from_rank_0(make):
    """What make() returns on rank 0, on every rank. Only rank 0 calls it."""
    return all_gather_list([make()] if rank() == 0 else [])[0]


def barrier():
    """Waits until all ranks have come here, without a time limit."""
    all_gather_list([])
