"""The one currency: a prompt and its responses, packed so that the prompt is stored and computed once.

    [ prompt | y1 | y2 | ... | yk ]      one row of a group; several groups are laid end to end

Every response's positions restart at P = len(prompt); a response sees the prompt and itself, causally, never a sibling.
The last prompt row predicts the first token of every response, so its hidden row is used k times with k targets. What is
a response token is data (lengths), never inferred from a token id. The one path from tokens to log-probs, for the policy,
the old policy and the reference, on-policy and off-policy, is token_logprobs.

Shapes: P prompt tokens, R_i tokens of response i (EOS included), T tokens of one packed forward.
"""

import functools
import inspect
import warnings
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch.nn.attention.varlen import varlen_attn

from distributed import ranks
from model import causal_mask, sdpa


@dataclass
class Group:
    prompt: torch.Tensor  # [P] int64, P >= 1
    responses: list  # k x [R_i] int64, R_i >= 1
    logps: list = field(default_factory=list)  # k x [R_i] float32: log-probs kept by the sampler

    def __len__(self):
        return len(self.prompt) + sum(map(len, self.responses))


def _pack(groups, device):
    """-> tokens [T], positions [T], rows [N] and targets [N]: row i predicts target i."""
    tokens, positions, rows, targets, start = [], [], [], [], 0
    for group in groups:
        p = len(group.prompt)
        tokens += [group.prompt, *group.responses]
        positions.append(torch.arange(p))
        at = start + p
        for y in group.responses:
            positions.append(p + torch.arange(len(y)))
            rows.append(torch.tensor([start + p - 1, *range(at, at + len(y) - 1)]))
            targets.append(y)
            at += len(y)
        start = at
    return [torch.cat(xs).to(device) for xs in (tokens, positions, rows, targets)]


# A packed row is 1 + k attention problems a group: the prompt over itself, each response over the prompt and itself. No
# mask over the whole row: it would cost (P + sum R)^2 where sum R (P + R) is needed (bench/packing.py).


def _attend_each(groups, device, config):
    """One SDPA call a sequence: any device and dtype."""
    sizes = [[len(group.prompt), *map(len, group.responses)] for group in groups]

    @functools.cache
    def masks(window):  # of the prompt (None: plainly causal) and of each response
        at = torch.arange(max(map(sum, sizes)), device=device)
        return [
            (
                causal_mask(at[:p], at[:p], window) if 0 < window < p else None,
                [causal_mask(at[p : p + r], at[: p + r], window) for r in rs],
            )
            for p, *rs in sizes
        ]

    def attend(layer, q, k, v):  # q [T, H, E]
        q, k, v = (iter(x.split(sum(sizes, []))) for x in (q, k, v))
        out = []
        for first, of in masks(config.window(layer)):
            prompt_k, prompt_v = next(k), next(v)
            out.append(
                sdpa(
                    next(q)[None],
                    prompt_k[None],
                    prompt_v[None],
                    attn_mask=first,
                    is_causal=first is None,
                )[0]
            )
            out += [
                sdpa(
                    next(q)[None],
                    torch.cat([prompt_k, next(k)])[None],
                    torch.cat([prompt_v, next(v)])[None],
                    attn_mask=mask,
                )[0]
                for mask in of
            ]
        return torch.cat(out)

    return attend


def _attend_varlen(groups, device, config):
    """All sequences in one FlashAttention call: CUDA, float16 and bfloat16. Keys and values are gathered by index."""
    keys, q_sizes, k_sizes, start = [], [], [], 0
    for group in groups:
        prompt, at = torch.arange(start, start + len(group.prompt)), start + len(group.prompt)
        keys.append(prompt)
        for y in group.responses:
            keys += [prompt, torch.arange(at, at + len(y))]
            at += len(y)
        q_sizes += [len(prompt), *map(len, group.responses)]
        k_sizes += [len(prompt), *(len(prompt) + len(y) for y in group.responses)]
        start = at
    keys = torch.cat(keys).to(device)
    ends = [
        torch.tensor([0, *sizes]).cumsum(0).to(device, torch.int32) for sizes in (q_sizes, k_sizes)
    ]

    def attend(layer, q, k, v):
        return varlen_attn(
            q,
            k[keys],
            v[keys],
            *ends,
            max(q_sizes),
            max(k_sizes),
            window_size=((config.window(layer) or 0) - 1, 0),
            enable_gqa=q.shape[1] != k.shape[1],
        )

    return attend


