"""Group, the one data structure of both streams, and the one path from its tokens to log-probs.

A group is a prompt and its responses. Groups are packed end to end into one row of tokens, in
which every prompt is stored and computed once:

    [ prompt | response 1 | response 2 | ... | response k ]      one group of the row

The positions of every response restart at P = len(prompt). A response sees the prompt and itself,
causally, never another response. The last prompt token predicts the first token of every response,
so its hidden state is used k times, with k targets. Response tokens are
found by their position and length, never by a token id.

token_logprobs is the only path from tokens to log-probs: for the policy, the old policy and the
reference, on-policy and off-policy. frozen_logprobs and backward_tokens call it in pieces under a
token budget.

Shapes: P prompt tokens, R_i tokens of response i (EOS included), T tokens of a packed row, N of
them in responses; H heads, K key-value heads, E head_dim.
"""

import functools
import inspect
import itertools
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.nn.attention.varlen import varlen_attn
from tqdm import tqdm

from distributed import ranks
from model import causal_mask, sdpa


@dataclass
class Group:
    """A prompt and k responses. On-policy: samples of one translation problem. Off-policy: IRs of
    one C source, equivalent and inequivalent ones."""

    prompt: torch.Tensor  # [P] int64, P >= 1
    responses: list  # k tensors [R_i] int64, R_i >= 1
    logps: list = field(default_factory=list)  # k tensors [R_i] float32, as the sampler had them

    def __len__(self):
        """Tokens of the packed group."""
        return len(self.prompt) + sum(map(len, self.responses))


# ---------------------------------------------------------------------------- tokens to log-probs


def token_logprobs(model, groups, temperature=1.0, entropies=None):
    """log pi(token | prompt, tokens before it) of every response token.

    groups: list of Group. Returns a list (per group) of lists (per response) of float32 tensors
    [R_i] on the model's device.
    entropies: a list; the entropies of the N distributions are appended to it as one tensor [N]
    on the CPU.
    All groups go through one forward: cut them first (microbatches) where memory matters."""
    if not groups:
        return []
    row = _pack(groups, model.device)
    model.config.check_length(max(map(Span.key_count, row.spans)))
    logps = model(
        row.tokens,
        row.positions,
        _packed_attention(row.spans, model),
        row.predictors,
        row.targets,
        temperature,
        entropy=entropies is not None,
    )
    if entropies is not None:
        logps, entropy = logps
        entropies.append(entropy.cpu())
    lengths = [len(response) for group in groups for response in group.responses]
    logp_of_responses = iter(logps.split(lengths))
    return [list(itertools.islice(logp_of_responses, len(group.responses))) for group in groups]


@torch.no_grad()
def frozen_logprobs(model, groups, token_budget, temperature=1.0, apart=False, title=""):
    """token_logprobs without a graph, in micro-batches; nested like groups, on the CPU.

    apart: each group in forwards of its own, so that no bit depends on the groups beside it.
    title: of a progress bar. All ranks must call."""
    result = [[] for _ in groups]
    batches = _microbatches_on_every_rank(groups, token_budget, apart)
    for pieces in tqdm(batches, desc=title, unit="forward", disable=not title or ranks.rank() > 0):
        if not pieces:
            _dummy_loss(model, temperature)
            continue
        cut = [piece.cut_from(groups) for piece in pieces]
        for piece, logps in zip(pieces, token_logprobs(model, cut, temperature)):
            result[piece.group_index] += [logp.cpu() for logp in logps]
    return result


def backward_tokens(model, groups, token_budget, loss, temperature=1.0, entropies=None):
    """Back-propagates the sum of loss(g, i, logp [R_i]) over all responses i of all groups g.

    loss must return a scalar that is already divided by its global denominator: gradients add up
    in .grad, over micro-batches and over ranks, so that no cut changes them.
    entropies: as for token_logprobs.
    Returns the detached log-probs, nested like groups, on the CPU. All ranks must call."""
    result = [[] for _ in groups]
    for pieces in _microbatches_on_every_rank(groups, token_budget):
        if not pieces:
            _dummy_loss(model, temperature).backward()
            continue
        cut = [piece.cut_from(groups) for piece in pieces]
        losses = []
        for piece, logps in zip(pieces, token_logprobs(model, cut, temperature, entropies)):
            for i, logp in enumerate(logps, start=piece.first):
                losses.append(loss(piece.group_index, i, logp))
                result[piece.group_index].append(logp.detach().cpu())
        sum(losses).backward()
    return result


# -------------------------------------------------------------------------------- micro-batches


