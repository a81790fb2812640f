"""Attention of one new token per sequence over a ragged cache of keys and values.

    decode_attention    q [B, H, E], keys and values [B, K, C, E], lengths [B] -> [B, H, E]

The H / K heads that share keys are taken together, so that a key is read once for all of them.
The keys of a sequence are split over programs ("flash-decoding"): each keeps the softmax of its
part and that part's log-sum-exp, and the parts are merged exactly. Shapes and launches do not
depend on the lengths, so that a CUDA graph can hold the call.

    B   sequences      C   slots of the cache      H, K   heads, key-value heads      E   head_dim

torch's varlen_attn does this too (seqused_k), but on CUDA and in half precision alone, and it
splits by the longest sequence of the batch, so that a sequence would depend on what runs beside it.
Here the parts lie at fixed slots.
Left out: a backward, caches in pages.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from kernels.checks import check_decode_attention

PART = 256  # keys of a program
MERGE_CONFIG = {"BLOCK_P": 8, "num_warps": 2}  # parts that are merged at a time


def decode_attention(q, keys, values, lengths, window=0):
    """F.scaled_dot_product_attention of each q over the first lengths[b] slots of its sequence.

    q [B, H, E], keys, values [B, K, C, E]: of one floating dtype; the slots of a head lie end to
    end. lengths [B] int64, in 1 .. C; not checked, as nothing is read back. window: how many of the
    last keys are seen, 0: all. -> [B, H, E] in the dtype of q.
    Triton on CUDA and under TRITON_INTERPRET=1, the eager twin elsewhere and for float64.
    Raises TypeError or ValueError that names the argument."""
    check_decode_attention(q, keys, values, lengths)
    interpreted = triton.knobs.runtime.interpret and q.dtype != torch.bfloat16
    if q.dtype == torch.float64 or not (q.is_cuda or interpreted):
        return decode_attention_eager(q, keys, values, lengths, window)
    with torch.cuda.device_of(q):  # Triton launches on the current device
        return _attend_by_parts(q, keys, values, lengths, window)


def decode_attention_eager(q, keys, values, lengths, window=0):
    """decode_attention in torch alone, on any device and also in float64."""
    distance = lengths[:, None] - 1 - torch.arange(keys.shape[2], device=q.device)  # [B, C]
    visible = distance >= 0
    if window:
        visible &= distance < window
    # The heads that share keys are taken for queries of one head: kernels for grouped heads are
    # slow with a mask, or repeat the keys.
    queries = q.unflatten(1, (keys.shape[1], -1))  # [B, K, H / K, E]
    mask = visible[:, None, None]
    y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return y.flatten(1, 2)


def _attend_by_parts(q, keys, values, lengths, window):
    B, H, E = q.shape
    K, C = keys.shape[1:3]
    parts = triton.cdiv(C, PART)
    y = torch.empty(B, H, parts, E, device=q.device, dtype=torch.float32)
    lse = torch.empty(B, H, parts, device=q.device, dtype=torch.float32)
    _attend_part[(B, K, parts)](
        q.contiguous(),
        keys,
        values,
        lengths,
        y,
        lse,
        E**-0.5,
        window or C,
        *keys.stride()[:2],
        *values.stride()[:2],
        K,
        GROUP=H // K,
        E=E,
        **_part_config(q.dtype, H // K, E),
    )
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    BLOCK_E = max(16, triton.next_power_of_2(E))
    _merge_parts[(B * H,)](y, lse, out, parts, E=E, BLOCK_E=BLOCK_E, **MERGE_CONFIG)
    return out


def _part_config(dtype, group, E):
    """Block sizes and launch options: `group` heads share keys of E numbers.

    tests/kernels/test_kernels_compile.py holds them free of register spills."""
    is_wide = dtype == torch.float32
    block = 64  # keys at a time
    if E > 128:
        block = 16 if is_wide else 32
    return {
        "BLOCK_H": max(16, triton.next_power_of_2(group)),  # the least that tensor cores take
        "BLOCK_E": max(16, triton.next_power_of_2(E)),
        "BLOCK": block,
        "PART": PART,
        "num_warps": 8 if is_wide else 4,
        "num_stages": 2,
    }


@triton.jit
def _attend_part(
    q_ptr,  # [B, H, E]
    keys_ptr,  # [B, K, C, E]
    values_ptr,  # [B, K, C, E]
    lengths_ptr,  # [B] int64
    y_ptr,  # out: [B, H, parts, E] float32: attention over the keys of a part, if one is seen
    lse_ptr,  # out: [B, H, parts] float32: log-sum-exp of their scores; -inf: no key is seen
    scale,  # of the scores
    window,  # keys seen at most
    key_stride,  # numbers from one sequence's keys to the next one's
    key_head_stride,  # from one head's keys to the next one's
    value_stride,
    value_head_stride,
    K,
    GROUP: tl.constexpr,  # H / K
    E: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK: tl.constexpr,
    PART: tl.constexpr,
):
    """One part of the keys of one sequence, for all heads that share one key-value head."""
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    length = tl.load(lengths_ptr + sequence).to(tl.int32)
    first = tl.maximum(part * PART, length - window)
    end = tl.minimum((part + 1) * PART, length)

    head = tl.arange(0, BLOCK_H)
    e = tl.arange(0, BLOCK_E)
    is_e = e < E
    is_head = head < GROUP
    row = sequence * K * GROUP + kv_head * GROUP + head  # of [B * H]
    is_q = is_head[:, None] & is_e[None, :]
    q = tl.load(q_ptr + row[:, None] * E + e[None, :], mask=is_q, other=0.0)
    keys_ptr += sequence * key_stride + kv_head * key_head_stride
    values_ptr += sequence * value_stride + kv_head * value_head_stride

    maximum = tl.full((BLOCK_H,), -3e38, tl.float32)
    sum_exp = tl.zeros((BLOCK_H,), tl.float32)
    y = tl.zeros((BLOCK_H, BLOCK_E), tl.float32)
    for start in range(part * PART, end, BLOCK):
        slot = start + tl.arange(0, BLOCK)
        visible = (slot >= first) & (slot < end)
        offset = slot[:, None] * E + e[None, :]
        is_kv = visible[:, None] & is_e[None, :]
        k = tl.load(keys_ptr + offset, mask=is_kv, other=0.0)
        v = tl.load(values_ptr + offset, mask=is_kv, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale  # [BLOCK_H, BLOCK]
        scores = tl.where(visible[None, :], scores, -3e38)
        new_maximum = tl.maximum(maximum, tl.max(scores, 1))
        shrink = tl.exp(maximum - new_maximum)  # what was summed is relative to the old maximum
        p = tl.where(visible[None, :], tl.exp(scores - new_maximum[:, None]), 0.0)
        sum_exp = sum_exp * shrink + tl.sum(p, 1)
        y = y * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
        maximum = new_maximum
    seen = sum_exp != 0  # NaN too, which must not get lost
    y = y / tl.where(seen, sum_exp, 1.0)[:, None]
    lse = tl.where(seen, maximum + tl.log(tl.where(seen, sum_exp, 1.0)), float("-inf"))
    parts = tl.num_programs(2)
    out = row * parts + part
    tl.store(lse_ptr + out, lse, mask=is_head)
    tl.store(y_ptr + out[:, None] * E + e[None, :], y, mask=is_q & seen[:, None])


@triton.jit
def _merge_parts(
    y_ptr,  # [B * H, parts, E] float32
    lse_ptr,  # [B * H, parts] float32
    out_ptr,  # out: [B * H, E]
    parts,
    E: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_P: tl.constexpr,  # parts at a time
):
    """The attention of one head: that of its parts, weighted by the exp of their log-sum-exp."""
    row = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, BLOCK_E)
    maximum = -3e38
    sum_exp = 0.0
    total = tl.zeros((BLOCK_E,), tl.float32)
    for start in range(0, parts, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        lse = tl.load(lse_ptr + row * parts + part, mask=part < parts, other=float("-inf"))
        is_y = (lse > float("-inf"))[:, None] & (e < E)[None, :]
        offset = (row * parts + part)[:, None] * E + e[None, :]
        y = tl.load(y_ptr + offset, mask=is_y, other=0.0)
        new_maximum = tl.maximum(maximum, tl.max(lse, 0))
        rescale = tl.exp(maximum - new_maximum)
        share = tl.exp(lse - new_maximum)  # [BLOCK_P]
        sum_exp = sum_exp * rescale + tl.sum(share, 0)
        total = total * rescale + tl.sum(share[:, None] * y, 0)
        maximum = new_maximum
    tl.store(out_ptr + row * E + e, (total / sum_exp).to(out_ptr.dtype.element_ty), mask=e < E)