@functools.cache
def _varlen_is_right(device, dtype, window=0):
    """varlen_attn does not say how it aligns queries with longer keys, and a packed group needs bottom-right: ask it."""
    group, g = (
        Group(torch.zeros(3), [torch.zeros(2), torch.zeros(5)]),
        torch.Generator().manual_seed(0),
    )
    q, k, v = (torch.randn(10, heads, 64, generator=g).to(device, dtype) for heads in (4, 2, 2))
    config = SimpleNamespace(window=lambda layer: window)
    known = (device.type == "cpu" or torch.cuda.get_device_capability(device) >= (8, 0)) and {
        "window_size",
        "enable_gqa",
    } <= inspect.signature(varlen_attn).parameters.keys()
    if known and torch.allclose(
        _attend_varlen([group], device, config)(0, q, k, v),
        _attend_each([group], device, config)(0, q, k, v),
        atol=0.03,
    ):
        return True
    warnings.warn(
        f"varlen_attn of torch {torch.__version__} does not fit packed groups; one SDPA call a response instead"
    )
    return False


def token_logprobs(model, groups, temperature=1.0, entropies=None):
    """log pi(token | prompt, tokens before) of every response token.

    groups: list of Group -> list (per group) of lists (per response) of float32 tensors [R_i], on the model's device.
    entropies: a list that takes the entropy of every token's distribution, [N], for the log.
    All groups go through one forward: cut them first (microbatches) when memory matters."""
    if not groups:
        return []
    device, dtype = model.device, model.dtype
    varlen = (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and all(
            _varlen_is_right(device, dtype, window)
            for window in {0, *({3} if model.config.windows else ())}
        )
    )  # bites in the trial
    tokens, positions, rows, targets = _pack(groups, device)
    logps = model(
        tokens,
        positions,
        (_attend_varlen if varlen else _attend_each)(groups, device, model.config),
        rows,
        targets,
        temperature,
        entropy=entropies is not None,
    )
    if entropies is not None:
        logps, entropy = logps
        entropies.append(entropy.cpu())
    logps = iter(logps.split([len(y) for group in groups for y in group.responses]))
    return [[next(logps) for _ in group.responses] for group in groups]


def microbatches(groups, token_budget):
    """Cuts groups into forwards of at most token_budget tokens: a list of lists of (group index, first, last response).

    A group that does not fit is cut between responses, its prompt repeated: exact, because both losses are sums over
    responses once their coefficients are known. A single response over the budget goes alone."""
    pieces = []
    for g, group in enumerate(groups):
        if not group.responses:
            continue
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


DUMMY_GROUP = Group(torch.zeros(1, dtype=torch.int64), [torch.zeros(1, dtype=torch.int64)])


def _pieces(groups, token_budget):
    """The micro-batches as (their places, their groups). A rank with fewer than another runs DUMMY_GROUP with no place, so that all
    run as many forwards and backwards: FSDP's collectives pair them up."""
    batches = microbatches(groups, token_budget)
    for batch in batches + [[]] * (max(ranks.all_gather_list([len(batches)])) - len(batches)):
        yield (
            batch,
            [Group(groups[g].prompt, groups[g].responses[first:last]) for g, first, last in batch]
            or [DUMMY_GROUP],
        )


@torch.no_grad()
def frozen_logprobs(model, groups, token_budget, temperature=1.0, entropies=None):
    """token_logprobs without a graph, cut under the token budget; same nesting, on the CPU. All ranks must call."""
    result = [[] for _ in groups]
    for batch, pieces in _pieces(groups, token_budget):
        for (g, _, _), logps in zip(
            batch, token_logprobs(model, pieces, temperature, entropies if batch else None)
        ):
            result[g] += [logp.cpu() for logp in logps]
    return result


def backward_tokens(model, groups, token_budget, loss, temperature=1.0):
    """Back-propagates sum of loss(g, i, logp [R_i]) over all responses i of all groups g, piece by piece. All ranks must call.

    loss must return a scalar that is already divided by its global denominator: gradients add up in .grad, over pieces and
    over ranks, so neither cut changes them. -> the detached log-probs, nested like groups, on the CPU."""
    result = [[] for _ in groups]
    for batch, pieces in _pieces(groups, token_budget):
        of = token_logprobs(model, pieces, temperature)
        total = 0.0 if batch else 0.0 * of[0][0].sum()
        for (g, first, _), logps in zip(batch, of):
            for i, logp in enumerate(logps, first):
                total = total + loss(g, i, logp)
                result[g].append(logp.detach().cpu())
        total.backward()
    return result
