"""Several processes, one run: ranks, sharded weights (FSDP2), and what the ranks tell each other.

    torchrun --nproc_per_node=8 train.py ...                             on one machine
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 train.py ...      on each of two

What is heavy is sharded: weights, gradients, AdamW's moments. What is light is gathered: verdicts, rewards, log-probs, so that
every rank computes statistics over the global batch itself, with the bits that one process would have. Ranks wait for slow
ones (sampling, judging) only in all_gather_list(), which does not time out; a rank that dies closes its connections and ends it.
Without torchrun on a CPU there is one rank, nothing is sharded, and the functions below return what they are given.
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

patient_group = None  # a group on the CPU whose waits do not time out


def start() -> torch.device:
    """Joins the ranks that torchrun, or who sets the same environment variables, started. -> this rank's device. Raises ValueError.

    On a GPU there is a group also without torchrun: fp32 master weights under bf16 ones are FSDP's, of one rank too."""
    global patient_group
    cuda, launched = torch.cuda.is_available(), "RANK" in os.environ
    device = (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    )
    if launched and (
        lacking := [
            k
            for k in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
            if k not in os.environ
        ]
    ):
        raise ValueError(
            f"the environment has RANK but no {', '.join(lacking)}: start with torchrun, or unset RANK for a run of one process"
        )
    if launched:
        ctypes.CDLL(None).prctl(
            1, signal.SIGKILL, 0, 0, 0
        )  # PR_SET_PDEATHSIG, prctl(2): no rank outlives its torchrun
    if not dist.is_initialized() and (cuda or launched and int(os.environ["WORLD_SIZE"]) > 1):
        store, number, size = (
            next(dist.rendezvous("env://")) if launched else (dist.HashStore(), 0, 1)
        )
        store = dist.PrefixStore(
            os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store
        )  # --max-restarts: no address of the dead
        if cuda:
            torch.cuda.set_device(device)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=store,
            rank=number,
            world_size=size,
            timeout=timedelta(minutes=10),
        )
        patient_group = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    if world_size() > 1:
        for s in (
            signal.SIGINT,
            signal.SIGTERM,
        ):  # Python's own handler would wait for the collective to end
            signal.signal(s, signal.SIG_DFL)
    return device


def shut_down():
    """Ends the ranks' connections, when all have come here."""
    barrier()
    if dist.is_initialized():
        dist.destroy_process_group()


def report_rank_failure(main):
    """main for torchrun, whose last lines are then the exception of the rank that failed first. One that only lost its
    connection to that rank gives it time to be the first. With ranks it does not return: gloo's threads may still hold
    Python objects, and one that asks for the interpreter while that ends aborts a run that is done."""

    def run(*args):
        try:
            code = main(*args) or 0
        except RuntimeError as e:
            if world_size() > 1 and (isinstance(e, dist.DistError) or "gloo" in str(e)):
                time.sleep(5)
            raise
        if patient_group:
            sys.stdout.flush()
            os._exit(code)
        return code

    return record(run)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def share_of(n: int) -> range:
    """This rank's part of n places: contiguous, so that all_gather_list() puts them back in order."""
    return range(rank() * n // world_size(), (rank() + 1) * n // world_size())


def all_gather_list(items: list) -> list:
    """The lists of all ranks, one after the other, on every rank. Waits for the slowest without a time limit."""
    if world_size() == 1:
        return items
    parts = [None] * world_size()
    dist.all_gather_object(parts, items, group=patient_group)
    return [item for part in parts for item in part]


def broadcast_from_rank_0(make):
    """What make() returns on rank 0, on every rank; only rank 0 calls it."""
    return all_gather_list([make()] if rank() == 0 else [])[0]


def barrier():
    """Waits until all ranks have come here, without a time limit."""
    all_gather_list([])
