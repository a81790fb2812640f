"""Groups packed with one shared prompt (groups.token_logprobs) against every response padded with its own copy of it.

    python bench/packing.py                                  Qwen3-0.6B's shape in bf16 on CUDA, 5M parameters in fp32 on the CPU
    OMP_NUM_THREADS=1 python bench/packing.py --repeats 5    steadier on a CPU that others use too

Three ways to the same log-probs, forward + backward, interleaved in one run: packed; padded to one plain causal batch
[k, P + max R]; one response after the other, without padding. The head runs on the response tokens only in all three.
Two cases: on-policy groups (P 512, 4 responses up to 512) and IR groups (P 256, 2 winners and 2 losers up to 1,024), two
groups each, lengths uneven; halved on the CPU. Ideal is the ratio of FLOPs, measured the ratio of times; the target is
80 % of ideal. Peak is beyond parameters and their gradients: the allocator's on CUDA, the growth of ru_maxrss in a fresh
process on the CPU. Ends with 1 if log-probs of two ways differ by more than 1e-3 in fp32. On CUDA a second table compares
the two packed attentions. Prints tables, then a line of JSON. Left out: activation checkpointing, FSDP, FlexAttention.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.head import DEVICE, environment, isolated, medians_ms, peak_bytes, print_table
from groups import Group, _attend_each, _attend_varlen, _pack, _varlen_is_right, token_logprobs
from model import ModelConfig, Transformer, causal_attention

CONFIG = {
    "cuda": dict(
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        rope_theta=1e6,
    ),
    "cpu": dict(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
    ),
}[DEVICE]
SCALE = {"cuda": 1, "cpu": 2}[DEVICE]
CASES = {
    "on-policy": (512 // SCALE, 512 // SCALE),
    "IR": (256 // SCALE, 1024 // SCALE),
}  # P, longest response


def make(case, dtype):
    """-> model with .grad in place, groups, upstream gradient of every response token."""
    torch.manual_seed(0)
    model, (p, longest) = (
        Transformer(ModelConfig(tie_word_embeddings=True, **CONFIG)).to(
            DEVICE, getattr(torch, dtype)
        ),
        CASES[case],
    )
    for x in model.parameters():
        x.grad = torch.zeros_like(x)
    draw = lambda n: torch.randint(CONFIG["vocab_size"], (n,))
    lengths = [
        [longest, *(longest * (0.25 + 0.75 * torch.rand(3))).int().tolist()] for _ in range(2)
    ]
    groups = [Group(draw(p), [draw(n) for n in of]) for of in lengths]
    return model, groups, torch.randn(sum(map(sum, lengths)), device=DEVICE)


# ---------------------------------------------------------------------------------------------- three ways


def packed(model, groups, attend=None):
    if attend:
        tokens, positions, rows, targets = _pack(groups, model.device)
        return model(tokens, positions, attend(groups, model.device, model.config), rows, targets)
    return torch.cat(sum(token_logprobs(model, groups), []))


def padded(model, groups):
    sequences = [(group.prompt, y) for group in groups for y in group.responses]
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.cat(pair) for pair in sequences], batch_first=True
    ).to(model.device)
    rows = [
        (torch.full((len(y),), i), len(p) - 1 + torch.arange(len(y)))
        for i, (p, y) in enumerate(sequences)
    ]
    rows = tuple(
        torch.cat(of).to(model.device) for of in zip(*rows)
    )  # (sequence, position) of every row
    targets = torch.cat([y for _, y in sequences]).to(model.device)
    return model(
        tokens,
        torch.arange(tokens.shape[1], device=model.device).expand_as(tokens),
        causal_attention(model.config),
        rows,
        targets,
    )


def run(way, model, groups, upstream):
    """Forward and backward; -> log-probs [N]."""
    if way == "one by one":  # one graph at a time, as one would
        pieces = [Group(group.prompt, [y]) for group in groups for y in group.responses]
        upstreams = upstream.split([len(piece.responses[0]) for piece in pieces])
        return torch.cat(
            [run("padded", model, [piece], of) for piece, of in zip(pieces, upstreams)]
        )
    logp = {
        "packed": packed,
        "padded": padded,
        "varlen": functools.partial(packed, attend=_attend_varlen),
        "each": functools.partial(packed, attend=_attend_each),
    }[way](model, groups)
    logp.backward(upstream)
    return logp.detach()


def tokens_and_flops(way, groups):
    """FLOPs of a forward + backward, counted once each as the mathematics needs them: 6 a weight and token in the layers;
    in attention 12 a query-key pair, head and channel (q k and p v, twice that in backward); in the head 8 a weight and
    response token (it recomputes its logits). Padding counts, masked pairs do not."""
    c, triangle = CONFIG, lambda n: n * (n + 1) // 2
    layer = c["hidden_size"] * (
        3 * c["intermediate_size"]
        + 2 * c["head_dim"] * (c["num_attention_heads"] + c["num_key_value_heads"])
    )
    sizes = [(len(group.prompt), [len(y) for y in group.responses]) for group in groups]
    if way == "packed":
        tokens = sum(map(len, groups))
        pairs = sum(triangle(p) + sum(triangle(p + r) - triangle(p) for r in rs) for p, rs in sizes)
    else:
        lengths = [p + r for p, rs in sizes for r in rs]
        lengths = [max(lengths)] * len(lengths) if way == "padded" else lengths
        tokens, pairs = sum(lengths), sum(map(triangle, lengths))
    response_tokens = sum(sum(rs) for _, rs in sizes)
    attention = 12 * pairs * c["num_attention_heads"] * c["head_dim"]
    return tokens, c["num_hidden_layers"] * (6 * layer * tokens + attention) + 8 * c[
        "hidden_size"
    ] * c["vocab_size"] * response_tokens


def peak(way, case, dtype):
    model, groups, upstream = make(case, dtype)
    short = [Group(group.prompt[:4], [y[:4] for y in group.responses]) for group in groups]
    run(
        way, model, short, upstream[: 4 * sum(len(group.responses) for group in short)]
    )  # loads libraries
    return peak_bytes(lambda: run(way, model, groups, upstream))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--dtype", default={"cuda": "bfloat16", "cpu": "float32"}[DEVICE], help="%(default)s"
    )
    parser.add_argument(
        "--repeats", type=int, default={"cuda": 10, "cpu": 3}[DEVICE], help="%(default)s"
    )
    args = parser.parse_args()
    ways, rows, attentions = ("packed", "padded", "one by one"), {}, {}
    peaks = {
        (case, way): isolated(peak, way, case, args.dtype) / 2**20
        for case in CASES
        for way in ways[:2]
    }
    for case in CASES:
        model, groups, upstream = make(case, args.dtype)
        both = (
            DEVICE == "cuda"
            and args.dtype != "float32"
            and _varlen_is_right(model.device, getattr(torch, args.dtype))
        )
        runs = {
            way: functools.partial(run, way, model, groups, upstream)
            for way in ways + ("varlen", "each") * both
        }
        logps = {way: f() for way, f in runs.items()}  # also the warm-up
        ms = medians_ms(runs, args.repeats)
        off = lambda a, b: (logps[a] - logps[b]).abs().max().item()
        base = tokens_and_flops("packed", groups)[1]
        for way in ways:
            tokens, flops = tokens_and_flops(way, groups)
            ideal, measured = flops / base, ms[way] / ms["packed"]
            rows[f"{case}, {way}"] = {
                "tokens": tokens,
                "GFLOP": flops / 1e9,
                "ms": ms[way],
                "ideal ratio": ideal,
                "measured ratio": measured,
                "measured / ideal %": 100 * measured / ideal,
                "peak MiB": peaks.get((case, way), ""),
                "max difference to packed": off(way, "packed"),
            }
        if "varlen" in ms:
            attentions[case] = {
                "varlen ms": ms["varlen"],
                "each ms": ms["each"],
                "max difference": off("varlen", "each"),
            }
    result = {
        "bench": "packing",
        **environment(),
        **vars(args),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    print("\n".join(f"{key}: {value}" for key, value in result.items()))
    print_table("case, way (forward + backward)", rows)
    if attentions:
        print_table("packed attention", attentions)
    print("\n" + json.dumps({**result, "rows": rows, "attentions": attentions}))
    return int(
        args.dtype == "float32"
        and not all(row["max difference to packed"] <= 1e-3 for row in rows.values())
    )


if __name__ == "__main__":
    sys.exit(main())