class Piece(NamedTuple):
    """Consecutive responses of one group: groups[group_index].responses[first:stop]."""

    group_index: int
    first: int
    stop: int

    def cut_from(self, groups) -> Group:
        """The piece as a group of its own, with the whole prompt."""
        group = groups[self.group_index]
        return Group(group.prompt, group.responses[self.first : self.stop])


def microbatches(groups, token_budget, apart=False):
    """Cuts groups into forwards of at most token_budget tokens: a list of lists of Piece.

    apart: no forward has pieces of two groups.

    A group that does not fit is cut between responses, its prompt repeated. That is exact, because
    both losses are sums over responses once their coefficients are known. A single response over
    the budget goes alone."""
    batches = []
    room = 0
    for group_index in range(len(groups)):
        if apart:
            room = 0
        for piece in _cut_between_responses(groups, group_index, token_budget):
            size = len(piece.cut_from(groups))
            if size > room:
                batches.append([])
                room = token_budget
            batches[-1].append(piece)
            room -= size
    return batches


def _cut_between_responses(groups, group_index, token_budget):
    """The pieces of one group, each as large as the budget allows."""
    group = groups[group_index]
    first, size = 0, len(group.prompt)
    for i, response in enumerate(group.responses):
        if i > first and size + len(response) > token_budget:
            yield Piece(group_index, first, i)
            first, size = i, len(group.prompt)
        size += len(response)
    if group.responses:
        yield Piece(group_index, first, len(group.responses))


def _microbatches_on_every_rank(groups, token_budget, apart=False):
    """This rank's micro-batches, and after them empty ones, so that all ranks have as many.

    FSDP gathers weights and reduces gradients in collectives of all ranks, in every forward and
    every backward. So a rank that has nothing left goes on with dummies (_dummy_loss) until the
    last rank is done."""
    batches = microbatches(groups, token_budget, apart)
    most = max(ranks.all_gather_list([len(batches)]))
    return batches + [[]] * (most - len(batches))


DUMMY_GROUP = Group(torch.zeros(1, dtype=torch.int64), [torch.zeros(1, dtype=torch.int64)])


def _dummy_loss(model, temperature):
    """A loss of 0 by a real forward: its backward runs like any other, and adds zeros to .grad."""
    [[logp]] = token_logprobs(model, [DUMMY_GROUP], temperature)
    return 0.0 * logp.sum()


# ---------------------------------------------------------------------------------------- packing


@dataclass
class Span:
    """Where a prompt or a response lies in a packed row, and one attention problem.

    The queries are the tokens start:stop of the row. The keys are the same tokens, and for a
    response those of its prompt before them."""

    start: int
    stop: int
    prompt: "Span | None" = None  # only a response has one

    def __len__(self):
        return self.stop - self.start

    def key_count(self):
        return len(self) if self.prompt is None else len(self.prompt) + len(self)


@dataclass
class PackedRow:
    spans: list  # every prompt is followed by its responses
    tokens: torch.Tensor  # [T] int64
    positions: torch.Tensor  # [T] int64
    predictors: torch.Tensor  # [N] int64: token predictors[i] of the row predicts targets[i]
    targets: torch.Tensor  # [N] int64


def _pack(groups, device) -> PackedRow:
    spans, tokens, positions, predictors, targets = [], [], [], [], []
    start = 0
    for group in groups:
        prompt = Span(start, start + len(group.prompt))
        spans.append(prompt)
        tokens.append(group.prompt)
        positions.append(torch.arange(len(prompt)))
        start = prompt.stop
        for response in group.responses:
            span = Span(start, start + len(response), prompt)
            spans.append(span)
            tokens.append(response)
            positions.append(torch.arange(len(prompt), span.key_count()))
            tokens_before = torch.arange(span.start - 1, span.stop - 1)
            tokens_before[0] = prompt.stop - 1  # not the last token of the response before
            predictors.append(tokens_before)
            targets.append(response)
            start = span.stop
    tensors = [torch.cat(parts).to(device) for parts in (tokens, positions, predictors, targets)]
    return PackedRow(spans, *tensors)


# ------------------------------------------------------------------------------- packed attention


def _packed_attention(spans, model):
    """attend(layer, q [T, H, E], k [T, K, E], v [T, K, E]) -> [T, H, E], for Transformer.forward.

    There is no mask over the whole row: it would cost (P + sum R)^2 where sum R (P + R) is needed
    (bench/packing.py)."""
    device, dtype = model.device, model.dtype
    windows = [0, 3] if model.config.windows else [0]  # _varlen_agrees tries both; 3 cuts keys off
    use_varlen = (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and all(_varlen_is_right(device, dtype, window) for window in windows)
    )
    make_attend = _attend_varlen if use_varlen else _attend_each
    return make_attend(spans, device, model.config.window)


