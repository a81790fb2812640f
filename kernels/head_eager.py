"""The `eager` backend of kernels/head.py: torch alone, a slab of logits at a time.

It is the fallback on the CPU and for float64, what the Triton kernels are tested against, and the
baseline of bench/head.py. A slab is a rectangle of the [T, V] logits, SLAB_TOKENS x SLAB_COLUMNS;
the walk over slabs (forward_by_slabs) and the matrix product (matmul32) serve head_slab.py as well.

    T, t   tokens of the call, tokens of one slab
    D      hidden size
    V, v   vocabulary (or the slice of it that backward works on), columns of one slab

A backend is a module with two functions, forward and dlogits; all three take the same arguments.
"""

import torch

SLAB_TOKENS = 2048
SLAB_COLUMNS = 4224  # 2048 x 4224 float32 logits are 33 MiB, which stays in an L2 cache


def forward(hidden, weight, targets, temperature, entropy):
    """hidden [T, D], weight [V, D], targets [T] -> (logp [T], lse [T], entropies [T] or None).

    lse is the log-sum-exp of each row of logits. float32 (float64 for float64). entropy: a bool,
    whether to compute the entropies."""
    return forward_by_slabs(hidden, weight, targets, temperature, entropy, _update_state)


def dlogits(hidden, weight, first_column, targets, lse, grad, temperature):
    """The gradient in hidden @ weight.T for one slice of the vocabulary.

    hidden [T, D]; weight [V, D], a slice of the whole weight that begins at row first_column;
    targets [T], in the whole vocabulary; lse [T], saved by forward; grad [T], the upstream
    gradient of logp. -> [T, V]: grad / temperature * (1[column is the target] - p)."""
    scaled_grad = (grad / temperature)[:, None]
    logits = matmul32(hidden, weight.T).div_(temperature)
    probabilities = logits.sub_(lse[:, None]).exp_()  # in place: one [T, V] is the whole workspace
    gradient = probabilities.mul_(-scaled_grad)
    column = (targets - first_column)[:, None]  # outside of the slice for most targets
    valid_column = column.clamp(0, len(weight) - 1)
    is_inside = column == valid_column
    of_target = torch.where(is_inside, scaled_grad, 0.0)
    return gradient.scatter_add_(1, valid_column, of_target)


def forward_by_slabs(hidden, weight, targets, temperature, entropy, update_state):
    """Goes over the logits slab by slab and keeps an online log-sum-exp. Arguments as for forward.

    update_state(logits [t, v], first_column, targets [t], state [4, t], 1 / temperature, entropy)
    takes one slab into the state. For each token the state holds, of the logits z so far:
        0  their maximum
        1  sum of exp(z - maximum)
        2  sum of exp(z - maximum) * z, for the entropy
        3  the logit of the target"""
    accurate = torch.promote_types(hidden.dtype, torch.float32)
    state = torch.zeros(4, len(hidden), device=hidden.device, dtype=accurate)
    state[0] = -torch.inf
    for rows, columns in slabs(len(hidden), len(weight)):
        update_state(
            matmul32(hidden[rows], weight[columns].T),  # not named: freed before the next slab
            columns.start,
            targets[rows],
            state[:, rows],
            1 / temperature,
            entropy,
        )
    maximum, sum_exp, sum_exp_z, target_logit = state
    lse = maximum + sum_exp.log()
    logp = target_logit - lse
    entropies = None
    if entropy:
        entropies = lse - sum_exp_z / sum_exp
    return logp, lse, entropies


def slabs(T, V):
    """Yields (slice of the tokens, slice of the columns) of every slab of [T, V] logits. The last
    ones may go beyond the end."""
    for token in range(0, T, SLAB_TOKENS):
        rows = slice(token, token + SLAB_TOKENS)
        for column in range(0, V, SLAB_COLUMNS):
            yield rows, slice(column, column + SLAB_COLUMNS)


def _update_state(logits, first_column, targets, state, scale, entropy):
    """The update of forward_by_slabs; logits [t, v] are overwritten."""
    maximum, sum_exp, sum_exp_z, target_logit = state  # views: [t] each, updated in place
    z = logits.mul_(scale)
    column = targets - first_column  # outside of the slab for most targets
    valid_column = column.clamp(0, z.shape[1] - 1)
    is_inside = column == valid_column
    candidate = z.gather(1, valid_column[:, None])[:, 0]
    target_logit.copy_(torch.where(is_inside, candidate, target_logit))

    new_maximum = torch.maximum(maximum, z.amax(1))
    shrink = (maximum - new_maximum).exp()  # what was summed so far is relative to the old maximum
    if entropy:
        exp_z = (z - new_maximum[:, None]).exp_()
        weighted = torch.linalg.vecdot(exp_z, z)
        sum_exp_z.mul_(shrink).add_(weighted)
    else:
        exp_z = z.sub_(new_maximum[:, None]).exp_()  # z itself is not needed: no second slab
    total = exp_z.sum(1)
    sum_exp.mul_(shrink).add_(total)
    maximum.copy_(new_maximum)


def matmul32(a, b):
    """a [M, K] @ b [K, N] -> [M, N], summed and returned in float32 whatever the inputs are.

    float64 inputs give float64. Logits rounded to bfloat16 would cost 1.45 nats a sequence."""
    needs_graph = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    is_half = a.dtype in (torch.float16, torch.bfloat16)
    if a.is_cuda and is_half and not needs_graph:
        return torch.mm(a, b, out_dtype=torch.float32)  # no float32 copy of the inputs; CUDA only
    accurate = torch.promote_types(a.dtype, torch.float32)
    with torch.autocast(a.device.type, enabled=False):
        wide_a = a.to(accurate)
        wide_b = b.to(accurate)
        return wide_a @ wide_b
