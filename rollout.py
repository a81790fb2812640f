"""Sampling with a KV cache of fixed size: prompts wait, sequences run, and what ends makes room.

    waiting prompts --admit--> rows of the cache --decode--> ended sequences

A prompt is read into a row of the cache for each of its samples, once if there is room for all of
them. All rows that are in use draw one token a step. When a sequence ends, the last row takes its
place, so that the rows in use stay together; the next prompt enters as soon as half of its samples
find a row.

Samples come from the distribution that is differentiated: softmax(logits / temperature), without
top-k and top-p. The log-prob of every sampled token is kept. EOS is a response token; a truncated
sample has none. Every sequence has random numbers of its own, so that a sample depends neither on
what runs beside it nor on the number of ranks that share the work.

Shapes: R rows of the cache, n of them in use, C slots of a row; P prompts read together, S tokens
of the longest one; V vocabulary; H heads, K key-value heads, E head_dim.
"""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
import triton

from groups import Group
from kernels import decode_attention
from kernels.sample import GREEDY
from model import causal_attention, causal_mask, compiled_blocks, packed_weights, sdpa

CACHE_TOKENS = 131_072  # keys and values that generate holds at a time
READ_TOKENS = 8_192  # of prompts, padding included, in one forward
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
    """A prompt, and those of its sequences that this rank samples."""

    prompt_number: int
    group: Group  # takes the responses
    sequences: list = field(default_factory=list)


