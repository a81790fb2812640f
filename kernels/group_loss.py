"""Eq. (9) for many ragged groups at once: one launch forward, one launch backward.

    token log-probs [N], summed reference log-probs [R]  ->  preference [G], variance [G]

    G   groups            n, m   winners and losers of one group
    N   tokens of all responses, as in groups.py
    R   responses of all groups: their number (R_i in groups.py is the tokens of response i)

gepo.py has the equations, one group at a time; gepo_group_loss_eager calls it group by group. The
Triton kernels do all groups together and give the same bits on every call: tokens of a response are
summed in blocks from the left, and responses of a group are taken one after the other. Backward is
the closed form in gepo.gepo_loss: one coefficient per response, which each of its tokens gets.
docs/kernels.md derives it. Left out: second derivatives, a gradient in logp_ref.
"""

import torch
import triton
import triton.language as tl

import gepo
from kernels.checks import check_group_loss

BLOCK = 1024  # tokens that a program holds at a time


def gepo_group_loss(logp, logp_ref, response, group, winner, beta, lam):
    """Per-group (preference [G], variance [G]) of Eq. (9); the loss is preference + lam * variance.

    lam is part of the contract but is not used here: the two terms are returned apart, and the
    caller adds lam * variance.

    logp [N] float32: log-probs of all response tokens; differentiable in it alone.
    logp_ref [R] float32: log-probs of the responses under the reference, summed over tokens.
    response [N] int64: the response of each token, 0 .. R - 1.
    group [R] int64: the group of each response, 0 .. G - 1.
    winner [R] bool: whether the response is a winner of its group.
    Tokens and responses may come in any order; those of one owner are summed in the order in which
    they come. Triton on CUDA and under TRITON_INTERPRET=1, the eager twin elsewhere and for
    float64. Raises TypeError or ValueError that names the argument, or the group that has no
    winner or no loser."""
    number_of_groups = check_group_loss(logp, logp_ref, response, group, winner, beta)
    logp_ref = logp_ref.detach()
    runs_triton = logp.is_cuda or triton.knobs.runtime.interpret
    if logp.dtype == torch.float64 or not runs_triton:
        return gepo_group_loss_eager(logp, logp_ref, response, group, winner, beta, lam)
    if (group.diff() < 0).any() or (response.diff() < 0).any():
        logp, logp_ref, response, group, winner = _in_ascending_order(
            logp, logp_ref, response, group, winner
        )
    with torch.cuda.device_of(logp):  # Triton launches on the current device
        return _GroupLoss.apply(
            logp, logp_ref, response, group, winner, float(beta), number_of_groups
        )


def gepo_group_loss_eager(logp, logp_ref, response, group, winner, beta, lam):
    """gepo_group_loss in torch alone, on any device and also in float64.

    lam is not used here either, for the same reason: the caller adds lam * variance."""
    number_of_groups = check_group_loss(logp, logp_ref, response, group, winner, beta)
    sum_logp = torch.zeros_like(logp_ref).index_add_(0, response, logp)  # [R]
    rhat = gepo.rhat(sum_logp, logp_ref)  # [R] Eq. 8, which is Eq. 7 without beta and log Z
    terms = []
    for g in range(number_of_groups):
        in_group = group == g
        winners = rhat[in_group & winner]
        losers = rhat[in_group & ~winner]
        terms.append(gepo.gepo_loss(winners, losers, beta, lam))  # Eq. 9
    preferences, variances = zip(*terms)
    return torch.stack(preferences), torch.stack(variances)


def _in_ascending_order(logp, logp_ref, response, group, winner):
    """The same arguments, sorted by group and then by response, as the kernels walk them.

    Both sorts are stable: what belongs to one owner stays in its order."""
    by_group = group.argsort(stable=True)  # [R] old numbers of the responses in their new order
    new_number = by_group.argsort()  # [R] new number of each old response
    response = new_number[response]
    by_response = response.argsort(stable=True)
    return (
        logp[by_response],
        logp_ref[by_group],
        response[by_response],
        group[by_group],
        winner[by_group],
    )