def _attend_each(spans, device, window_of_layer):
    """attend by one SDPA call a span: any device and dtype."""
    lengths = list(map(len, spans))

    @functools.cache  # layers with the same window share their masks
    def masks(window):
        return [_span_mask(span, device, window) for span in spans]

    def attend(layer, q, k, v):
        outputs = []
        parts = zip(q.split(lengths), k.split(lengths), v.split(lengths))
        for span, mask, (queries, keys, values) in zip(spans, masks(window_of_layer(layer)), parts):
            if span.prompt is None:
                prompt_keys, prompt_values = keys, values  # for the responses that follow
            else:
                keys = torch.cat([prompt_keys, keys])
                values = torch.cat([prompt_values, values])
            causal = mask is None
            output = sdpa(queries[None], keys[None], values[None], attn_mask=mask, is_causal=causal)
            outputs.append(output[0])
        return torch.cat(outputs)

    return attend


def _span_mask(span, device, window):
    """bool [queries, keys]; None for a prompt that SDPA's own causal mask serves."""
    if span.prompt is None and not 0 < window < len(span):
        return None
    keys = torch.arange(span.key_count(), device=device)
    queries = keys[-len(span) :]
    return causal_mask(queries, keys, window)


def _attend_varlen(spans, device, window_of_layer):
    """attend by one FlashAttention call for all spans: CUDA, float16 and bfloat16."""
    key_places = []  # a span's keys must lie side by side, so they are gathered by index
    for span in spans:
        if span.prompt is not None:
            key_places.append(torch.arange(span.prompt.start, span.prompt.stop))
        key_places.append(torch.arange(span.start, span.stop))
    key_places = torch.cat(key_places).to(device)
    query_counts = list(map(len, spans))
    key_counts = [span.key_count() for span in spans]
    # torch 2.11 sees grouped heads from the shapes alone
    is_told_of_groups = "enable_gqa" in inspect.signature(varlen_attn).parameters
    query_ends = torch.tensor([0, *query_counts]).cumsum(0).to(device, torch.int32)
    key_ends = torch.tensor([0, *key_counts]).cumsum(0).to(device, torch.int32)

    def attend(layer, q, k, v):
        options = {"enable_gqa": q.shape[1] != k.shape[1]} if is_told_of_groups else {}
        return varlen_attn(
            q,
            k[key_places],
            v[key_places],
            query_ends,
            key_ends,
            max(query_counts),
            max(key_counts),
            window_size=(window_of_layer(layer) - 1, 0),  # keys left of the query; -1: all
            **options,
        )

    return attend


@functools.cache
def _varlen_is_right(device, dtype, window=0):
    """Whether varlen_attn serves packed groups; warns if not.

    A response needs each query aligned with the end of its longer keys (bottom right), and
    varlen_attn's documentation does not say how it aligns them: so it is tried."""
    why_not = _what_varlen_lacks(device) or _where_varlen_differs(device, dtype, window)
    if why_not:
        warnings.warn(
            f"varlen_attn of torch {torch.__version__} does not fit packed groups ({why_not}); "
            "one SDPA call a response instead",
            stacklevel=1,
        )
    return not why_not


def _what_varlen_lacks(device):
    """What is missing, or an empty text. On a CPU only tests ask."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "the GPU's compute capability is below 8.0"
    has_window = "window_size" in inspect.signature(varlen_attn).parameters
    return "" if has_window else "it has no window_size"


def _where_varlen_differs(device, dtype, window):
    """What differs between the two attentions or their gradients, on a prompt of 3 tokens with
    responses of 2 and 5; or an empty text."""
    prompt = Span(0, 3)
    spans = [prompt, Span(3, 5, prompt), Span(5, 10, prompt)]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(10, heads, 64, generator=generator).to(device, dtype) for heads in (4, 2, 2)
    ]
    results = []
    for make_attend in (_attend_varlen, _attend_each):
        q, k, v = (x.clone().requires_grad_() for x in inputs)
        try:
            with torch.enable_grad():
                y = make_attend(spans, device, lambda layer: window)(0, q, k, v)
                gradients = torch.autograd.grad(y.float().square().sum(), (q, k, v))
        except (RuntimeError, TypeError, ValueError) as error:
            first_line = str(error).split("\n")[0]
            return f"{type(error).__name__}: {first_line}"
        results.append([y.detach(), *gradients])
    for name, ours, theirs in zip(("the output", "dq", "dk", "dv"), *results):
        if not torch.allclose(ours, theirs, atol=0.03 * float(theirs.abs().max())):
            return f"{name} differs from one call a response"
    return ""