@dataclass
class Sequence:
    """One sample in the making. Its number decides its random numbers."""

    number: int
    request: Request
    tokens: list = field(default_factory=list)
    logps: list = field(default_factory=list)
    finished: bool = False

    def __len__(self):
        """Tokens so far, the prompt's included."""
        return len(self.request.group.prompt) + len(self.tokens)


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
    cache_tokens: the most tokens whose keys and values are cached. It limits how many sequences run
    together; one always runs.
    progress: called with the number of sequences that have just finished.
    share: a range of the len(prompts) * samples sequences, counted prompt by prompt. Only these are
    sampled; a prompt that has none of them gets a Group without responses.
    finished: called with the number of a prompt and its Group, when its last sequence has ended.
    Raises ValueError for an empty prompt, for a number out of range and for logits that are NaN."""
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {i} is empty; a prompt needs at least one token")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be a number of at least 0")
    requests = [Request(i, Group(torch.tensor(prompt), [])) for i, prompt in enumerate(prompts)]
    numbers = range(len(prompts) * samples) if share is None else share
    for number in numbers:
        request = requests[number // samples]
        request.sequences.append(Sequence(number, request))

    capacity = max(map(len, prompts), default=0) + max_new_tokens
    model.config.check_length(capacity)
    rows = max(1, min(len(numbers), cache_tokens // max(1, capacity)))
    waiting = _waiting(requests, rows)
    settings = Settings(max_new_tokens, temperature, set(eos_ids), seed)
    engine = Engine(model, settings, rows, capacity)
    with packed_weights(model):
        while waiting or engine.running:
            ended = engine.admit(waiting) + engine.decode()
            if progress:
                progress(len(ended))
            for request in _complete(ended):
                _take_responses(request)
                if finished:
                    finished(request.prompt_number, request.group)
    return [request.group for request in requests]


def _waiting(requests, rows):
    """Lists of sequences that share a prompt and enter together, the shortest prompts first: a
    deque. More sequences than the cache has rows are cut into several lists."""
    waiting = deque()
    for request in sorted(requests, key=lambda request: len(request.group.prompt)):
        for start in range(0, len(request.sequences), rows):
            waiting.append(request.sequences[start : start + rows])
    return waiting


def _complete(ended):
    """The requests whose sequences have all ended, the last one just now: a list."""
    requests = {sequence.request.prompt_number: sequence.request for sequence in ended}
    return [
        request
        for request in requests.values()
        if all(sequence.finished for sequence in request.sequences)
    ]


def _take_responses(request):
    """Puts the finished sequences of a request into its group, as tensors."""
    for sequence in request.sequences:
        request.group.responses.append(torch.tensor(sequence.tokens, dtype=torch.int64))
        request.group.logps.append(torch.tensor(sequence.logps, dtype=torch.float32))


class Engine:
    """The sequences that run, each in a row of the cache: rows 0 to len(running) - 1 are in use."""

    def __init__(self, model, settings, rows, capacity):
        """rows: how many sequences may run. capacity: the most tokens of one, the prompt's too."""
        device = model.device
        self.model = model
        self.settings = settings
        self.cache = KVCache(model.config, rows, capacity, device, model.dtype)
        self.running = []  # the Sequence of each row in use
        # Of each row: its last token, which is not in the cache yet; the token's position, its
        # log-prob, and at p the number that draws the token after position p.
        self.tokens = torch.zeros(rows, dtype=torch.int64, device=device)
        self.positions = torch.zeros_like(self.tokens)
        self.logps = torch.zeros(rows, device=device)
        self.uniform = torch.zeros(rows, capacity, dtype=torch.float64, device=device)
        self.graphs = {}  # CUDA graphs of _draw_next, by the number of rows
        self.pool = None  # the memory of all graphs; the first one makes it

    def admit(self, waiting):
        """Reads prompts from `waiting` (a deque, see _waiting) while there are rows for the next.

        Draws the first token of their sequences. Returns the sequences that ended with it."""
        ended = []
        while batch := self._next_prompts(waiting):
            ended += self._read(batch)
        return ended

    def decode(self):
        """Draws the next tokens of all that run, LOOK_EVERY of them. Returns what ended: a list."""
        if not self.running:
            return []
        n = len(self.running)
        longest = max(map(len, self.running))
        self.positions[n:] = 0  # a graph may feed free rows; they look at a few keys only
        drawn = []
        for ahead in range(LOOK_EVERY[self.model.device.type]):
            if self._uses_graphs():
                self._replay(n)
            else:
                self._draw_next(n, min(longest + ahead, self.cache.capacity))
            drawn.append((self.tokens[:n].clone(), self.logps[:n].clone()))
        return self._look(0, drawn)

    def _next_prompts(self, waiting):
        """Takes what is read in one forward: a list of lists of sequences."""
        batch = []
        free = len(self.tokens) - len(self.running)
        while waiting:
            siblings = waiting[0]
            entering = siblings[:free]
            if 2 * len(entering) < len(siblings):
                break  # too few to read the prompt for them, as it is read again for the others
            longest = len(siblings[0])  # they are sorted
            if batch and (len(batch) + 1) * longest > READ_TOKENS:
                break
            batch.append(entering)
            free -= len(entering)
            waiting[0] = siblings[len(entering) :]
            if not waiting[0]:
                waiting.popleft()
        return batch

    def _read(self, batch):
        """Feeds prompts, each once, into the next free rows, and draws what follows them."""
        device = self.model.device
        prompts = [siblings[0].request.group.prompt for siblings in batch]
        sequences = []
        prompt_of_row = []
        for number, siblings in enumerate(batch):
            sequences += siblings
            prompt_of_row += [number] * len(siblings)
        first = len(self.running)
        rows = slice(first, first + len(sequences))
        prompt_of_row = torch.tensor(prompt_of_row, device=device)
        # the position of each row's last token
        last = torch.tensor([len(sequence) - 1 for sequence in sequences], device=device)
        self.running += sequences
        self.positions[rows] = last + 1
        self.uniform[rows] = self._random_numbers(sequences).to(device)
        uniform = self.uniform[rows].gather(1, last[:, None])[:, 0]

        # Padded on the right: what lies behind a prompt's end is rubbish that nothing sees before
        # the sequence's own tokens overwrite it.
        tokens = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True).to(device)  # [P, S]
        positions = torch.arange(tokens.shape[1], device=device).expand_as(tokens)
        # A prompt longer than READ_TOKENS, which is alone in its batch, is read in several pieces.
        for start in range(0, tokens.shape[1], READ_TOKENS):
            piece = slice(start, start + READ_TOKENS)
            drawn, logps = self.model(
                tokens[:, piece],
                positions[:, piece],
                self.cache.reading(rows, prompt_of_row, start),
                rows=(prompt_of_row, (last - start).clamp(max=READ_TOKENS - 1)),
                temperature=self.settings.temperature or 1.0,
                uniform=uniform,
            )
        self.tokens[rows] = drawn
        return self._look(first, [(drawn, logps)])

    def _draw_next(self, n, end):
        """Feeds the last token of rows 0 to n - 1 and draws the next one, in place.

        end: one more than the largest position, which a GPU need not be asked for."""
        tokens = self.tokens[:n]
        positions = self.positions[:n]
        drawn, logps = self.model(
            tokens,
            positions,
            self.cache.decoding(positions, end),
            temperature=self.settings.temperature or 1.0,
            uniform=self.uniform[:n].gather(1, positions[:, None])[:, 0],
        )
        tokens.copy_(drawn)
        self.logps[:n] = logps
        # Only a sequence that has ended, unseen so far, goes past its row.
        positions.add_(1).clamp_(max=self.cache.capacity - 1)

    def _uses_graphs(self):
        """Experts are chosen by tokens, and a graph holds no choice."""
        return self.model.device.type == "cuda" and not self.model.config.num_experts

    def _replay(self, n):
        """_draw_next as a CUDA graph: one launch in place of thousands.

        The number of rows is rounded up, so that there are few graphs: each takes time to capture,
        and up to 16 rows cost little more than one. What the other rows draw is rubbish that
        nothing sees."""
        n = min(16 * triton.cdiv(n, 16), len(self.tokens))
        if n not in self.graphs:
            self.graphs[n] = self._captured(n)
        self.graphs[n].replay()

    def _captured(self, n):
        """The graph, captured; the rows are as before.

        A graph saves the host's time for a launch, not the GPU's, which small kernels feel: so
        what is captured is compiled. The first graph of a process waits for that."""
        before = self.tokens.clone(), self.positions.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        graph = torch.cuda.CUDAGraph()
        with compiled_blocks(self.model):
            with torch.cuda.stream(stream):  # compiles and allocates, which a capture must not
                self._draw_next(n, self.cache.capacity)
            torch.cuda.current_stream().wait_stream(stream)
            # Graphs may share memory: one runs at a time, and what is left for the next is in the
            # engine's own tensors.
            with torch.cuda.graph(graph, pool=self.pool):
                self._draw_next(n, self.cache.capacity)
        self.pool = graph.pool()
        self.tokens.copy_(before[0])
        self.positions.copy_(before[1])
        return graph

    def _look(self, first, drawn):
        """Gives the sequences of rows first, first + 1, ... what was drawn for them.

        drawn: (tokens, log-probs) of each step. Frees the rows of those that ended and returns
        them: a list."""
        token_steps, logp_steps = zip(*drawn)
        all_tokens = torch.stack(token_steps, 1).tolist()  # by sequence
        all_logps = torch.stack(logp_steps, 1).tolist()
        ended = []
        for sequence, tokens, logps in zip(self.running[first:], all_tokens, all_logps):
            for token, logp in zip(tokens, logps):
                if not sequence.finished:
                    self._append(sequence, token, logp)
            if sequence.finished:
                ended.append(sequence)
        if ended:
            self._close_gaps()
        return ended

    def _append(self, sequence, token, logp):
        if math.isnan(logp):
            raise ValueError(
                f"the model's logits are NaN, so nothing can be sampled: at token "
                f"{len(sequence.tokens)} of sequence {sequence.number}; its weights are broken, or "
                "its activations overflow"
            )
        sequence.tokens.append(token)
        sequence.logps.append(logp)
        truncated = len(sequence.tokens) == self.settings.max_new_tokens
        sequence.finished = token in self.settings.eos_ids or truncated

    def _close_gaps(self):
        """Moves the last rows into those of finished sequences."""
        kept = [row for row, sequence in enumerate(self.running) if not sequence.finished]
        n = len(kept)
        gaps = [row for row in range(n) if self.running[row].finished]
        movers = kept[n - len(gaps) :]
        for gap, mover in zip(gaps, movers):
            self.running[gap] = self.running[mover]
        del self.running[n:]
        if gaps:
            gaps = torch.tensor(gaps, device=self.model.device)
            movers = torch.tensor(movers, device=self.model.device)
            self.cache.move(movers, gaps)
            for state in (self.tokens, self.positions, self.uniform):
                state[gaps] = state[movers]

    def _random_numbers(self, sequences):
        """What draws the token after each position: float64 [sequences, C], in [0, 1) or GREEDY.

        Each row is from a generator of its own."""
        rows = np.zeros((len(sequences), self.cache.capacity))
        for row, sequence in zip(rows, sequences):
            generator = np.random.default_rng([self.settings.seed, sequence.number])
            last = len(sequence) - 1  # of the prompt
            numbers = generator.random(self.settings.max_new_tokens)
            row[last : last + len(numbers)] = numbers
        if self.settings.temperature == 0:
            rows[:] = GREEDY
        return torch.from_numpy(rows)