class _GroupLoss(torch.autograd.Function):
    """gepo_group_loss by the kernels, for response and group in ascending order."""

    @staticmethod
    def forward(ctx, logp, logp_ref, response, group, winner, beta, number_of_groups):
        device = logp.device
        first_token = torch.searchsorted(response, torch.arange(len(group) + 1, device=device))
        first_response = torch.searchsorted(
            group, torch.arange(number_of_groups + 1, device=device)
        )
        winner = winner.to(torch.int8)
        rhat = torch.empty_like(logp_ref)
        stats = logp_ref.new_empty(4, number_of_groups)
        preference, variance = logp_ref.new_empty(2, number_of_groups)
        _forward_groups[number_of_groups,](
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
            number_of_groups,
            BLOCK=BLOCK,
            num_warps=4,
            enable_fp_fusion=False,  # the rounding of _welford and _log1p must be as written
        )
        ctx.save_for_backward(response, group, winner, rhat, stats)
        return preference, variance

    @staticmethod
    def backward(ctx, d_preference, d_variance):
        if torch.is_grad_enabled():  # with create_graph=True; they would silently be wrong
            raise RuntimeError("gepo_group_loss has no second derivatives")
        response, group, winner, rhat, stats = ctx.saved_tensors
        N = len(response)
        number_of_groups = stats.shape[1]
        d_logp = rhat.new_empty(N)
        _backward_tokens[triton.cdiv(N, BLOCK),](
            d_preference.contiguous(),
            d_variance.contiguous(),
            response,
            group,
            winner,
            rhat,
            stats,
            d_logp,
            N,
            number_of_groups,
            BLOCK=BLOCK,
            num_warps=4,
            enable_fp_fusion=False,
        )
        return d_logp, None, None, None, None, None, None


@triton.jit
def _forward_groups(
    logp_ptr,  # [N] float32, e.g. 16384 tokens
    logp_ref_ptr,  # [R] float32, e.g. 32 responses
    first_token_ptr,  # [R + 1] int64: where the tokens of each response begin
    first_response_ptr,  # [G + 1] int64: where the responses of each group begin
    winner_ptr,  # [R] int8
    rhat_ptr,  # out: [R] float32, for backward: shifted, see below
    stats_ptr,  # out: [4, G] float32, for backward: n, m, mean of the winners, slope (see _slope)
    preference_ptr,  # out: [G] float32, e.g. 8 groups
    variance_ptr,  # out: [G] float32
    beta,
    G,
    BLOCK: tl.constexpr,
):
    """Forward for one group. One program per group."""
    g = tl.program_id(0)
    n, mean_w, squares = 0.0, 0.0, 0.0  # winners: number, mean of rhat, sum of squared deviations
    m, mean_l = 0.0, 0.0  # losers: number, mean of rhat
    shift = 0.0
    first = tl.load(first_response_ptr + g)
    for r in range(first, tl.load(first_response_ptr + g + 1)):
        sum_logp = _sum_of_tokens(logp_ptr, first_token_ptr, r, BLOCK)
        rhat = sum_logp - tl.load(logp_ref_ptr + r)  # Eq. 8
        # Only differences of rhat count below, and small numbers have smaller rounding errors:
        # every rhat is taken relative to the first one of its group. If that one is -inf the shift
        # stays 0, because -inf - -inf would be NaN.
        shift = tl.where((r == first) & (rhat > -1e30), rhat, shift)
        rhat -= shift
        tl.store(rhat_ptr + r, rhat)

        winner = tl.load(winner_ptr + r)
        n, mean_w, squares = _welford(rhat, winner != 0, n, mean_w, squares)
        m, mean_l, _ = _welford(rhat, winner == 0, m, mean_l, 0.0)

    z = beta * (mean_w - mean_l)
    tl.store(preference_ptr + g, -_logsigmoid(z))  # Eq. 9, first term
    tl.store(variance_ptr + g, squares / n)  # Eq. 9, second term
    tl.store(stats_ptr + g, n)
    tl.store(stats_ptr + G + g, m)
    tl.store(stats_ptr + 2 * G + g, mean_w)
    tl.store(stats_ptr + 3 * G + g, _slope(z, beta))


