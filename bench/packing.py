"""Groups packed with one shared prompt (groups.token_logprobs) against padded responses.

    python bench/packing.py                                 Qwen3-0.6B's shape in bf16 on CUDA,
                                                            5M parameters in fp32 on the CPU
    OMP_NUM_THREADS=1 python bench/packing.py --repeats 5   steadier on a CPU that others use too

Three ways to the same log-probs, forward + backward, interleaved in one run: packed; padded to one
plain causal batch [k, P + max R], every response with its own copy of the prompt; one response
after the other, without padding. The head runs on the response tokens only in all three.
Two cases: on-policy groups (P 512, 4 responses up to 512) and IR groups (P 256, 2 winners and 2
losers up to 1,024), two groups each, lengths uneven; halved on the CPU.
"ideal" is the ratio of FLOPs, "measured" the ratio of times; the target is 80 % of ideal. Peak is
beyond parameters and their gradients: the allocator's on CUDA, the growth of ru_maxrss in a fresh
process on the CPU. On CUDA a second table compares the two packed attentions. Prints tables, then
a line of JSON. Exit code 1 if log-probs of two ways differ by more than 1e-3 in fp32.
Left out: activation checkpointing, FSDP, FlexAttention.
"""

import argparse
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.head import DEVICE, environment, isolated, medians_ms, peak_bytes, print_table
from bench.shapes import SHAPES
from groups import Group, _attend_each, _attend_varlen, _pack, _varlen_is_right, token_logprobs
from model import Transformer, causal_attention

CONFIG = SHAPES[{"cuda": "Qwen3-0.6B", "cpu": "5M"}[DEVICE]]
SCALE = {"cuda": 1, "cpu": 2}[DEVICE]
DEFAULT_DTYPE = {"cuda": "bfloat16", "cpu": "float32"}[DEVICE]
DEFAULT_REPEATS = {"cuda": 10, "cpu": 3}[DEVICE]


@dataclass
class Case:
    name: str
    prompt_tokens: int
    longest_response: int