class KVCache:
    """Keys and values of R sequences, and the two kinds of attention of Transformer.forward that
    use them. The slot of a token is its position."""

    def __init__(self, config, rows: int, capacity: int, device, dtype):
        self.capacity = capacity
        self.windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
        self.causal = causal_attention(config)
        self.layers = []  # pairs of keys and values, [R, K, C, E]
        shape = (rows, config.num_key_value_heads, capacity, config.head_dim)
        for _ in self.windows:
            keys = torch.zeros(shape, device=device, dtype=dtype)
            self.layers.append((keys, torch.zeros_like(keys)))

    def reading(self, rows, prompt_of_row, start):
        """attend of prompts, positions start to start + S: q [P, S, H, E], k and v [P, S, K, E].

        rows: the slice of rows that begin with them; prompt_of_row: which prompt each has, int64.
        """

        def attend(layer, q, k, v):
            end = start + k.shape[1]
            keys, values = self.layers[layer]
            keys[rows, :, start:end] = k[prompt_of_row].transpose(1, 2)
            values[rows, :, start:end] = v[prompt_of_row].transpose(1, 2)
            if start == 0:
                return self.causal(layer, q, k, v)
            # a piece of a prompt, which is alone: its first pieces lie in the cache
            slots = torch.arange(end, device=q.device)
            mask = causal_mask(slots[start:], slots, self.windows[layer])
            first = slice(rows.start, rows.start + 1)
            keys = keys[first, :, :end].transpose(1, 2)
            values = values[first, :, :end].transpose(1, 2)
            return sdpa(q, keys, values, attn_mask=mask)

        return attend

    def decoding(self, positions, end):
        """attend of one token for each of rows 0 to n - 1: q [n, H, E], k and v [n, K, E].

        positions: int64 [n]; end: one more than the largest."""
        n = len(positions)
        row = torch.arange(n, device=positions.device)
        lengths = positions + 1

        def attend(layer, q, k, v):
            keys, values = self.layers[layer]
            keys[row, :, positions] = k
            values[row, :, positions] = v
            window = self.windows[layer]
            return decode_attention(q, keys[:n, :, :end], values[:n, :, :end], lengths, window)

        return attend

    def move(self, movers, gaps):
        """Copies the rows `movers` over the rows `gaps`, int64 [rows] both."""
        for keys, values in self.layers:
            keys[gaps] = keys[movers]
            values[gaps] = values[movers]