@triton.jit
def _sum_of_tokens(logp_ptr, first_token_ptr, r, BLOCK):
    """Sum of the token log-probs of response r: blocks are added up from the left, then summed."""
    start = tl.load(first_token_ptr + r)
    end = tl.load(first_token_ptr + r + 1)
    block_sum = tl.zeros((BLOCK,), tl.float32)
    for block_start in range(start, end, BLOCK):
        token = block_start + tl.arange(0, BLOCK)
        block_sum += tl.load(logp_ptr + token, mask=token < end, other=0.0)
    return tl.sum(block_sum, 0)


@triton.jit
def _welford(x, is_member, count, mean, squares):
    """Welford's update: takes the number x into a running mean and variance, if is_member.

    squares is the sum of squared deviations from the mean. -> count, mean, squares, updated.
    The textbook variance, mean of the squares minus square of the mean, would subtract numbers in
    the hundreds from each other; Welford sums squared deviations instead."""
    count += tl.where(is_member, 1.0, 0.0)
    deviation = x - mean  # from the old mean; below, x - mean is the one from the new mean
    mean += tl.where(is_member, deviation / tl.maximum(count, 1.0), 0.0)
    squares += tl.where(is_member, deviation * (x - mean), 0.0)
    return count, mean, squares


@triton.jit
def _logsigmoid(z):
    """log sigma(z); exp is taken of negative numbers only, so that no z overflows."""
    return -(tl.maximum(-z, 0.0) + _log1p(tl.exp(-tl.abs(z))))


@triton.jit
def _log1p(x):
    """log(1 + x) for x in 0 .. 1, also where 1 + x loses digits of x (Triton has no log1p).

    u = 1 + x is rounded, but log(u) / (u - 1) hardly depends on by how much: the rounding
    cancels in log(u) * x / (u - 1)."""
    u = 1 + x
    return tl.where(u == 1, x, tl.log(u) * x / tl.where(u == 1, 1.0, u - 1))


@triton.jit
def _slope(z, beta):
    """beta * sigma(-z), for z = beta * margin: what the preference falls by per unit of margin."""
    e = tl.exp(-tl.abs(z))  # of a negative number, as in _logsigmoid
    return beta * tl.where(z > 0, e, 1.0) / (1 + e)


@triton.jit
def _backward_tokens(
    d_preference_ptr,  # [G] float32, the upstream gradients
    d_variance_ptr,  # [G] float32
    response_ptr,  # [N] int64
    group_ptr,  # [R] int64
    winner_ptr,  # [R] int8
    rhat_ptr,  # [R] float32, shifted like the mean in stats
    stats_ptr,  # [4, G] float32: n, m, mean of the winners, slope
    d_logp_ptr,  # out: [N] float32, e.g. 16384 tokens
    N,
    G,
    BLOCK: tl.constexpr,
):
    """The gradient in BLOCK token log-probs: the coefficient of each token's response."""
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    r = tl.load(response_ptr + token, mask=token < N, other=0)
    g = tl.load(group_ptr + r)
    n = tl.load(stats_ptr + g)
    m = tl.load(stats_ptr + G + g)
    mean_w = tl.load(stats_ptr + 2 * G + g)
    slope = tl.load(stats_ptr + 3 * G + g)
    d_preference = tl.load(d_preference_ptr + g)
    d_variance = tl.load(d_variance_ptr + g)
    deviation = tl.load(rhat_ptr + r) - mean_w
    # the gradient of Eq. 9 in rhat, as in gepo.gepo_loss
    of_winner = -d_preference * slope / n + 2 * d_variance * deviation / n
    of_loser = d_preference * slope / m
    is_winner = tl.load(winner_ptr + r) != 0
    coefficient = tl.where(is_winner, of_winner, of_loser)
    tl.store(d_logp_ptr + token, coefficient, mask=token < N)
