"""log-prob of given tokens from hidden states and the head's weight, without ever holding the [T, V] logits.

    z = hidden @ weight.T / temperature        lse = log sum_v exp z        logp = z[target] - lse

Forward goes over the vocabulary once and keeps an online log-sum-exp; backward recomputes z from the saved lse, one slice
of the vocabulary at a time. Three backends, one algorithm (kernels/README.md has the gradients and the floors):

    eager   torch, a slab of logits at a time: CPU, float64, and what the kernels are tested against
    fused   Triton: a tile of logits lives in registers, only its log-sum-exp leaves
    slab    cuBLAS for a slab of logits that stays in the L2 cache, Triton for what is done to its rows

T tokens, D hidden size, V vocabulary. Left out: bias, label smoothing, soft-capped logits, second derivatives.
"""

import torch
import triton
import triton.language as tl

SLAB = 2048, 4224  # tokens, columns: 33 MiB of float32 logits, an L2 cache
WORKSPACE = 256 * 2**20  # bytes that one slice of the vocabulary may take in backward
LAUNCH = dict(enable_fp_fusion=True)  # its default changes in Triton 3.10


# ---------------------------------------------------------------------------------------------- Triton: fused


@triton.jit
def _logits_tile(
    hidden,
    weight,
    T,
    V,
    D,
    scale,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EVEN_D: tl.constexpr,
):
    """This program's tile of z: rows [BLOCK_T], columns [BLOCK_V], z [BLOCK_T, BLOCK_V] float32."""
    n_t, n_v = tl.cdiv(T, BLOCK_T), tl.cdiv(V, BLOCK_V)
    wide = 8 * n_v  # 8 row blocks go along V together: weight is read from L2
    first = tl.program_id(0) // wide * 8
    high = min(n_t - first, 8)
    rows = (first + tl.program_id(0) % wide % high) * BLOCK_T + tl.arange(0, BLOCK_T)
    tile = tl.program_id(0) % wide // high
    cols = tile * BLOCK_V + tl.arange(0, BLOCK_V)
    d = tl.arange(0, BLOCK_D)
    # past the end the addresses wrap around: valid memory, and the caller masks the result. int64: T * D may pass 2^31
    h = hidden + (rows % T).to(tl.int64)[:, None] * D + d[None, :]
    w = weight + (cols % V).to(tl.int64)[None, :] * D + d[:, None]
    z = tl.zeros((BLOCK_T, BLOCK_V), tl.float32)
    for at in range(0, D, BLOCK_D):
        if EVEN_D:
            a, b = tl.load(h), tl.load(w)
        else:
            a = tl.load(h, mask=d[None, :] < D - at, other=0.0)
            b = tl.load(w, mask=d[:, None] < D - at, other=0.0)
        z = tl.dot(a, b, z, input_precision="ieee")
        h += BLOCK_D
        w += BLOCK_D
    return rows, cols, tile, z * scale


