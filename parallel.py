"""Several processes, one run: ranks, sharded weights (FSDP2), and what the ranks tell each other.

    torchrun --nproc_per_node=8 train.py ...                             on one machine
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 train.py ...      on each of two

What is heavy is sharded: weights, gradients, AdamW's moments. What is light is gathered: verdicts, rewards, log-probs, so that
every rank computes statistics over the global batch itself, with the bits that one process would have. Ranks wait for slow
ones (sampling, judging) only in gathered(), which does not time out; a rank that dies closes its connections and ends it.
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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

patient = None                                               # a group on the CPU whose waits do not time out


def start() -> torch.device:
    """Joins the ranks that torchrun, or who sets the same environment variables, started. -> this rank's device. Raises ValueError.

    On a GPU there is a group also without torchrun: fp32 master weights under bf16 ones are FSDP's, of one rank too."""
    global patient
    cuda, launched = torch.cuda.is_available(), "RANK" in os.environ
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if launched and (lacking := [k for k in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if k not in os.environ]):
        raise ValueError(f"the environment has RANK but no {', '.join(lacking)}: start with torchrun, or unset RANK for a run of one process")
    if launched:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG, prctl(2): no rank outlives its torchrun
    if not dist.is_initialized() and (cuda or launched and int(os.environ["WORLD_SIZE"]) > 1):
        store, number, size = next(dist.rendezvous("env://")) if launched else (dist.HashStore(), 0, 1)
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)           # --max-restarts: no address of the dead
        if cuda:
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=number, world_size=size, timeout=timedelta(minutes=10))
        patient = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    if world() > 1:
        for s in (signal.SIGINT, signal.SIGTERM):            # Python's own handler would wait for the collective to end
            signal.signal(s, signal.SIG_DFL)
    return device


def stop():
    """Ends the ranks' connections, when all have come here."""
    gathered([])
    if dist.is_initialized():
        dist.destroy_process_group()


def told(main):
    """main for torchrun, whose last lines are then the exception of the rank that failed first. One that only lost its
    connection to that rank gives it time to be the first. With ranks it does not return: gloo's threads may still hold
    Python objects, and one that asks for the interpreter while that ends aborts a run that is done."""
    def run(*args):
        try:
            code = main(*args) or 0
        except RuntimeError as e:
            if world() > 1 and (isinstance(e, dist.DistError) or "gloo" in str(e)):
                time.sleep(5)
            raise
        if patient:
            sys.stdout.flush()
            os._exit(code)
        return code
    return record(run)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def share(n: int) -> range:
    """This rank's part of n places: contiguous, so that gathered() puts them back in order."""
    return range(rank() * n // world(), (rank() + 1) * n // world())


def gathered(items: list) -> list:
    """The lists of all ranks, one after the other, on every rank. Waits for the slowest without a time limit."""
    if world() == 1:
        return items
    parts = [None] * world()
    dist.all_gather_object(parts, items, group=patient)
    return [item for part in parts for item in part]


def first(make):
    """What make() returns on rank 0, on every rank; only rank 0 calls it."""
    return gathered([make()] if rank() == 0 else [])[0]


# ---------------------------------------------------------------------------------------------- weights

def sharded() -> bool:
    return dist.is_initialized()


def shard(model, dtype, offload=False):
    """Shards a Transformer's parameters in place over all ranks: FSDP2, a unit a block, the embedding and the head their own
    (tied: both in the root's), gathered as `dtype`, kept and reduced as float32, gradients summed and not averaged."""
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world(),))
    options = dict(mesh=mesh, mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False),
                   offload_policy=CPUOffloadPolicy() if offload else OffloadPolicy())
    ends = [] if model.config.tie_word_embeddings else [model.model.embed_tokens, model.lm_head]
    for unit in (*model.model.layers, *ends, model):
        fully_shard(unit, reshard_after_forward=True, **options)                     # the root too: no forward leaves it gathered
        unit.set_gradient_divide_factor(1.0)                 # the losses are divided by global denominators already
        unit.set_force_sum_reduction_for_comms(True)         # gloo has no scaled sum


def rows_of(parameter) -> slice:
    """Rows of dimension 0 that this rank holds of a parameter."""
    n = parameter.shape[0]
    size = -(-n // world()) if isinstance(parameter, DTensor) else n
    at = rank() * size if isinstance(parameter, DTensor) else 0
    return slice(min(n, at), min(n, at + size))


def from_rows(rows, parameter):
    """This rank's rows as a tensor like `parameter`, sharded where that is."""
    if not isinstance(parameter, DTensor):
        return rows
    made = DTensor.from_local(rows, parameter.device_mesh, [Shard(0)], run_check=False, shape=parameter.shape, stride=parameter.stride())
    return made.to(rows.device)                              # from_local moves to the mesh's device; offloaded rows stay on the CPU


def full(tensor, dtype=None):
    """A tensor whole, on every rank that calls (all must); dtype: cast before it travels."""
    tensor = tensor.detach().to(dtype or tensor.dtype)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