CASES = [Case("on-policy", 512 // SCALE, 512 // SCALE), Case("IR", 256 // SCALE, 1024 // SCALE)]
WAYS = ["packed", "padded", "one by one"]
TOLERANCE = 1e-3  # of log-probs in fp32


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--dtype", default=DEFAULT_DTYPE, help="%(default)s")
    parser.add_argument("--repeats", type=int, default=DEFAULT_REPEATS, help="%(default)s")
    args = parser.parse_args()
    peaks_mib = {}  # first: a fresh process starts from this one's ru_maxrss
    for case in CASES:
        for way in ("packed", "padded"):
            peaks_mib[case.name, way] = isolated(peak, way, case, args.dtype) / 2**20
    rows, attentions = {}, {}
    for case in CASES:
        problem = make_problem(case, args.dtype)
        ms, differences = measure(problem, args.repeats)
        for way in WAYS:
            row = table_row(way, problem.groups, ms)
            row["peak MiB"] = peaks_mib.get((case.name, way), "")
            row["max difference to packed"] = differences[way]
            rows[f"{case.name}, {way}"] = row
        if "varlen" in ms:
            attentions[case.name] = {
                "varlen ms": ms["varlen"],
                "each ms": ms["each"],
                "max difference": differences["varlen to each"],
            }
    result = {
        "bench": "packing",
        **environment(),
        **vars(args),
        "parameters": sum(p.numel() for p in problem.model.parameters()),
    }
    for key, value in result.items():
        print(f"{key}: {value}")
    print_table("case, way (forward + backward)", rows)
    if attentions:
        print_table("packed attention", attentions)
    print("\n" + json.dumps({**result, "rows": rows, "attentions": attentions}))
    agree = all(row["max difference to packed"] <= TOLERANCE for row in rows.values())
    return int(args.dtype == "float32" and not agree)


@dataclass
class Problem:
    model: Transformer  # with .grad in place
    groups: list
    upstream: torch.Tensor  # [N] float32: gradient of each response token's log-prob


def make_problem(case, dtype) -> Problem:
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = Transformer(CONFIG)
    model = model.to(DEVICE, getattr(torch, dtype))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    lengths = [response_lengths(case), response_lengths(case)]
    groups = []
    for lengths_of_group in lengths:
        prompt = random_tokens(case.prompt_tokens)
        groups.append(Group(prompt, list(map(random_tokens, lengths_of_group))))
    upstream = torch.randn(sum(map(sum, lengths)), device=DEVICE)
    return Problem(model, groups, upstream)


def response_lengths(case):
    shares = 0.25 + 0.75 * torch.rand(3)
    return [case.longest_response, *(case.longest_response * shares).int().tolist()]


def random_tokens(n, vocab_size=CONFIG.vocab_size):
    return torch.randint(vocab_size, (n,))


def measure(problem, repeats):
    """-> {way: ms} and {way: largest difference of its log-probs to those of packed}."""
    ways = list(WAYS)
    device, dtype = problem.model.device, problem.model.dtype
    if DEVICE == "cuda" and dtype != torch.float32 and _varlen_is_right(device, dtype):
        ways += ["varlen", "each"]
    runs = {way: functools.partial(run, way, problem) for way in ways}
    logps = {way: forward_backward() for way, forward_backward in runs.items()}  # and warm-up
    ms = medians_ms(runs, repeats)
    differences = {way: max_difference(logps[way], logps["packed"]) for way in WAYS}
    if "varlen" in ways:
        differences["varlen to each"] = max_difference(logps["varlen"], logps["each"])
    return ms, differences


def max_difference(a, b):
    return (a - b).abs().max().item()


def table_row(way, groups, ms):
    packed, work = count_work("packed", groups), count_work(way, groups)
    ideal = work.flops / packed.flops
    measured = ms[way] / ms["packed"]
    return {
        "tokens": work.tokens,
        "GFLOP": work.flops / 1e9,
        "ms": ms[way],
        "ideal ratio": ideal,
        "measured ratio": measured,
        "measured / ideal %": 100 * measured / ideal,
    }


def peak(way, case, dtype):
    """Bytes that one forward + backward needs beyond parameters and gradients."""
    problem = make_problem(case, dtype)
    short = [Group(group.prompt[:4], [y[:4] for y in group.responses]) for group in problem.groups]
    short_tokens = 4 * sum(len(group.responses) for group in short)
    run(way, Problem(problem.model, short, problem.upstream[:short_tokens]))  # loads libraries
    return peak_bytes(lambda: run(way, problem))


# ------------------------------------------------------------------------------------ three ways


def run(way, problem):
    """Forward and backward; -> log-probs [N]."""
    if way == "one by one":
        return one_by_one(problem)
    model, groups = problem.model, problem.groups
    if way == "packed":
        logp = torch.cat([y for ys in token_logprobs(model, groups) for y in ys])
    elif way == "padded":
        logp = padded(model, groups)
    else:
        logp = packed(model, groups, {"varlen": _attend_varlen, "each": _attend_each}[way])
    logp.backward(problem.upstream)
    return logp.detach()


def packed(model, groups, make_attend):
    """token_logprobs with the attention that is asked for: [N]."""
    row = _pack(groups, model.device)
    attend = make_attend(row.spans, model.device, model.config.window)
    return model(row.tokens, row.positions, attend, row.predictors, row.targets)


def padded(model, groups):
    """One plain causal batch, padded on the right: [N]."""
    sequences, row_indices, column_indices, targets = [], [], [], []
    for group in groups:
        before_response = len(group.prompt) - 1
        for response in group.responses:
            r = len(response)
            row_indices.append(torch.full((r,), len(sequences)))
            column_indices.append(torch.arange(before_response, before_response + r))
            sequences.append(torch.cat([group.prompt, response]))
            targets.append(response)
    tokens = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True).to(model.device)
    positions = torch.arange(tokens.shape[1], device=model.device).expand_as(tokens)
    rows = tuple(torch.cat(i).to(model.device) for i in (row_indices, column_indices))
    targets = torch.cat(targets).to(model.device)
    return model(tokens, positions, causal_attention(model.config), rows, targets)


def one_by_one(problem):
    """One graph at a time, as one would."""
    logps = []
    start = 0
    for group in problem.groups:
        for response in group.responses:
            stop = start + len(response)
            upstream = problem.upstream[start:stop]
            piece = Group(group.prompt, [response])
            logps.append(run("padded", Problem(problem.model, [piece], upstream)))
            start = stop
    return torch.cat(logps)


# ------------------------------------------------------------------------------------------ FLOPs


@dataclass
class Work:
    tokens: int
    flops: int


def count_work(way, groups) -> Work:
    """FLOPs of a forward + backward, counted once each as the mathematics needs them.

    In the layers 6 a weight and token; in attention 12 a query-key pair, head and channel (q k and
    p v, twice that in backward); in the head 8 a weight and response token (it recomputes its
    logits). Padding counts, masked pairs do not."""
    c = CONFIG
    lengths = [len(group.prompt) + len(y) for group in groups for y in group.responses]
    if way == "padded":
        lengths = [max(lengths)] * len(lengths)
    tokens = sum(lengths)
    pairs = sum(map(triangle, lengths))
    response_tokens = 0
    for group in groups:
        prompt_tokens = len(group.prompt)
        response_tokens += len(group) - prompt_tokens
        if way == "packed":  # the prompt is computed once
            copies_saved = len(group.responses) - 1
            tokens -= copies_saved * prompt_tokens
            pairs -= copies_saved * triangle(prompt_tokens)
    heads = c.num_attention_heads + c.num_key_value_heads
    weights_of_layer = c.hidden_size * (3 * c.intermediate_size + 2 * c.head_dim * heads)
    attention = 12 * pairs * c.num_attention_heads * c.head_dim
    layers = c.num_hidden_layers * (6 * weights_of_layer * tokens + attention)
    head = 8 * c.hidden_size * c.vocab_size * response_tokens
    return Work(tokens, layers + head)


def triangle(n):
    """Query-key pairs of a causal sequence of n tokens."""
    return n * (n + 1) // 2


if __name__ == "__main__":
    sys.exit(main())