@triton.jit
def _forward_tile(
    hidden,
    weight,
    targets,
    tile_lse,
    tile_mean,
    logit,
    T,
    V,
    D,
    scale,
    ENTROPY: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EVEN_D: tl.constexpr,
):
    """tile_lse [tiles, T]: log-sum-exp over each tile's columns; tile_mean: mean of z under the tile's softmax; logit [T]."""
    rows, cols, tile, z = _logits_tile(
        hidden, weight, T, V, D, scale, BLOCK_T, BLOCK_V, BLOCK_D, EVEN_D
    )
    here, out = rows < T, tile.to(tl.int64) * T + rows
    z = tl.where(
        (cols < V)[None, :], z, -3e38
    )  # V is rarely a multiple of BLOCK_V; -inf * 0 would be NaN below
    target = tl.load(targets + rows, mask=here, other=-1)
    picked = tl.sum(tl.where(cols[None, :] == target[:, None], z, 0.0), 1)
    tl.store(
        logit + rows, picked, mask=here & (target // BLOCK_V == tile)
    )  # one tile has it: one writer
    top = tl.max(z, 1)
    z = z - top[:, None]
    e = tl.exp(z)
    total = tl.sum(e, 1)  # >= 1, so that a log-prob is <= 0
    tl.store(tile_lse + out, top + tl.log(total), mask=here)
    if ENTROPY:
        tl.store(tile_mean + out, top + tl.sum(e * z, 1) / total, mask=here)


@triton.jit
def _dlogits_tile(
    hidden,
    weight,
    targets,
    lse,
    grad,
    out,
    T,
    V,
    D,
    scale,
    first,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EVEN_D: tl.constexpr,
):
    """out [T, V]: gradient in the logits of the slice of V columns that begins at column `first` of the vocabulary."""
    rows, cols, _, z = _logits_tile(
        hidden, weight, T, V, D, scale, BLOCK_T, BLOCK_V, BLOCK_D, EVEN_D
    )
    here = rows < T
    p = tl.exp(z - tl.load(lse + rows, mask=here, other=0.0)[:, None])
    hit = (cols + first)[None, :] == tl.load(targets + rows, mask=here, other=-1)[:, None]
    g = (tl.where(hit, 1.0, 0.0) - p) * (tl.load(grad + rows, mask=here, other=0.0) * scale)[
        :, None
    ]
    tl.store(
        out + rows.to(tl.int64)[:, None] * V + cols[None, :],
        g.to(out.dtype.element_ty),
        mask=here[:, None] & (cols < V)[None, :],
    )


def _tile_config(dtype, major):
    """Tile and launch options for a compute capability; tests/test_kernels_compile.py holds them free of spills."""
    if dtype == torch.float32:
        t, v, d, warps, stages = 64, 64, 32, 4, 3
    elif major == 9:  # Hopper: 192 KiB of its 228; with 8 warps the epilogue spills
        t, v, d, warps, stages = 128, 256, 64, 16, 4
    else:
        t, v, d, warps, stages = 128, 128, 64, 8, 3
    return dict(BLOCK_T=t, BLOCK_V=v, BLOCK_D=d, num_warps=warps, num_stages=stages, **LAUNCH)


def _launch_tiles(kernel, hidden, weight, *args, **more):
    (T, D), V, c = hidden.shape, len(weight), _tile_config(hidden.dtype, _major(hidden))
    grid = triton.cdiv(T, c["BLOCK_T"]) * triton.cdiv(V, c["BLOCK_V"])
    kernel[grid,](hidden, weight, *args, EVEN_D=D % c["BLOCK_D"] == 0, **more, **c)


def _forward_fused(hidden, weight, targets, temperature, entropy):
    (T, D), V = hidden.shape, len(weight)
    tiles = triton.cdiv(V, _tile_config(hidden.dtype, _major(hidden))["BLOCK_V"])
    tile_lse = torch.empty(tiles, T, device=hidden.device, dtype=torch.float32)
    tile_mean = torch.empty_like(tile_lse) if entropy else tile_lse
    logit = torch.empty(T, device=hidden.device, dtype=torch.float32)
    _launch_tiles(
        _forward_tile,
        hidden,
        weight,
        targets,
        tile_lse,
        tile_mean,
        logit,
        T,
        V,
        D,
        1 / temperature,
        ENTROPY=entropy,
    )
    lse = tile_lse.logsumexp(0)
    return (
        logit - lse,
        lse,
        ((tile_lse - lse).exp() * (lse - tile_mean)).sum(0) if entropy else None,
    )


def _dlogits_fused(hidden, weight, first, targets, lse, grad, temperature):
    (T, D), V = hidden.shape, len(weight)
    out = torch.empty(T, V, device=hidden.device, dtype=hidden.dtype)
    _launch_tiles(
        _dlogits_tile, hidden, weight, targets, lse, grad, out, T, V, D, 1 / temperature, first
    )
    return out


# ---------------------------------------------------------------------------------------------- Triton: rows of a slab


@triton.jit
def _forward_rows(
    z, targets, state, T, n, first, scale, ENTROPY: tl.constexpr, BLOCK: tl.constexpr
):
    """One row of a slab z [rows, n], columns first .. first + n - 1, into state [4, T]: see _online_eager."""
    row = tl.program_id(0)
    at = state + row
    top, total, weighted = tl.load(at), tl.load(at + T), tl.load(at + 2 * T)
    for start in range(0, n, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        x = tl.load(z + row.to(tl.int64) * n + cols, mask=cols < n, other=-float("inf")) * scale
        new = tl.maximum(top, tl.max(x, 0))
        e, shrink = tl.exp(x - new), tl.exp(top - new)
        total = total * shrink + tl.sum(e, 0)
        if ENTROPY:
            weighted = weighted * shrink + tl.sum(tl.where(cols < n, e * x, 0.0), 0)
        top = new
    tl.store(at, top)
    tl.store(at + T, total)
    tl.store(at + 2 * T, weighted)
    target = tl.load(targets + row) - first
    if (target >= 0) & (target < n):
        tl.store(at + 3 * T, tl.load(z + row.to(tl.int64) * n + target) * scale)


@triton.jit
def _dlogits_rows(z, targets, lse, grad, out, n, first, stride, scale, BLOCK: tl.constexpr):
    """Gradient in the logits of one slab z [rows, n] into out [rows, stride]."""
    row = tl.program_id(0)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(z + row.to(tl.int64) * n + cols, mask=cols < n, other=0.0) * scale
    hit = cols + first == tl.load(targets + row)
    g = (tl.where(hit, 1.0, 0.0) - tl.exp(x - tl.load(lse + row))) * (tl.load(grad + row) * scale)
    tl.store(out + row.to(tl.int64) * stride + cols, g.to(out.dtype.element_ty), mask=cols < n)


def _online_slab(z, first, targets, state, scale, entropy):
    _forward_rows[len(z),](
        z,
        targets,
        state,
        state.stride(0),
        z.shape[1],
        first,
        scale,
        ENTROPY=entropy,
        BLOCK=1024,
        num_warps=4,
        enable_fp_fusion=False,
    )  # fused, exp(x - new) at the maximum is not 1


def _forward_slab(hidden, weight, targets, temperature, entropy):
    return _forward_online(hidden, weight, targets, temperature, entropy, _online_slab)


def _dlogits_slab(hidden, weight, first, targets, lse, grad, temperature):
    out = torch.empty(len(hidden), len(weight), device=hidden.device, dtype=hidden.dtype)
    for rows, cols in _slabs(len(hidden), len(weight)):
        z, part = matmul32(hidden[rows], weight[cols].T), out[rows, cols]
        _dlogits_rows[len(z), triton.cdiv(z.shape[1], 1024)](
            z,
            targets[rows],
            lse[rows],
            grad[rows],
            part,
            z.shape[1],
            first + cols.start,
            out.stride(0),
            1 / temperature,
            BLOCK=1024,
            num_warps=4,
            **LAUNCH,
        )
    return out


# ---------------------------------------------------------------------------------------------- torch: the eager twin


def matmul32(a, b):
    """a @ b, accumulated and returned in float32 (float64 for float64) whatever the inputs: bf16 logits would cost 1.45
    nats a sequence."""
    needs_graph = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    if (
        a.is_cuda and a.dtype in (torch.float16, torch.bfloat16) and not needs_graph
    ):  # else: a float32 copy of b
        return torch.mm(a, b, out_dtype=torch.float32)
    accurate = torch.promote_types(a.dtype, torch.float32)
    with torch.autocast(a.device.type, enabled=False):
        return a.to(accurate) @ b.to(accurate)


def _slabs(T, V):
    """(token slice, vocabulary slice) of every slab."""
    return [
        (slice(t, min(t + SLAB[0], T)), slice(v, min(v + SLAB[1], V)))
        for t in range(0, T, SLAB[0])
        for v in range(0, V, SLAB[1])
    ]


def _column(targets, first, n):
    """The targets' columns within a slice, and whether they lie in it at all."""
    column = (targets - first)[:, None]
    return column.clamp(0, n - 1), (column >= 0) & (column < n)


def _online_eager(z, first, targets, state, scale, entropy):
    """Takes a slab of logits, columns first .. first + n - 1, into state [4, t]: maximum, sum of exp(z - maximum), sum of
    exp(z - maximum) * z, target's logit."""
    top, total, weighted, logit = state
    z = z.mul_(scale)
    column, hit = _column(targets, first, z.shape[1])
    logit.copy_(torch.where(hit, z.gather(1, column), logit[:, None])[:, 0])
    new = torch.maximum(top, z.amax(1))
    shrink = (top - new).exp()
    e = (z - new[:, None]).exp_() if entropy else z.sub_(new[:, None]).exp_()
    total.mul_(shrink).add_(e.sum(1))
    if entropy:
        weighted.mul_(shrink).add_(torch.linalg.vecdot(e, z))
    top.copy_(new)


def _forward_online(hidden, weight, targets, temperature, entropy, online):
    state = torch.zeros(
        4, len(hidden), device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32)
    )
    state[0] = -torch.inf
    for rows, cols in _slabs(len(hidden), len(weight)):
        online(
            matmul32(hidden[rows], weight[cols].T),
            cols.start,
            targets[rows],
            state[:, rows],
            1 / temperature,
            entropy,
        )
    top, total, weighted, logit = state
    lse = top + total.log()
    return logit - lse, lse, lse - weighted / total if entropy else None


def _forward_eager(hidden, weight, targets, temperature, entropy):
    return _forward_online(hidden, weight, targets, temperature, entropy, _online_eager)


def _dlogits_eager(hidden, weight, first, targets, lse, grad, temperature):
    z, grad = matmul32(hidden, weight.T).div_(temperature), (grad / temperature)[:, None]
    g = z.sub_(lse[:, None]).exp_().mul_(-grad)
    column, hit = _column(targets, first, len(weight))
    return g.scatter_add_(1, column, torch.where(hit, grad, 0.0))


# ---------------------------------------------------------------------------------------------- the function

FORWARD = {"eager": _forward_eager, "fused": _forward_fused, "slab": _forward_slab}
DLOGITS = {"eager": _dlogits_eager, "fused": _dlogits_fused, "slab": _dlogits_slab}


class _LinearLogprob(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, entropy, backend):
        logp, lse, entropies = FORWARD[backend](hidden, weight, targets, temperature, entropy)
        ctx.save_for_backward(hidden, weight, targets, lse)
        ctx.temperature, ctx.backend = temperature, backend
        if entropy:
            ctx.mark_non_differentiable(entropies)
        return logp, entropies

    @staticmethod
    def backward(ctx, grad, _):
        if torch.is_grad_enabled():  # with create_graph=True; else they would silently be wrong
            raise RuntimeError("linear_logprob has no second derivatives")
        hidden, weight, targets, lse = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        (T, D), V, grad = hidden.shape, len(weight), grad.contiguous()
        d_hidden = torch.zeros_like(hidden, dtype=lse.dtype) if need_hidden else None
        d_weight = torch.empty_like(weight) if need_weight else None
        # float16 begins at 6e-8, which p * grad passes where grad is 1 / tokens: in units of its largest, then
        unit = grad.abs().amax().clamp(min=1e-30) if hidden.dtype == torch.float16 else 1.0
        grad = grad / unit
        columns = max(128, WORKSPACE // ((T + D) * lse.element_size()) // 128 * 128)
        for v in range(0, V, columns):  # not over tokens: d_weight would be rounded once a chunk
            w = weight[v : v + columns]
            g = DLOGITS[ctx.backend](
                hidden, w, v, targets, lse, grad, ctx.temperature
            )  # [T, columns]
            if need_hidden:
                d_hidden += matmul32(g, w).mul_(unit)
            if need_weight:
                d_weight[v : v + columns] = matmul32(g.T, hidden).mul_(unit)
            del g  # or the next slice would be beside it
        return d_hidden.to(hidden.dtype) if need_hidden else None, d_weight, None, None, None, None


def _major(hidden):
    return torch.cuda.get_device_capability(hidden.device)[0] if hidden.is_cuda else 9


def choose_backend(hidden):
    """eager on the CPU (fused under TRITON_INTERPRET=1) and for float64; on CUDA what is faster there (kernels/README.md)."""
    if hidden.dtype == torch.float64 or not (
        hidden.is_cuda or triton.knobs.runtime.interpret and hidden.dtype != torch.bfloat16
    ):
        return "eager"  # the interpreter multiplies the bit patterns of bfloat16
    if hidden.is_cuda and (hidden.dtype == torch.float32 or _major(hidden) not in (8, 9)):
        return "slab"  # float32 needs cuBLAS; Blackwell's tile is not measured
    return "fused"


def check(hidden, weight, targets, temperature):
    """Raises TypeError or ValueError that names the argument and the mend."""
    for name, x in (("hidden", hidden), ("weight", weight), ("targets", targets)):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} is a {type(x).__name__}; it must be a tensor")
        if hasattr(x, "to_local"):
            raise TypeError(
                f"{name} is a DTensor, whose storage a kernel cannot read; call this in the forward of the module "
                "that owns the weight, where FSDP has gathered it"
            )
        if x.dim() != (1 if name == "targets" else 2):
            raise ValueError(
                f"{name} is {list(x.shape)}; it must be "
                + {"hidden": "[T, D]", "weight": "[V, D]", "targets": "[T]"}[name]
            )
        if x.device != hidden.device:
            raise ValueError(
                f"{name} is on {x.device} and hidden on {hidden.device}; move one of them"
            )
        if not x.is_contiguous():
            raise ValueError(
                f"{name} is not contiguous (strides {list(x.stride())}); call {name}.contiguous()"
            )
    if hidden.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(
            f"hidden is {hidden.dtype}; it must be float32, bfloat16 or float16 (float64 for the eager twin)"
        )
    if weight.dtype != hidden.dtype:
        raise TypeError(
            f"weight is {weight.dtype} and hidden {hidden.dtype}; they must be of one dtype"
        )
    if targets.dtype != torch.int64:
        raise TypeError(f"targets is {targets.dtype}; it must be int64")
    if weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight is {list(weight.shape)} and hidden {list(hidden.shape)}; their last sizes must be equal"
        )
    if len(targets) != len(hidden):
        raise ValueError(
            f"targets is {list(targets.shape)} and hidden {list(hidden.shape)}; their first sizes must be equal"
        )
    if not (isinstance(temperature, (int, float)) and 1e-6 <= temperature < float("inf")):
        raise ValueError(f"temperature is {temperature!r}; it must be a number above 0")
    if len(targets):
        low, high = torch.stack(targets.aminmax()).tolist()
        if low < 0 or high >= len(weight):
            raise ValueError(
                f"targets has {low if low < 0 else high}; it must be in 0 .. {len(weight) - 1}, the rows of weight"
            )


