"""Eq. (9) for ragged groups at once: N response tokens in R responses in G groups, one launch forward and one backward.

Sums go in a fixed order: a response's tokens in blocks from the left, a group's responses one after the other (Welford's
mean and variance). The gradient is gepo_loss's closed form, one coefficient a response.
"""

import torch
import triton
import triton.language as tl

from gepo import gepo_loss

BLOCK = 1024  # tokens at a time


@triton.jit
def _forward_groups(
    logp,
    logp_ref,
    first_token,
    first_response,
    winner,
    rhat,
    stats,
    preference,
    variance,
    beta,
    G,
    BLOCK: tl.constexpr,
):
    """One program a group. first_token [R + 1] and first_response [G + 1]: where each begins. -> rhat [R], preference [G],
    variance [G], and stats [4, G] for backward: n, m, mean of the winners, beta * sigma(-beta * margin)."""
    g = tl.program_id(0)
    n, mean_w, squares, m, mean_l, shift = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    begin = tl.load(first_response + g)
    for r in range(begin, tl.load(first_response + g + 1)):
        start, end = tl.load(first_token + r), tl.load(first_token + r + 1)
        total = tl.zeros((BLOCK,), tl.float32)
        for at in range(start, end, BLOCK):
            token = at + tl.arange(0, BLOCK)
            total += tl.load(logp + token, mask=token < end, other=0.0)
        x = tl.sum(total, 0) - tl.load(logp_ref + r)  # Eq. 8
        shift = tl.where((r == begin) & (x > -1e30), x, shift)
        x -= shift  # only differences count, and small numbers round less
        tl.store(rhat + r, x)
        wins = tl.load(winner + r) != 0
        n += tl.where(wins, 1.0, 0.0)
        m += tl.where(wins, 0.0, 1.0)
        from_w, from_l = x - mean_w, x - mean_l
        mean_w += tl.where(wins, from_w / tl.maximum(n, 1.0), 0.0)
        mean_l += tl.where(wins, 0.0, from_l / tl.maximum(m, 1.0))
        squares += tl.where(wins, from_w * (x - mean_w), 0.0)
    z = beta * (mean_w - mean_l)
    e = tl.exp(-tl.abs(z))
    u = 1 + e  # log1p(e) = log(u) e / (u - 1): u's rounding cancels
    log1p = tl.where(u == 1, e, tl.log(u) * e / tl.where(u == 1, 1.0, u - 1))
    tl.store(preference + g, tl.maximum(-z, 0.0) + log1p)  # Eq. 9, first term: -log sigma(z)
    tl.store(variance + g, squares / n)  # Eq. 9, second term
    tl.store(stats + g, n)
    tl.store(stats + G + g, m)
    tl.store(stats + 2 * G + g, mean_w)
    tl.store(stats + 3 * G + g, beta * tl.where(z > 0, e, 1.0) / u)


