"""The one currency: a prompt and its responses, packed so that the prompt is stored and computed once.

    [ prompt | y1 | y2 | ... | yk ]      one row of a group; several groups are laid end to end

Every response's positions restart at P = len(prompt); a response sees the prompt and itself, causally, never a sibling.
The last prompt row predicts the first token of every response, so its hidden row is used k times with k targets. What is
a response token is data (lengths), never inferred from a token id. The one path from tokens to log-probs, for the policy,
the old policy and the reference, on-policy and off-policy, is token_logprobs.

Shapes: P prompt tokens, R_i tokens of response i (EOS included), T tokens of one packed forward.
"""
from dataclasses import dataclass, field

import torch

from model import sdpa


@dataclass
class Group:
    prompt: torch.Tensor                                     # [P] int64, P >= 1
    responses: list                                          # k x [R_i] int64, R_i >= 1
    logps: list = field(default_factory=list)                # k x [R_i] float32: log-probs kept by the sampler

    def __len__(self):
        return len(self.prompt) + sum(map(len, self.responses))


def _pack(groups, device):
    """-> tokens [T], positions [T], rows [N] and targets [N] (row i predicts target i), and a mask per group."""
    tokens, positions, rows, targets, masks, start = [], [], [], [], [], 0
    for group in groups:
        p, size = len(group.prompt), len(group)
        tokens += [group.prompt, *group.responses]
        owner, at = [torch.zeros(p, dtype=torch.int64)], p
        positions.append(torch.arange(p))
        for i, y in enumerate(group.responses, 1):
            positions.append(p + torch.arange(len(y)))
            owner.append(torch.full((len(y),), i))
            rows.append(torch.tensor([p - 1, *range(at, at + len(y) - 1)]) + start)
            targets.append(y)
            at += len(y)
        owner = torch.cat(owner)
        seen = (owner[None] == 0) | (owner[None] == owner[:, None])
        masks.append((seen & torch.ones(size, size, dtype=torch.bool).tril()).to(device))
        start += size
    flat = lambda xs: torch.cat(xs).to(device)
    return flat(tokens), flat(positions), flat(rows), flat(targets), masks


def token_logprobs(model, groups, temperature=1.0):
    """log pi(token | prompt, tokens before) of every response token.

    groups: list of Group -> list (per group) of lists (per response) of float32 tensors [R_i], on the model's device.
    All groups go through one forward: cut them first (microbatches) when memory matters."""
    if not groups:
        return []
    tokens, positions, rows, targets, masks = _pack(groups, model.device)

    def attend(layer, q, k, v):                              # q [T, H, E]; each group by itself, densely masked
        parts = zip(*(x.split([len(group) for group in groups]) for x in (q, k, v)), masks)
        return torch.cat([sdpa(q[None], k[None], v[None], attn_mask=mask)[0] for q, k, v, mask in parts])

    logps = iter(model(tokens, positions, attend, rows, targets, temperature)
                 .split([len(y) for group in groups for y in group.responses]))
    return [[next(logps) for _ in group.responses] for group in groups]


def microbatches(groups, token_budget):
    """Cuts groups into forwards of at most token_budget tokens: a list of lists of (group index, first, last response).

    A group that does not fit is cut between responses, its prompt repeated: exact, because both losses are sums over
    responses once their coefficients are known. A single response over the budget goes alone."""
    pieces = []
    for g, group in enumerate(groups):
        first, size = 0, len(group.prompt)
        for i, y in enumerate(group.responses):
            if i > first and size + len(y) > token_budget:
                pieces.append((size, (g, first, i)))
                first, size = i, len(group.prompt)
            size += len(y)
        pieces.append((size, (g, first, len(group.responses))))
    batches, room = [], 0
    for size, piece in pieces:
        if size > room:
            batches.append([])
            room = token_budget
        batches[-1].append(piece)
        room -= size
    return batches


def piece_of(groups, piece):
    g, first, last = piece
    return Group(groups[g].prompt, groups[g].responses[first:last])


@torch.no_grad()
def frozen_logprobs(model, groups, token_budget, temperature=1.0):
    """token_logprobs without a graph, cut under the token budget; same nesting, on the CPU."""
    result = [[] for _ in groups]
    for batch in microbatches(groups, token_budget):
        for (g, _, _), logps in zip(batch, token_logprobs(model, [piece_of(groups, p) for p in batch], temperature)):
            result[g] += [logp.cpu() for logp in logps]
    return result


def backward_tokens(model, groups, token_budget, loss, temperature=1.0):
    """Back-propagates sum of loss(g, i, logp [R_i]) over all responses i of all groups g, piece by piece.

    loss must return a scalar that is already divided by its global denominator: gradients add up in .grad, so the cut
    does not change them. -> the detached log-probs, nested like groups, on the CPU."""
    result = [[] for _ in groups]
    for batch in microbatches(groups, token_budget):
        total = 0.0
        for (g, first, _), logps in zip(batch, token_logprobs(model, [piece_of(groups, p) for p in batch], temperature)):
            for i, logp in enumerate(logps, first):
                total = total + loss(g, i, logp)
                result[g].append(logp.detach().cpu())
        total.backward()
    return result
