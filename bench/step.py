"""One training step, part by part: seconds, tokens a second, and the share of the rate of a plain matrix product (MFU).

    python bench/step.py [--engine recompute compile]        Qwen3-0.6B's shape on CUDA, 5M parameters on the CPU
    torchrun --nproc_per_node=8 bench/step.py                sharded over eight

train.py's own off_policy_half and on_policy_half, its sharding and its optimiser, on random weights and made-up tokens:
eight IR groups of 2 + 2 and eight samples of two prompts, up to 4,096 tokens each with their prompt (256 on the CPU). FLOPs:
2 a weight and token in a forward, 4 more in the backward (recomputed activations are not counted), and attention's, 4 x
heads x head_dim x keys seen. The floor is a large matrix product in the compute dtype on every rank, measured in the same
run. Prints a table, then a line of JSON. Left out: sampling and judging.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import train
from bench.head import DEVICE, environment, print_table
from bench.packing import CONFIG
from config import Config
from distributed import ranks
from groups import Group, frozen_logprobs
from model import ModelConfig, Transformer, save_model

SCALE = {"cuda": 1, "cpu": 16}[DEVICE]


def synchronise():
    ranks.barrier()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def matmul_rate(dtype):
    """FLOPs a second of a square matrix product, the best of ten."""
    n = {"cuda": 8192, "cpu": 1024}[DEVICE]
    a, best = torch.randn(n, n, device=DEVICE, dtype=dtype), float("inf")
    for _ in range(10):
        synchronise()
        at = time.perf_counter()
        a @ a
        synchronise()
        best = min(best, time.perf_counter() - at)
    return 2 * n**3 / best


def flops(config, n, groups):
    """Of one forward over packed groups: every weight but the embedding for every token, the head for response tokens only."""
    head = config.vocab_size * config.hidden_size
    blocks = n - head * (1 if config.tie_word_embeddings else 2)
    total = 0
    for group in groups:
        p, sizes = len(group.prompt), [len(y) for y in group.responses]
        seen = p * p / 2 + sum(r * p + r * r / 2 for r in sizes)
        total += (
            2 * blocks * len(group)
            + 2 * head * sum(sizes)
            + 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers * seen
        )
    return total


def data(vocab):
    draw, g = lambda n: torch.randint(vocab, (int(n),)), torch.Generator().manual_seed(0)
    length = lambda most: most * (0.5 + 0.5 * torch.rand((), generator=g))
    made = lambda prompt, count: [
        Group(draw(prompt), [draw(length(4096 // SCALE - prompt)) for _ in range(4)])
        for _ in range(count)
    ]
    return made(512 // SCALE, 8), made(1024 // SCALE, 2)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine", nargs="*", default=[], choices=("recompute", "offload", "compile")
    )
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device, folder = ranks.start(), ranks.broadcast_from_rank_0(tempfile.mkdtemp)
    c = Config(engine=tuple(args.engine), token_budget=16_384 // SCALE)
    torch.manual_seed(0)
    config = ModelConfig(tie_word_embeddings=True, **CONFIG)
    save_model(Transformer(config).to(torch.bfloat16), folder)
    ranks.barrier()
    model, reference = train.load(c, folder, device), train.load(c, folder, device, frozen=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=DEVICE == "cuda" or None)
    ranks.barrier()
    if ranks.rank() == 0:
        shutil.rmtree(folder)
    n = sum(p.numel() for p in model.parameters())
    ir, samples = data(config.vocab_size)
    winner, ref = [torch.tensor([True, True, False, False])] * len(ir), [torch.zeros(4)] * len(ir)
    constant = lambda value: [
        [torch.full((len(y),), value) for y in group.responses] for group in samples
    ]
    mine = lambda of: [of[i] for i in ranks.share_of(len(of))]
    own = lambda of: [
        [x for k, x in enumerate(xs, 4 * g) if k in ranks.share_of(8)] for g, xs in enumerate(of)
    ]
    cut = lambda of: [
        Group(group.prompt, ys) for group, ys in zip(of, own([group.responses for group in of]))
    ]

    def adamw():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    parts = {
        "off-policy half": (
            8,
            ir,
            lambda: train.off_policy_half(model, c, mine(ir), mine(winner), mine(ref)),
        ),
        "log-probs, pi_old and pi_ref": (
            4,
            samples,
            lambda: [frozen_logprobs(m, cut(samples), c.token_budget) for m in (model, reference)],
        ),
        "on-policy half": (
            6,
            samples,
            lambda: train.on_policy_half(
                model, c, cut(samples), own(constant(-9.0)), own(constant(1.0))
            ),
        ),
        "clip and AdamW": (0, [], adamw),
    }
    rate, seconds = ranks.world_size() * matmul_rate(model.dtype), {part: [] for part in parts}
    for _ in range(args.repeats + 1):  # the first warms up
        for part, (_, _, run) in parts.items():
            synchronise()
            at = time.perf_counter()
            run()
            synchronise()
            seconds[part].append(time.perf_counter() - at)
    rows = {}
    for part, (passes, groups, _) in parts.items():
        s, work = statistics.median(seconds[part][1:]), passes / 2 * flops(config, n, groups)
        rows[part] = {
            "s": s,
            "tokens/s": sum(map(len, groups)) / s,
            "TFLOP/s": work / s / 1e12,
            "MFU": work / s / rate,
            "work": work,
            "tokens": sum(map(len, groups)),
        }
    s, work, all_tokens = (sum(row[k] for row in rows.values()) for k in ("s", "work", "tokens"))
    rows["step"] = {
        "s": s,
        "tokens/s": all_tokens / s,
        "TFLOP/s": work / s / 1e12,
        "MFU": work / s / rate,
    }
    if ranks.rank() == 0:
        print(
            f"{n / 1e6:.1f}M parameters, {model.dtype}, {ranks.world_size()} rank(s), engine {args.engine or 'plain'}; a matrix product: {rate / 1e12:.3g} TFLOP/s; "
            f"memory at most {train.peak_memory(device):.2f} GiB a rank"
        )
        print_table(
            "part",
            {
                part: {k: v for k, v in row.items() if k not in ("work", "tokens")}
                for part, row in rows.items()
            },
        )
        print(
            json.dumps(
                {
                    **environment(),
                    "ranks": ranks.world_size(),
                    "engine": args.engine,
                    "memory_gib": train.peak_memory(device),
                    "step": rows["step"],
                }
            )
        )
    ranks.shut_down()


if __name__ == "__main__":
    ranks.report_rank_failure(main)()
