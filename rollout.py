"""Batched sampling with a KV cache: a prompt is read once, its samples continue from copies of it.

Samples come from the distribution that is differentiated: softmax(logits / temperature), without
top-k and top-p. The log-prob of every sampled token is kept. EOS is a response token; a truncated
sample has none. Every sequence has random numbers of its own, so that a sample depends neither on
what runs beside it nor on the number of ranks that share the work.

Shapes: B sequences in the cache, S tokens fed to each of them, V vocabulary; H heads, K key-value
heads, E head_dim.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from groups import Group
from model import causal_mask, sdpa

CACHE_TOKENS = 131_072  # keys and values that generate holds at a time
# Between two looks at what has ended a GPU works ahead. What is drawn past an end is cut off.
LOOK_EVERY = {"cpu": 1, "cuda": 8}  # tokens


@dataclass
class Settings:
    max_new_tokens: int
    temperature: float
    eos_ids: set
    seed: int


@dataclass
class Request:
    """A prompt, and the numbers of the sequences that this rank samples from it."""

    prompt_number: int
    group: Group  # takes the responses
    numbers: list = field(default_factory=list)


@dataclass
class Sequence:
    """One sample in the making. Its number decides its random numbers."""

    number: int
    group: Group
    tokens: list = field(default_factory=list)
    logps: list = field(default_factory=list)
    finished: bool = False


@torch.no_grad()
def generate(
    model,
    prompts,
    samples,
    max_new_tokens,
    temperature,
    eos_ids,
    seed,
    cache_tokens=CACHE_TOKENS,
    progress=None,
    share=None,
    finished=None,
):
    """Samples `samples` responses to every prompt: a list of Group, with logps.

    prompts: a list of lists of token ids.
    temperature: 0 is greedy; the log-probs are then those of temperature 1.
    cache_tokens: the most tokens whose keys and values are cached. It limits how many prompts run
    together; one prompt with all its samples always runs.
    progress: called with the number of sequences that have just finished.
    share: a range of the len(prompts) * samples sequences, counted prompt by prompt. Only these are
    sampled; a prompt that has none of them gets a Group without responses.
    finished: called with the number of a prompt and its Group, when the batch it is in has ended.
    Raises ValueError for an empty prompt and for logits that are NaN."""
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {i} is empty; a prompt needs at least one token")
    requests = [Request(i, Group(torch.tensor(prompt), [])) for i, prompt in enumerate(prompts)]
    numbers = range(len(prompts) * samples) if share is None else share
    for number in numbers:
        requests[number // samples].numbers.append(number)

    pending = [request for request in requests if request.numbers]
    pending.sort(key=lambda request: len(request.group.prompt))  # like lengths run together
    capacity = max(map(len, prompts), default=0) + max_new_tokens
    model.config.check_length(capacity)
    batch_size = max(1, cache_tokens // (capacity * samples))
    settings = Settings(max_new_tokens, temperature, set(eos_ids), seed)
    with model.lm_head.kept_wide():
        for start in range(0, len(pending), batch_size):
            batch = pending[start : start + batch_size]
            _generate_batch(model, batch, settings, progress)
            for request in batch if finished else []:
                finished(request.prompt_number, request.group)
    return [request.group for request in requests]


def _generate_batch(model, requests, settings, progress):
    """Samples all sequences of the requests together, and puts them into the requests' groups."""
    sequences = []
    for request in requests:
        for number in request.numbers:
            sequences.append(Sequence(number, request.group))
    uniform = _random_numbers(sequences, settings).to(model.device)  # [B, max_new_tokens]
    cache, logits, positions = _read_prompts(model, requests, settings.max_new_tokens)
    width = len(requests[-1].group.prompt)  # they are sorted by length
    running = sequences  # the sequence of each row of the cache
    drawn = []  # (tokens, log-probs) of the steps since the last look
    for step in range(settings.max_new_tokens):
        tokens, logps = _sample(logits, settings.temperature, uniform[:, step])
        drawn.append((tokens, logps))
        is_last = step + 1 == settings.max_new_tokens
        if is_last or len(drawn) == LOOK_EVERY[model.device.type]:
            just_finished = _append(running, drawn, settings)
            drawn = []
            if progress:
                progress(just_finished)
            unfinished = [row for row, sequence in enumerate(running) if not sequence.finished]
            if not unfinished:
                break
            # Finished sequences stay in their rows until they are more than a quarter of all:
            # removing each at its end would copy the cache every time.
            if 4 * len(unfinished) < 3 * len(running):
                running = [running[row] for row in unfinished]
                rows = torch.tensor(unfinished, device=model.device)
                cache.select(rows)
                uniform = uniform[rows]
                tokens = tokens[rows]
                positions = positions[rows]
        logits = _next_logits(model, cache, tokens, positions, end=width + step + 1)
        positions = positions + 1
    for sequence in sequences:
        tokens = torch.tensor(sequence.tokens, dtype=torch.int64)
        logps = torch.tensor(sequence.logps, dtype=torch.float32)
        sequence.group.responses.append(tokens)
        sequence.group.logps.append(logps)


def _next_logits(model, cache, tokens, positions, end):
    """Feeds every sequence its last token: tokens, positions [B] -> logits [B, V] float32."""
    return model(tokens[:, None], cache.feed(positions[:, None], end), cache)[:, 0]


