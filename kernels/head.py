"""Log-probs of given tokens from hidden states and the head's weight, without the [T, V] logits.

    z = hidden @ weight.T / temperature      lse = log sum_v exp z      logp = z[target] - lse

Forward goes over the vocabulary once and keeps an online log-sum-exp. Backward recomputes z from
the saved lse, one slice of the vocabulary at a time. Three backends do the same arithmetic:

    fused   Triton: a tile of logits lives in registers, only its log-sum-exp leaves the chip
    slab    cuBLAS for a slab of logits that stays in the L2 cache, Triton for its rows
    eager   torch alone, slab by slab: CPU, float64, and what the kernels are tested against

docs/kernels.md derives the gradients and the lower bounds on time.

    T   tokens        D   hidden size        V   vocabulary

Left out: bias, label smoothing, soft-capped logits, second derivatives.
"""

import torch
import triton

from kernels import head_eager, head_fused, head_slab
from kernels.checks import check_head
from kernels.head_eager import matmul32
from kernels.head_fused import compute_capability_major

BACKENDS = {"eager": head_eager, "fused": head_fused, "slab": head_slab}
SLAB_IS_FASTER_FROM = 2048  # hidden size; measured on Hopper, in bfloat16
WORKSPACE = 256 * 2**20  # bytes that one slice of the vocabulary may take in backward


def linear_logprob(hidden, weight, targets, temperature=1.0, entropy=False, backend=None):
    """log_softmax(hidden @ weight.T / temperature)[targets], without the [T, V] logits.

    hidden [T, D], weight [V, D]: float32, bfloat16 or float16, both of one dtype and contiguous
    (float64 runs the eager twin and gives float64); targets [T] int64. -> [T] float32, never above
    0. Differentiable in hidden and weight for any upstream gradient; what is frozen costs nothing.

    entropy=True: -> (log-probs, entropy of each row's distribution [T], without gradient).
    backend: "eager", "fused" or "slab" in place of what choose_backend takes.
    Raises TypeError or ValueError that names the argument. Checking the range of targets waits for
    the GPU."""
    check_head(hidden, weight, targets, temperature)
    if backend is None:
        backend = choose_backend(hidden)
    known = ["eager"] if hidden.dtype == torch.float64 else BACKENDS
    if backend not in known:
        raise ValueError(
            f"backend {backend!r} is unknown for {hidden.dtype}; known are eager and, but for "
            "float64, fused and slab"
        )
    if not len(targets):
        backend = "eager"  # a grid of no programs cannot be launched
    with torch.cuda.device_of(hidden):  # Triton launches on the current device
        logp, entropies = _LinearLogprob.apply(
            hidden, weight, targets, float(temperature), entropy, backend
        )
    if entropy:
        return logp, entropies
    return logp


def linear_logprob_eager(hidden, weight, targets, temperature=1.0, entropy=False):
    """linear_logprob in torch alone, on any device, with the same bounds on memory.

    At a time it holds one slab of logits (head_eager.py), and in backward WORKSPACE bytes."""
    return linear_logprob(hidden, weight, targets, temperature, entropy, backend="eager")


def choose_backend(hidden):
    """The backend for hidden's device and dtype; why: docs/kernels.md."""
    if hidden.dtype == torch.float64:
        return "eager"
    if not hidden.is_cuda:
        if triton.knobs.runtime.interpret and hidden.dtype != torch.bfloat16:
            return "fused"
        return "eager"  # bfloat16 too: the interpreter multiplies its bit patterns
    if hidden.dtype == torch.float32:
        return "slab"  # Triton multiplies float32 without tensor cores; not measured
    capability = compute_capability_major(hidden)
    if capability == 8 or (capability == 9 and hidden.shape[1] < SLAB_IS_FASTER_FROM):
        return "fused"  # 8: not measured
    return "slab"  # 10, Blackwell: not measured


class _LinearLogprob(torch.autograd.Function):
    """(hidden, weight, targets, temperature, entropy, backend) -> (logp [T], entropies or None)."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, entropy, backend):
        logp, lse, entropies = BACKENDS[backend].forward(
            hidden, weight, targets, temperature, entropy
        )
        ctx.save_for_backward(hidden, weight, targets, lse)
        ctx.temperature = temperature
        ctx.backend = backend
        if entropy:
            ctx.mark_non_differentiable(entropies)
        return logp, entropies

    @staticmethod
    def backward(ctx, grad, _grad_entropies):
        if torch.is_grad_enabled():  # with create_graph=True: they would be wrong without a word
            raise RuntimeError("linear_logprob has no second derivatives")
        hidden, weight, targets, lse = ctx.saved_tensors
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        # summed over slices in float32 (float64), rounded once at the end
        d_hidden = torch.zeros_like(hidden, dtype=lse.dtype) if need_hidden else None
        d_weight = torch.empty_like(weight) if need_weight else None
        grad = grad.contiguous()
        unit = _unit_of_gradient(grad, hidden.dtype)
        grad = grad / unit
        columns = _columns_per_slice(hidden, lse)
        # the vocabulary is cut, not the tokens: d_weight would be rounded once for every chunk
        for column in range(0, len(weight), columns):
            weight_slice = weight[column : column + columns]
            d_logits = BACKENDS[ctx.backend].dlogits(
                hidden, weight_slice, column, targets, lse, grad, ctx.temperature
            )  # [T, columns]
            if need_hidden:
                d_hidden += matmul32(d_logits, weight_slice).mul_(unit)
            if need_weight:
                d_weight[column : column + columns] = matmul32(d_logits.T, hidden).mul_(unit)
            del d_logits  # otherwise it would be held beside the next slice's
        if need_hidden:
            d_hidden = d_hidden.to(hidden.dtype)
        return d_hidden, d_weight, None, None, None, None


def _unit_of_gradient(grad, dtype):
    """What backward divides the upstream gradient by and multiplies its products by.

    In float16 p * grad underflows, so divide by max|grad|: the smallest float16 is 6e-8, and where
    the loss is a mean over tokens, grad is about 1 / tokens and p * grad is below 6e-8. The other
    dtypes have the range, so that their unit is 1."""
    if dtype == torch.float16:
        return grad.abs().amax().clamp(min=1e-30)
    return 1.0


def _columns_per_slice(hidden, lse):
    """How many columns of the vocabulary fit WORKSPACE: a multiple of 128, at least 128.

    A column takes T numbers in the gradient of the logits and D in the slice of d_weight, both
    counted in the dtype of lse."""
    bytes_per_column = (len(hidden) + hidden.shape[1]) * lse.element_size()
    return max(128, WORKSPACE // bytes_per_column // 128 * 128)
