"""One training step, part by part: seconds, tokens a second, and MFU.

    python bench/step.py [--engine recompute compile]   Qwen3-0.6B's shape on CUDA, 5M parameters
                                                        on the CPU
    python bench/step.py --shape Qwen3-8B --layers 8    as much of an 8B model as one GPU trains
    torchrun --nproc_per_node=8 bench/step.py           sharded over eight

train.py's own off_policy_half and on_policy_half, its sharding and its optimiser, on random weights
and made-up tokens: eight IR groups of 2 + 2 and eight samples of two prompts, up to 4,096 tokens
each with their prompt (256 on the CPU).
MFU is the share of the rate of a plain matrix product: a large one in the compute dtype on every
rank, measured in the same run. FLOPs: 2 a weight and token in a forward, 4 more in the backward
(recomputed activations are not counted), and attention's, 4 x heads x head_dim x keys seen.
Prints a table, then a line of JSON. Left out: sampling and judging.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import train
from bench.head import DEVICE, environment, print_table
from bench.packing import random_tokens
from bench.shapes import add_shape_flags, shape_of
from config import Config
from distributed import ranks
from groups import Group, frozen_logprobs
from model import Transformer, save_model
from training.inputs import IRGroup
from training.log import peak_memory_gib
from training.run import load_policy
from training.samples import Sample, column, group_by_prompt

SCALE = {"cuda": 1, "cpu": 16}[DEVICE]
SEQUENCE_TOKENS = 4096 // SCALE  # prompt and response, at most
MEMBERS = 4  # responses of a group: 2 + 2 IRs, or samples of a prompt


@dataclass
class Part:
    """A part of the step. forwards: its FLOPs in forwards of its groups; a backward is two."""

    name: str
    forwards: int
    groups: list
    run: Callable
    seconds: list = field(default_factory=list)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--engine", nargs="*", default=[], choices=("recompute", "offload", "compile")
    )
    parser.add_argument(
        "--rhat-dtype", default="float32", choices=("float32", "float64", "compute")
    )
    parser.add_argument("--repeats", type=int, default=5)
    add_shape_flags(parser, {"cuda": "Qwen3-0.6B", "cpu": "5M"}[DEVICE])
    args = parser.parse_args()
    device = ranks.start()
    folder = ranks.broadcast_from_rank_0(tempfile.mkdtemp)
    c = Config(engine=tuple(args.engine), token_budget=16_384 // SCALE, rhat_dtype=args.rhat_dtype)
    torch.manual_seed(0)
    shape = shape_of(args)
    with torch.device(device if ranks.world_size() == 1 else "cpu"):
        save_model(Transformer(shape).to(torch.bfloat16), folder)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ranks.barrier()
    model = load_policy(c, folder, device)
    reference = load_policy(c, folder, device, frozen=True)
    ranks.barrier()
    if ranks.rank() == 0:
        shutil.rmtree(folder)

    parts = make_parts(c, model, reference)
    matmul_flops_per_s = ranks.world_size() * matmul_rate(model.dtype)
    for _ in range(args.repeats + 1):
        for part in parts:
            part.seconds.append(seconds_of(part.run))
    n_parameters = sum(p.numel() for p in model.parameters())
    rows = table_rows(parts, shape, n_parameters, matmul_flops_per_s)
    if ranks.rank() == 0:
        memory_gib = peak_memory_gib(device)
        print(
            f"{n_parameters / 1e6:.1f}M parameters, {model.dtype}, {ranks.world_size()} rank(s), "
            f"engine {args.engine or 'plain'}, rhat in {args.rhat_dtype}; "
            f"a matrix product: {matmul_flops_per_s / 1e12:.3g} TFLOP/s; "
            f"memory at most {memory_gib:.2f} GiB a rank"
        )
        print_table("part", rows)
        result = {
            **environment(),
            "shape": args.shape,
            "layers": shape.num_hidden_layers,
            "ranks": ranks.world_size(),
            "engine": args.engine,
            "rhat_dtype": args.rhat_dtype,
            "memory_gib": memory_gib,
            "step": rows["step"],
        }
        print(json.dumps(result))
    ranks.shut_down()


def make_parts(c, model, reference) -> list[Part]:
    """The parts of a step in their order; what a part runs is this rank's share."""
    generator = torch.Generator().manual_seed(0)
    vocab_size = model.config.vocab_size
    winner = torch.tensor([True, True, False, False])
    ir_groups = []
    for _ in range(8):
        group = random_group(vocab_size, 512 // SCALE, generator)
        logp_ref = [torch.full((len(y),), -9.0) for y in group.responses]
        ir_groups.append(IRGroup(group, winner, logp_ref))
    own_ir_groups = [ir_groups[i] for i in ranks.share_of(len(ir_groups))]
    groups = [random_group(vocab_size, 1024 // SCALE, generator) for _ in range(2)]
    samples = made_up_samples(groups)
    own_samples = [samples[i] for i in ranks.share_of(len(samples))]
    by_prompt = group_by_prompt(own_samples)
    own_groups = [
        Group(of_prompt[0].prompt, column(of_prompt, "tokens")) for of_prompt in by_prompt
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=DEVICE == "cuda" or None)

    def off_policy():
        train.off_policy_half(model, c, own_ir_groups)

    def log_probs():
        for frozen in (model, reference):
            frozen_logprobs(frozen, own_groups, c.token_budget)

    def on_policy():
        train.on_policy_half(model, c, own_samples)

    def adamw():
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return [
        Part(
            "off-policy half", 4, column(ir_groups, "group"), off_policy
        ),  # without a graph, then with one
        Part("log-probs, pi_old and pi_ref", 2, groups, log_probs),
        Part("on-policy half", 3, groups, on_policy),
        Part("clip and AdamW", 0, [], adamw),
    ]


def made_up_samples(groups) -> list[Sample]:
    samples = []
    for prompt_index, group in enumerate(groups):
        for tokens in group.responses:
            sample = Sample(
                rank=ranks.rank(),
                prompt_index=prompt_index,
                problem_id="",
                target_language="",
                prompt=group.prompt,
                tokens=tokens,
                text="",
                truncated=False,
                logp_sampler=torch.full((len(tokens),), -9.0),
                logp_old=torch.full((len(tokens),), -9.0),
                advantage=torch.ones(len(tokens)),
            )
            samples.append(sample)
    return samples


def random_group(vocab_size, prompt_tokens, generator):
    """MEMBERS responses of half to all of the tokens that the prompt leaves."""
    prompt, responses = random_tokens(prompt_tokens, vocab_size), []
    for _ in range(MEMBERS):
        share = 0.5 + 0.5 * torch.rand((), generator=generator)
        length = int((SEQUENCE_TOKENS - prompt_tokens) * share)
        responses.append(random_tokens(length, vocab_size))
    return Group(prompt, responses)


def table_rows(parts, shape, n_parameters, matmul_flops_per_s):
    """{part: {column: value}}, the sum of all parts ("step") last."""
    rows = {}
    total_s, total_tokens, total_flops = 0.0, 0, 0.0

    def row(seconds, tokens, flops):
        return {
            "s": seconds,
            "tokens/s": tokens / seconds,
            "TFLOP/s": flops / seconds / 1e12,
            "MFU": flops / seconds / matmul_flops_per_s,
        }

    for part in parts:
        seconds = statistics.median(part.seconds[1:])  # the first warmed up
        tokens = sum(map(len, part.groups))
        flops = part.forwards * forward_flops(shape, n_parameters, part.groups)
        rows[part.name] = row(seconds, tokens, flops)
        total_s += seconds
        total_tokens += tokens
        total_flops += flops
    rows["step"] = row(total_s, total_tokens, total_flops)
    return rows


def forward_flops(shape, n_parameters, groups):
    """Of one forward over packed groups: every weight but the embedding for every token, the head
    for response tokens only."""
    head = shape.vocab_size * shape.hidden_size
    blocks = n_parameters - head * (1 if shape.tie_word_embeddings else 2)
    attention = 4 * shape.num_attention_heads * shape.head_dim * shape.num_hidden_layers
    total = 0
    for group in groups:
        p = len(group.prompt)
        keys_seen = p * p / 2
        for response in group.responses:
            r = len(response)
            keys_seen += r * p + r * r / 2
        total += 2 * blocks * len(group) + 2 * head * (len(group) - p) + attention * keys_seen
    return total


def matmul_rate(dtype):
    """FLOPs a second of a square matrix product, the best of ten."""
    n = {"cuda": 8192, "cpu": 1024}[DEVICE]
    matrix = torch.randn(n, n, device=DEVICE, dtype=dtype)
    return 2 * n**3 / min(seconds_of(lambda: matrix @ matrix) for _ in range(10))


def seconds_of(run):
    """From all ranks ready to all ranks done."""
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def synchronise():
    ranks.barrier()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    ranks.report_rank_failure(main)()