def _random_numbers(sequences, settings):
    """float64 in [0, 1), [B, max_new_tokens]: each row from a generator of its own."""
    rows = []
    for sequence in sequences:
        generator = np.random.default_rng([settings.seed, sequence.number])
        rows.append(generator.random(settings.max_new_tokens))
    return torch.tensor(np.stack(rows))


def _read_prompts(model, requests, max_new_tokens):
    """One forward over the prompts, and a copy of the cache for each of their sequences.

    Returns the cache, the logits [B, V] float32 of every sequence's first token and its
    position [B] int64."""
    prompts = [request.group.prompt for request in requests]
    lengths = torch.tensor(list(map(len, prompts)), device=model.device)
    width = max(map(len, prompts))
    cache = KVCache(model.config, len(prompts), width + max_new_tokens, model.device, model.dtype)
    tokens = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)  # on the right: see KVCache
    positions = torch.arange(width, device=model.device).expand(len(prompts), -1)
    rows = torch.arange(len(prompts), device=model.device)
    last_tokens = (rows, lengths - 1)  # only these need logits
    logits = model(tokens.to(model.device), cache.feed(positions, width), cache, rows=last_tokens)

    copies = torch.tensor([len(request.numbers) for request in requests], device=model.device)
    row_of_sequence = rows.repeat_interleave(copies)  # [B]
    cache.select(row_of_sequence)
    return cache, logits[row_of_sequence], lengths[row_of_sequence]


def _sample(logits, temperature, uniform):
    """logits [B, V], uniform [B] -> the next tokens [B] int64 and their log-probs [B] float32."""
    logps = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
    tokens = logps.argmax(-1) if temperature == 0 else _draw(logps, uniform)
    return tokens, logps.gather(1, tokens[:, None])[:, 0]


def _draw(logps, uniform):
    """The token at which the cumulated probability passes `uniform`: logps [B, V] -> [B] int64."""
    cumulated = logps.exp().double().cumsum(-1)
    thresholds = uniform * cumulated[:, -1]
    tokens = torch.searchsorted(cumulated, thresholds[:, None], right=True)[:, 0]
    return tokens.clamp(max=logps.shape[-1] - 1)


def _append(running, drawn, settings):
    """Gives every sequence that runs its next tokens. Returns how many have just finished.

    drawn: (tokens [B], log-probs [B]) of each step."""
    token_steps, logp_steps = zip(*drawn)
    all_tokens = torch.stack(token_steps, 1).tolist()  # by sequence
    all_logps = torch.stack(logp_steps, 1).tolist()
    just_finished = 0
    for sequence, tokens, logps in zip(running, all_tokens, all_logps):
        was_finished = sequence.finished
        for token, logp in zip(tokens, logps):
            if not sequence.finished:
                _append_one(sequence, token, logp, settings)
        just_finished += sequence.finished and not was_finished
    return just_finished


def _append_one(sequence, token, logp, settings):
    if math.isnan(logp):
        raise ValueError(
            f"the model's logits are NaN, so nothing can be sampled: at token "
            f"{len(sequence.tokens)} of sequence {sequence.number}; its weights are broken, or "
            "its activations overflow"
        )
    sequence.tokens.append(token)
    sequence.logps.append(logp)
    truncated = len(sequence.tokens) == settings.max_new_tokens
    sequence.finished = token in settings.eos_ids or truncated


class KVCache:
    """Keys and values of B sequences, and the attention of Transformer.forward that uses them.

    The slot of a token is its position, so that ragged prompts need no padding on the left. A
    prompt padded on the right leaves rubbish in the slots behind its end: the mask hides it until
    the sequence's own tokens overwrite it. feed must be called before each forward."""

    def __init__(self, config, batch: int, capacity: int, device, dtype):
        self.windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
        self.layers = []  # pairs of keys and values, [B, capacity, K, E]
        shape = (batch, capacity, config.num_key_value_heads, config.head_dim)
        for _ in self.windows:
            keys = torch.zeros(shape, device=device, dtype=dtype)
            self.layers.append([keys, torch.zeros_like(keys)])

    def feed(self, positions, end):
        """positions [B, S] int64 of the tokens of the next forward; returns them, for forward.

        end: one more than the largest of them, which a GPU need not be asked for."""
        self.positions = positions
        self.end = end
        slots = torch.arange(self.end, device=positions.device)
        self.masks = {}  # bool [B, 1, S, end] by window
        for window in set(self.windows):
            self.masks[window] = causal_mask(positions, slots, window)[:, None]
        return positions

    def __call__(self, layer, q, k, v):
        """q [B, S, H, E], k and v [B, S, K, E] -> [B, S, H, E]."""
        keys, values = self.layers[layer]
        rows = torch.arange(len(k), device=k.device)[:, None]
        keys[rows, self.positions] = k
        values[rows, self.positions] = v
        keys = keys[:, : self.end]
        values = values[:, : self.end]
        mask = self.masks[self.windows[layer]]
        if q.shape[1] > 1:
            return sdpa(q, keys, values, attn_mask=mask)
        # One token: the heads that share keys are taken for its queries. Kernels for grouped heads
        # are slow with a mask, or repeat the keys.
        queries = q[:, 0].unflatten(1, (keys.shape[2], -1))  # [B, K, H / K, E]
        y = F.scaled_dot_product_attention(
            queries, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask
        )
        return y.flatten(1, 2)[:, None]

    def select(self, rows):
        """Keeps (or repeats) the sequences `rows` [B'] int64."""
        for pair in self.layers:  # one layer after the other, so that only one is held twice
            pair[0] = pair[0][rows]
            pair[1] = pair[1][rows]
