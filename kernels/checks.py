"""Checks of the kernels' arguments: a TypeError or ValueError names the argument and what to do
about it.

A kernel reads memory by address: a wrong dtype, stride or index would give wrong numbers or an
illegal access where torch would raise. One function per operation:

    check_head               arguments of linear_logprob
    check_group_loss         arguments of gepo_group_loss; returns the number of groups
    check_sample             arguments of sample_tokens
    check_decode_attention   arguments of decode_attention

The range of an index tensor is read back, which waits for the GPU.
"""

import torch


def check_head(hidden, weight, targets, temperature):
    """hidden [T, D], weight [V, D], targets [T] int64. Raises TypeError or ValueError."""
    shapes = {"hidden": "[T, D]", "weight": "[V, D]", "targets": "[T]"}
    tensors = {"hidden": hidden, "weight": weight, "targets": targets}
    for name, x in tensors.items():
        _require_tensor(name, x)
        _refuse_dtensor(
            name,
            x,
            "call this in the forward of the module that owns the weight, where FSDP has "
            "gathered it",
        )
        dims = 1 if name == "targets" else 2
        if x.dim() != dims:
            raise ValueError(f"{name} is {list(x.shape)}; it must be {shapes[name]}")
        _require_device_of(name, x, "hidden", hidden)
        if not x.is_contiguous():
            raise ValueError(
                f"{name} is not contiguous (strides {list(x.stride())}); call {name}.contiguous()"
            )
    if hidden.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(
            f"hidden is {hidden.dtype}; it must be float32, bfloat16 or float16 (float64 for the "
            "eager twin)"
        )
    if weight.dtype != hidden.dtype:
        raise TypeError(
            f"weight is {weight.dtype} and hidden {hidden.dtype}; they must be of one dtype"
        )
    if targets.dtype != torch.int64:
        raise TypeError(f"targets is {targets.dtype}; it must be int64")
    if weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight is {list(weight.shape)} and hidden {list(hidden.shape)}; their last sizes "
            "must be equal"
        )
    if len(targets) != len(hidden):
        raise ValueError(
            f"targets is {list(targets.shape)} and hidden {list(hidden.shape)}; their first sizes "
            "must be equal"
        )
    if not isinstance(temperature, (int, float)) or not 1e-6 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature!r}; it must be a number above 0")
    _require_targets_in_vocabulary(targets, len(weight))


def _require_targets_in_vocabulary(targets, vocab_size):
    if not len(targets):
        return
    low, high = torch.stack(targets.aminmax()).tolist()  # stacked: one wait for the GPU, not two
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise ValueError(
            f"targets has {wrong}; it must be in 0 .. {vocab_size - 1}, the rows of weight"
        )


def check_group_loss(logp, logp_ref, response, group, winner, beta):
    """logp [N], logp_ref [R], response [N], group [R], winner [R]. -> G, the number of groups.

    N is the number of tokens of all responses, R the number of responses.
    Raises TypeError or ValueError that names the argument, or the group without a winner or a
    loser."""
    tensors = {
        "logp": logp,
        "logp_ref": logp_ref,
        "response": response,
        "group": group,
        "winner": winner,
    }
    axes = {"logp": "N", "logp_ref": "R", "response": "N", "group": "R", "winner": "R"}
    dtypes = {"response": torch.int64, "group": torch.int64, "winner": torch.bool}
    for name, x in tensors.items():
        _require_tensor(name, x)
    if not isinstance(beta, (int, float)) or not -float("inf") < beta < float("inf"):
        raise ValueError(f"beta is {beta!r}; it must be a finite number")
    sizes = {"N": logp.numel(), "R": logp_ref.numel()}
    for name, x in tensors.items():
        _refuse_dtensor(name, x, f"call {name}.full_tensor()")
        wanted_dtype = dtypes.get(name, logp.dtype)
        if x.dtype != wanted_dtype or logp.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name} is {x.dtype}; response and group must be int64, winner bool, logp and "
                "logp_ref float32"
            )
        if x.dim() != 1 or len(x) != sizes[axes[name]]:
            raise ValueError(
                f"{name} is {list(x.shape)}; it must be [{axes[name]}] for N = {sizes['N']} tokens "
                f"in R = {sizes['R']} responses"
            )
        _require_device_of(name, x, "logp", logp)
        if not x.is_contiguous():
            raise ValueError(
                f"{name} is not contiguous (stride {x.stride(0)}); call {name}.contiguous()"
            )
    if not len(group):
        raise ValueError("group is empty; there must be a group with a winner and a loser")
    number_of_groups = int(group.max()) + 1
    _require_range("response", response, len(group))
    _require_range("group", group, number_of_groups)
    winners = torch.bincount(group[winner], minlength=number_of_groups).tolist()
    losers = torch.bincount(group[~winner], minlength=number_of_groups).tolist()
    for g in range(number_of_groups):
        if not winners[g] or not losers[g]:
            raise ValueError(
                f"group {g} has {winners[g]} winners and {losers[g]} losers; it needs one of each"
            )
    return number_of_groups