def _run(hidden, weight, targets, temperature, entropy, backend):
    check(hidden, weight, targets, temperature)
    backend = backend or choose_backend(hidden)
    if backend not in FORWARD or backend != "eager" and hidden.dtype == torch.float64:
        raise ValueError(
            f"backend {backend!r} is unknown for {hidden.dtype}; known are eager and, but for float64, fused and slab"
        )
    with torch.cuda.device_of(hidden):  # Triton launches on the current device
        logp, entropies = _LinearLogprob.apply(
            hidden,
            weight,
            targets,
            float(temperature),
            entropy,
            backend if len(targets) else "eager",
        )
    return (logp, entropies) if entropy else logp


def linear_logprob(hidden, weight, targets, temperature=1.0, entropy=False, backend=None):
    """log_softmax(hidden @ weight.T / temperature)[targets] without the [T, V] logits: [T] float32, never above 0.

    hidden [T, D] and weight [V, D]: float32, bfloat16 or float16, of one dtype (float64: eager, and float64 out), both
    contiguous; targets [T] int64. Differentiable in hidden and weight for any upstream gradient; a frozen one costs nothing.
    entropy=True: also the entropy of each row's distribution, [T], without gradient. backend: "eager", "fused" or "slab"
    in place of choose_backend's. Raises TypeError or ValueError that names the argument; reading the range of targets
    waits for the GPU."""
    return _run(hidden, weight, targets, temperature, entropy, backend)


def linear_logprob_eager(hidden, weight, targets, temperature=1.0, entropy=False):
    """linear_logprob in torch alone, on any device, by the same slices: at most SLAB, and in backward WORKSPACE, at a time."""
    return _run(hidden, weight, targets, temperature, entropy, "eager")