@triton.jit
def _backward_tokens(
    d_preference,
    d_variance,
    response,
    group,
    winner,
    rhat,
    stats,
    d_logp,
    N,
    G,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    r = tl.load(response + token, mask=token < N, other=0)
    g = tl.load(group + r)
    n, m, mean, slope = (
        tl.load(stats + g),
        tl.load(stats + G + g),
        tl.load(stats + 2 * G + g),
        tl.load(stats + 3 * G + g),
    )
    d_p, d_v = tl.load(d_preference + g), tl.load(d_variance + g)
    c = tl.where(
        tl.load(winner + r) != 0,
        -d_p * slope / n + 2 * d_v * (tl.load(rhat + r) - mean) / n,
        d_p * slope / m,
    )
    tl.store(d_logp + token, c, mask=token < N)


class _GroupLoss(torch.autograd.Function):
    """Takes response and group in ascending order."""

    @staticmethod
    def forward(ctx, logp, logp_ref, response, group, winner, beta, groups):
        first_token = torch.searchsorted(response, torch.arange(len(group) + 1, device=logp.device))
        first_response = torch.searchsorted(group, torch.arange(groups + 1, device=logp.device))
        rhat, stats = torch.empty_like(logp_ref), logp_ref.new_empty(4, groups)
        preference, variance = logp_ref.new_empty(2, groups)
        winner = winner.to(torch.int8)
        _forward_groups[groups,](
            logp,
            logp_ref,
            first_token,
            first_response,
            winner,
            rhat,
            stats,
            preference,
            variance,
            beta,
            groups,
            BLOCK=BLOCK,
            num_warps=4,
            enable_fp_fusion=False,
        )  # Welford and log1p as written
        ctx.save_for_backward(response, group, winner, rhat, stats)
        return preference, variance

    @staticmethod
    def backward(ctx, d_preference, d_variance):
        if torch.is_grad_enabled():  # with create_graph=True; else they would silently be wrong
            raise RuntimeError("gepo_group_loss has no second derivatives")
        response, group, winner, rhat, stats = ctx.saved_tensors
        d_logp = rhat.new_empty(len(response))
        _backward_tokens[triton.cdiv(len(response), BLOCK),](
            d_preference.contiguous(),
            d_variance.contiguous(),
            response,
            group,
            winner,
            rhat,
            stats,
            d_logp,
            len(response),
            stats.shape[1],
            BLOCK=BLOCK,
            num_warps=4,
            enable_fp_fusion=False,
        )
        return d_logp, *[None] * 6


def check(logp, logp_ref, response, group, winner, beta):
    """Raises TypeError or ValueError that names the argument, or the group, and the mend. -> G."""
    sizes = {"logp": "[N]", "logp_ref": "[R]", "response": "[N]", "group": "[R]", "winner": "[R]"}
    given = dict(zip(sizes, (logp, logp_ref, response, group, winner)))
    for name, x in given.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} is a {type(x).__name__}; it must be a tensor")
    if not isinstance(beta, (int, float)) or not -float("inf") < beta < float("inf"):
        raise ValueError(f"beta is {beta!r}; it must be a finite number")
    for name, x in given.items():
        wanted = {"response": torch.int64, "group": torch.int64, "winner": torch.bool}.get(
            name, logp.dtype
        )
        if hasattr(x, "to_local"):
            raise TypeError(
                f"{name} is a DTensor, whose storage a kernel cannot read; call {name}.full_tensor()"
            )
        if x.dtype != wanted or logp.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name} is {x.dtype}; response and group must be int64, winner bool, logp and logp_ref float32"
            )
        if x.dim() != 1 or len(x) != len({"[N]": logp, "[R]": logp_ref}[sizes[name]]):
            raise ValueError(
                f"{name} is {list(x.shape)}; it must be {sizes[name]} for N = {logp.numel()} tokens in R = {logp_ref.numel()} responses"
            )
        if x.device != logp.device:
            raise ValueError(f"{name} is on {x.device} and logp on {logp.device}; move one of them")
        if not x.is_contiguous():
            raise ValueError(
                f"{name} is not contiguous (stride {x.stride(0)}); call {name}.contiguous()"
            )
    if not len(group):
        raise ValueError("group is empty; there must be a group with a winner and a loser")
    groups = int(group.max()) + 1
    for name, x, end in (("response", response, len(group)), ("group", group, groups)):
        if len(x) and not 0 <= int(x.min()) <= int(x.max()) < end:
            raise ValueError(
                f"{name} goes from {int(x.min())} to {int(x.max())}; it must be in 0 .. {end - 1}"
            )
    counts = [
        torch.bincount(group[which], minlength=groups).tolist() for which in (winner, ~winner)
    ]
    for g, (winners, losers) in enumerate(zip(*counts)):
        if not winners or not losers:
            raise ValueError(
                f"group {g} has {winners} winners and {losers} losers; it needs one of each"
            )
    return groups


def gepo_group_loss_eager(logp, logp_ref, response, group, winner, beta, lam):
    """gepo_group_loss in torch alone, on any device and also in float64."""
    groups = check(logp, logp_ref, response, group, winner, beta)
    rhat = (
        torch.zeros_like(logp_ref).index_add_(0, response, logp) - logp_ref
    )  # [R] Eq. 8: Eq. 7 less beta and Z
    terms = [
        torch.stack(gepo_loss(rhat[(group == g) & winner], rhat[(group == g) & ~winner], beta, lam))
        for g in range(groups)
    ]
    preference, variance = torch.stack(terms).unbind(1)
    return preference, variance


def gepo_group_loss(logp, logp_ref, response, group, winner, beta, lam):
    """Per-group (preference [G], variance [G]) of Eq. (9), differentiable in logp; the loss is preference + lam * variance.

    logp [N] float32: token log-probs of all responses; response [N] int64: the response of each token; logp_ref [R] float32:
    the responses' summed reference log-probs; group [R] int64: the group of each response, 0 .. G-1; winner [R] bool.
    Any order; tokens and responses of one owner are summed in the order they come in. Triton on CUDA and under
    TRITON_INTERPRET=1, else eager. Raises TypeError or ValueError that names the argument, or the group that has no
    winner or no loser."""
    groups = check(logp, logp_ref, response, group, winner, beta)
    logp_ref = logp_ref.detach()
    if logp.dtype == torch.float64 or not (logp.is_cuda or triton.knobs.runtime.interpret):
        return gepo_group_loss_eager(logp, logp_ref, response, group, winner, beta, lam)
    if (group.diff() < 0).any() or (
        response.diff() < 0
    ).any():  # into the order that the kernel walks
        order = group.argsort(stable=True)
        logp_ref, group, winner, response = (
            logp_ref[order],
            group[order],
            winner[order],
            order.argsort()[response],
        )
        order = response.argsort(stable=True)
        logp, response = logp[order], response[order]
    with torch.cuda.device_of(logp):  # Triton launches on the current device
        return _GroupLoss.apply(logp, logp_ref, response, group, winner, float(beta), groups)
