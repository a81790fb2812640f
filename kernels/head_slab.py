"""The `slab` backend of kernels/head.py: cuBLAS makes a slab of logits, Triton works on its rows.

A slab (see head_eager.py) is small enough to stay in the L2 cache between the two. Its logits are
float32. One Triton kernel per direction:

    _forward_rows   takes a slab into the online log-sum-exp
    _dlogits_rows   turns a slab into the gradient in its logits

    T, t   tokens of the call, tokens of one slab
    D      hidden size
    V, v   vocabulary (or the slice of it that backward works on), columns of one slab
"""

import torch
import triton
import triton.language as tl

from kernels.head_eager import forward_by_slabs, matmul32, slabs

BLOCK = 1024  # columns of a row that a program holds at a time


def forward(hidden, weight, targets, temperature, entropy):
    """As head_eager.forward."""
    return forward_by_slabs(hidden, weight, targets, temperature, entropy, _update_state)


def dlogits(hidden, weight, first_column, targets, lse, grad, temperature):
    """As head_eager.dlogits, in the dtype of hidden."""
    out = torch.empty(len(hidden), len(weight), device=hidden.device, dtype=hidden.dtype)
    for rows, columns in slabs(len(hidden), len(weight)):
        logits = matmul32(hidden[rows], weight[columns].T)
        t, v = logits.shape
        _dlogits_rows[t, triton.cdiv(v, BLOCK)](
            logits,
            targets[rows],
            lse[rows],
            grad[rows],
            out[rows, columns],
            v,
            first_column + columns.start,
            out.stride(0),
            1 / temperature,
            BLOCK=BLOCK,
            num_warps=4,
            enable_fp_fusion=True,  # set here because its default changes in Triton 3.10
        )
    return out


def _update_state(logits, first_column, targets, state, scale, entropy):
    t, v = logits.shape
    _forward_rows[t,](
        logits,
        targets,
        state,
        state.stride(0),
        v,
        first_column,
        scale,
        ENTROPY=entropy,
        BLOCK=BLOCK,
        num_warps=4,
        # with x = z * scale fused into the subtraction, exp(x - maximum) would not be 1 at the
        # maximum, and a log-prob could be above 0
        enable_fp_fusion=False,
    )


@triton.jit
def _forward_rows(
    z_ptr,  # [t, v] float32, e.g. 2048 x 4224: one slab of logits, before the temperature
    targets_ptr,  # [t] int64
    state_ptr,  # [4, t] float32, rows T apart: see head_eager.forward_by_slabs
    T,  # e.g. 8192
    v,
    first_column,  # where the slab begins in the vocabulary
    scale,  # 1 / temperature
    ENTROPY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Takes one row of the slab into the state. One program per row."""
    row = tl.program_id(0)
    row_ptr = z_ptr + row.to(tl.int64) * v
    maximum_ptr = state_ptr + row
    sum_exp_ptr = maximum_ptr + T
    sum_exp_x_ptr = maximum_ptr + 2 * T
    target_logit_ptr = maximum_ptr + 3 * T
    maximum = tl.load(maximum_ptr)
    sum_exp = tl.load(sum_exp_ptr)
    sum_exp_x = tl.load(sum_exp_x_ptr)
    for start in range(0, v, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        x = tl.load(row_ptr + cols, mask=cols < v, other=-float("inf")) * scale
        new_maximum = tl.maximum(maximum, tl.max(x, 0))
        exp_x = tl.exp(x - new_maximum)
        shrink = tl.exp(maximum - new_maximum)  # the sums so far are relative to the old maximum
        sum_exp = sum_exp * shrink + tl.sum(exp_x, 0)
        if ENTROPY:
            # past the end exp_x * x is 0 * -inf, which is NaN
            exp_x_times_x = tl.where(cols < v, exp_x * x, 0.0)
            sum_exp_x = sum_exp_x * shrink + tl.sum(exp_x_times_x, 0)
        maximum = new_maximum
    tl.store(maximum_ptr, maximum)
    tl.store(sum_exp_ptr, sum_exp)
    tl.store(sum_exp_x_ptr, sum_exp_x)
    target_column = tl.load(targets_ptr + row) - first_column
    if (target_column >= 0) & (target_column < v):
        tl.store(target_logit_ptr, tl.load(row_ptr + target_column) * scale)


@triton.jit
def _dlogits_rows(
    z_ptr,  # [t, v] float32, e.g. 2048 x 4224: one slab of logits, before the temperature
    targets_ptr,  # [t] int64
    lse_ptr,  # [t] float32
    grad_ptr,  # [t] float32, the upstream gradient
    out_ptr,  # [t, v], bfloat16 say, rows `out_stride` apart
    v,
    first_column,  # where the slab begins in the vocabulary
    out_stride,
    scale,  # 1 / temperature
    BLOCK: tl.constexpr,
):
    """The gradient in the logits of one slab. One program per row and block of columns."""
    row = tl.program_id(0)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(z_ptr + row.to(tl.int64) * v + cols, mask=cols < v, other=0.0) * scale
    is_target = cols + first_column == tl.load(targets_ptr + row)
    p = tl.exp(x - tl.load(lse_ptr + row))
    gradient = (tl.where(is_target, 1.0, 0.0) - p) * (tl.load(grad_ptr + row) * scale)
    out_row_ptr = out_ptr + row.to(tl.int64) * out_stride
    tl.store(out_row_ptr + cols, gradient.to(out_ptr.dtype.element_ty), mask=cols < v)