def check_sample(hidden, weight, uniform, temperature):
    """hidden [B, D], weight [V, D], uniform [B] float64. Raises TypeError or ValueError."""
    B, D = hidden.shape
    if weight.shape[1:] != (D,) or uniform.shape != (B,):
        raise ValueError(
            f"hidden is {list(hidden.shape)}, weight {list(weight.shape)}, uniform "
            f"{list(uniform.shape)}; they must be [B, D], [V, D], [B]"
        )
    if uniform.dtype != torch.float64:
        raise TypeError(f"uniform is {uniform.dtype}; it must be float64")
    if hidden.is_cuda and weight.dtype != hidden.dtype:
        raise TypeError(
            f"weight is {weight.dtype} and hidden {hidden.dtype}; they must be of one dtype"
        )
    for name, x in {"hidden": hidden, "weight": weight}.items():
        _require_device_of(name, x, "uniform", uniform)
        if not x.is_contiguous():
            raise ValueError(f"{name} is not contiguous; call {name}.contiguous()")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature!r}; it must be a number above 0")


def check_decode_attention(q, keys, values, lengths):
    """q [B, H, E], keys and values [B, K, C, E], lengths [B]. Raises TypeError or ValueError."""
    B, H, E = q.shape
    K = keys.shape[1]
    fits = keys.shape == values.shape and (keys.shape[0], keys.shape[3]) == (B, E)
    if not fits or H % K or lengths.shape != (B,):
        raise ValueError(
            f"q is {list(q.shape)}, keys {list(keys.shape)}, values {list(values.shape)}, lengths "
            f"{list(lengths.shape)}; they must be [B, H, E], twice [B, K, C, E], [B], and H a "
            "multiple of K"
        )
    if not q.dtype == keys.dtype == values.dtype or lengths.dtype != torch.int64:
        raise TypeError(
            f"q is {q.dtype}, keys {keys.dtype}, values {values.dtype}, lengths {lengths.dtype}; "
            "the first three must be of one dtype, lengths int64"
        )
    for name, x in {"keys": keys, "values": values, "lengths": lengths}.items():
        _require_device_of(name, x, "q", q)
        if x.dim() == 4 and x.stride()[2:] != (E, 1):
            raise ValueError(f"{name} has strides {x.stride()}; slots must lie end to end")


def _require_range(name, indices, end):
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < end:
        raise ValueError(
            f"{name} goes from {int(indices.min())} to {int(indices.max())}; "
            f"it must be in 0 .. {end - 1}"
        )


def _require_tensor(name, x):
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; it must be a tensor")


def _refuse_dtensor(name, x, what_to_do):
    if hasattr(x, "to_local"):
        raise TypeError(f"{name} is a DTensor, whose storage a kernel cannot read; {what_to_do}")


def _require_device_of(name, x, other_name, other):
    if x.device != other.device:
        raise ValueError(
            f"{name} is on {x.device} and {other_name} on {other.device}; move one of them"
        )
