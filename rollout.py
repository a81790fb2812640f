"""Batched sampling with a KV cache: a prompt is read once, its samples continue from copies of its cache.

Samples come from the distribution that is differentiated: softmax(logits / temperature), no top-k, no top-p; the
log-prob of every sampled token is kept. EOS is a response token; a truncated sample has none. Finished sequences leave
the batch. Every sequence has random numbers of its own, so a sample depends neither on what runs beside it nor on the
number of ranks that share the work. Shapes: B running sequences, V vocabulary.
"""

import numpy as np
import torch

from groups import Group
from model import causal_mask, sdpa


class KVCache:
    """Keys and values of B sequences; the slot of a token is its position, so that ragged prompts need no left padding.

    A right-padded prompt leaves rubbish in the slots behind its end: they lie behind the mask until the sequence's own
    tokens overwrite them. `positions` [B, S] of the tokens being fed must be set before each forward."""

    def __init__(self, config, batch: int, capacity: int, device, dtype):
        self.config, shape = config, (batch, capacity, config.num_key_value_heads, config.head_dim)
        self.layers = [
            [torch.zeros(shape, device=device, dtype=dtype) for _ in "kv"]
            for _ in range(config.num_hidden_layers)
        ]

    def feed(self, positions):
        """positions [B, S] of the next tokens; -> the same, for forward."""
        self.positions, self.end = positions, int(positions.max()) + 1
        slots = torch.arange(self.end, device=positions.device)
        windows = {self.config.window(layer) for layer in range(len(self.layers))}
        self.masks = {
            window: causal_mask(positions, slots, window)[:, None] for window in windows
        }  # [B, 1, S, end]
        return positions

    def __call__(self, layer, q, k, v):
        keys, values = self.layers[layer]
        row = torch.arange(len(k), device=k.device)[:, None]
        keys[row, self.positions], values[row, self.positions] = k, v
        return sdpa(
            q,
            keys[:, : self.end],
            values[:, : self.end],
            attn_mask=self.masks[self.config.window(layer)],
        )

    def select(self, rows):
        """Keeps (or repeats) the sequences `rows` [B'] int64."""
        for pair in self.layers:  # one layer is held twice, not all
            pair[:] = [t[rows] for t in pair]


@torch.no_grad()
def generate(
    model,
    prompts,
    samples,
    max_new_tokens,
    temperature,
    eos_ids,
    seed,
    cache_tokens=131_072,
    progress=None,
    share=None,
):
    """prompts: list of token lists -> list of Groups, `samples` responses each, with sampled token log-probs [R_i].

    temperature 0 is greedy (log-probs are then those of temperature 1). As many prompts run together as have room for
    cache_tokens keys and values, but at least one with all its samples. share: a range of the len(prompts) * samples
    sequences, prompt by prompt; only these are made, and a prompt without one has a Group without responses.
    progress: called with the number of sequences just finished. Raises ValueError for an empty prompt."""
    if any(not p for p in prompts):
        raise ValueError(
            f"prompt {[bool(p) for p in prompts].index(False)} is empty; a prompt needs at least one token"
        )
    names = [[] for _ in prompts]  # the sequences of each prompt
    for n in range(len(prompts) * samples) if share is None else share:
        names[n // samples].append(n)
    eos = torch.tensor(sorted(eos_ids), device=model.device)
    done = {}
    order = sorted(
        (i for i, of in enumerate(names) if of), key=lambda i: len(prompts[i])
    )  # like lengths run together
    width = max(map(len, prompts), default=0) + max_new_tokens
    per_batch = max(1, cache_tokens // (width * samples))
    for at in range(0, len(order), per_batch):
        ids = order[at : at + per_batch]
        done |= _generate_batch(
            model,
            [prompts[i] for i in ids],
            [names[i] for i in ids],
            max_new_tokens,
            temperature,
            eos,
            seed,
            progress,
        )
    return [
        Group(torch.tensor(p), *([done[n][k] for n in of] for k in (0, 1)))
        for p, of in zip(prompts, names)
    ]


def _generate_batch(model, prompts, names, max_new_tokens, temperature, eos, seed, progress):
    """-> {name: (tokens [R], log-probs [R])} of every sequence."""
    device, lengths = model.device, torch.tensor([len(p) for p in prompts])
    width, counts, names = (
        int(lengths.max()),
        torch.tensor([len(of) for of in names]),
        sum(names, []),
    )
    chance = torch.tensor(
        np.stack([np.random.default_rng([seed, n]).random(max_new_tokens) for n in names]),
        device=device,
    )
    cache = KVCache(model.config, len(prompts), width + max_new_tokens, device, model.dtype)
    tokens = torch.zeros(len(prompts), width, dtype=torch.int64)  # right padding, see KVCache
    for row, p in enumerate(prompts):
        tokens[row, : len(p)] = torch.tensor(p)
    positions = torch.arange(width, device=device).expand(len(prompts), -1)
    last = (
        torch.arange(len(prompts), device=device),
        (lengths - 1).to(device),
    )  # only these rows need logits
    logits = model(tokens.to(device), cache.feed(positions), cache, rows=last)  # [prompts, V]
    repeat = torch.arange(len(prompts)).repeat_interleave(counts).to(device)
    cache.select(repeat)
    logits, position = logits[repeat], lengths.to(device)[repeat]  # [B, V], [B]
    alive, done = (
        torch.arange(len(names)),
        torch.zeros(len(names), dtype=torch.bool),
    )  # [B] who runs in which row
    out_t = torch.zeros(len(names), max_new_tokens, dtype=torch.int64)
    out_p = torch.zeros(len(names), max_new_tokens)
    length = torch.zeros(len(names), dtype=torch.int64)
    for step in range(max_new_tokens):
        logp = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
        token = logp.argmax(-1) if temperature == 0 else _draw(logp, chance[alive.to(device), step])
        out_t[alive, step] = token.cpu()
        out_p[alive, step] = logp.gather(1, token[:, None])[:, 0].cpu()
        length[alive[~done]] += 1
        ended = torch.isin(token, eos).cpu() & ~done
        done |= ended
        if progress:
            progress(int(ended.sum() if step + 1 < max_new_tokens else (ended | ~done).sum()))
        if done.all() or step + 1 == max_new_tokens:
            break
        if 4 * int(done.sum()) > len(done):  # leaving at once would copy the cache at every end
            keep = (~done).nonzero()[:, 0]
            cache.select(keep.to(device))
            alive, done, token, position = (
                alive[keep],
                done[keep],
                token[keep.to(device)],
                position[keep.to(device)],
            )
        logits = model(token[:, None], cache.feed(position[:, None]), cache)[:, 0]
        position = position + 1
    return {
        name: (out_t[row, : length[row]].clone(), out_p[row, : length[row]].clone())
        for row, name in enumerate(names)
    }


def _draw(logp, chance):
    """The token at which the cumulated probability passes chance in [0, 1): logp [B, V], chance [B] float64 -> [B] int64."""
    cumulated = logp.exp().double().cumsum(-1)
    return torch.searchsorted(cumulated, (chance * cumulated[:, -1])[:, None], right=True)[
        :, 0
    ].clamp(max=logp.shape[-1] - 1)
