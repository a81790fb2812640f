"""Weights sharded over the ranks with FSDP2: what is kept, gathered, reduced, and in which dtype.

Kept: float32 rows of every parameter, of its gradient and of AdamW's moments. Gathered for a
forward or a backward: one unit (a block, the embedding, the head) in the compute dtype. Reduced:
gradients, in float32, summed and not averaged, because the losses are divided by global
denominators already.
Without a process group nothing is sharded, and the functions return what they are given.
"""

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


def is_sharded():
    """Whether models of this run are sharded: there is a process group, if only of one rank."""
    return dist.is_initialized()


def shard_model(model, compute_dtype, offload=False):
    """Shards a Transformer's parameters in place over all ranks.

    A unit is a block, the embedding or the head (tied: both belong to the root's unit). Parameters
    are gathered in compute_dtype, kept and reduced in float32. offload: kept on the CPU."""
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device_type, (world_size(),))
    precision = MixedPrecisionPolicy(
        param_dtype=compute_dtype,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # cos and sin of the rotary positions stay float32
    )
    units = list(model.model.layers)
    if not model.config.tie_word_embeddings:
        units += [model.model.embed_tokens, model.lm_head]
    for unit in [*units, model]:
        fully_shard(
            unit,
            mesh=mesh,
            mp_policy=precision,
            offload_policy=CPUOffloadPolicy() if offload else OffloadPolicy(),
            reshard_after_forward=True,  # for the root too: no forward leaves it gathered
        )
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum


def local_rows(parameter):
    """The rows (dimension 0) of a parameter that this rank holds."""
    n_rows = parameter.shape[0]
    if not isinstance(parameter, DTensor):
        return slice(0, n_rows)
    rows_per_rank = -(-n_rows // world_size())  # rounded up: the last ranks may have fewer
    begin = rank() * rows_per_rank
    return slice(min(n_rows, begin), min(n_rows, begin + rows_per_rank))


def tensor_from_local_rows(rows, parameter):
    """This rank's rows as a tensor like `parameter`: sharded where that one is."""
    if not isinstance(parameter, DTensor):
        return rows
    tensor = DTensor.from_local(
        rows,
        parameter.device_mesh,
        [Shard(0)],
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return tensor.to(rows.device)  # from_local moves to the mesh's device; offloaded rows stay


def unshard(tensor, dtype=None):
    """The whole tensor on every rank. All ranks must call. dtype: cast before it travels."""
    tensor = tensor.detach().to(dtype or tensor.dtype)
    if isinstance(tensor, DTensor):
        return tensor.full_tensor()
    return tensor
