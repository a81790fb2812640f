"""Weights sharded over the ranks (FSDP2): what is kept, gathered and reduced in which dtype."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, Shard

from distributed.ranks import rank, world_size


def is_sharded() -> bool:
    return dist.is_initialized()


def shard_model(model, dtype, offload=False):
    """Shards a Transformer's parameters in place over all ranks: FSDP2, a unit a block, the embedding and the head their own
    (tied: both in the root's), gathered as `dtype`, kept and reduced as float32, gradients summed and not averaged."""
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world_size(),))
    options = dict(
        mesh=mesh,
        mp_policy=MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        ),
        offload_policy=CPUOffloadPolicy() if offload else OffloadPolicy(),
    )
    ends = [] if model.config.tie_word_embeddings else [model.model.embed_tokens, model.lm_head]
    for unit in (*model.model.layers, *ends, model):
        fully_shard(
            unit, reshard_after_forward=True, **options
        )  # the root too: no forward leaves it gathered
        unit.set_gradient_divide_factor(
            1.0
        )  # the losses are divided by global denominators already
        unit.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum


def local_rows(parameter) -> slice:
    """Rows of dimension 0 that this rank holds of a parameter."""
    n = parameter.shape[0]
    size = -(-n // world_size()) if isinstance(parameter, DTensor) else n
    at = rank() * size if isinstance(parameter, DTensor) else 0
    return slice(min(n, at), min(n, at + size))


def tensor_from_local_rows(rows, parameter):
    """This rank's rows as a tensor like `parameter`, sharded where that is."""
    if not isinstance(parameter, DTensor):
        return rows
    made = DTensor.from_local(
        rows,
        parameter.device_mesh,
        [Shard(0)],
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return made.to(
        rows.device
    )  # from_local moves to the mesh's device; offloaded rows stay on the CPU


def unshard(tensor, dtype=None):
    """A tensor whole, on every rank that calls (all must); dtype: cast before it travels."""
    tensor = tensor.detach().to(dtype or tensor.dtype)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
