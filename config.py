"""The flags of train.py, their defaults, and the plan it prints before it starts."""

import argparse
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

from distributed import ranks, sharding


def knob(default, text, **more):
    return field(default=default, metadata={"help": text, **more})


@dataclass
class Config:
    model: str = knob("", "directory of a Hugging Face checkpoint; the initial policy and pi_ref")
    problems: str = knob("", "translation problems with tests (problems.jsonl)")
    ir_groups: str = knob("", "IR groups (ir_groups.jsonl); not needed with --off-policy none")
    eval_problems: str = knob(
        "", "held-out problems, scored before and after; empty: no evaluation"
    )
    out: str = knob("", "folder of the run")
    steps: int = knob(0, "rollout batches to train on; 0: one epoch of the problems")
    seed: int = knob(0, "of data order and sampling")
    off_policy: str = knob("gepo", "preference half", choices=("gepo", "dpo", "none"))
    advantage: str = knob(
        "reinforce++",
        "on-policy half",
        choices=("reinforce++", "reinforce++-baseline", "grpo", "rloo"),
    )
    w_rl: float = knob(1.0, "weight of the policy loss, Eq. 10")
    w_gepo: float = knob(0.01, "weight of the preference loss, Eq. 10")
    lam: float = knob(1.0, "lambda, weight of the variance of the winners, Eq. 9")
    beta: float = knob(0.1, "beta of Eq. 3 and 9")
    gepo_logp: str = knob("sum", "log-prob of an IR: over its tokens", choices=("sum", "mean"))
    samples_per_prompt: int = knob(4, "translations sampled of each problem")
    rollout_batch: int = knob(8, "samples a step, over all prompts")
    gepo_batch: int = knob(8, "IR groups a step")
    kl_coef: float = knob(0.01, "k1 KL to pi_ref in the token reward, Eq. 1; 0: no reference pass")
    clip_eps: float = knob(0.2, "PPO clip, Eq. 5")
    inner_epochs: int = knob(
        1, "optimiser steps on each rollout batch, each with the same IR groups"
    )
    lr: float = knob(5e-7, "peak of AdamW's learning rate, cosine to 0")
    warmup_ratio: float = knob(0.03, "share of the steps in which the learning rate rises")
    temperature: float = knob(1.0, "of sampling, and of the log-probs in the on-policy half")
    max_length: int = knob(
        8192, "tokens of prompt and answer; longer problems and groups are left out, counted"
    )
    max_new_tokens: int = knob(4096, "tokens of a sampled answer")
    token_budget: int = knob(
        16384,
        "tokens of one forward and backward (a longer response goes alone); changes no gradient",
    )
    judge_workers: int = knob(
        max(1, os.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))),
        "programs that each rank judges at a time",
    )
    save_every: int = knob(100, "steps between checkpoints; the last two stay")
    resume: str = knob(
        "auto",
        "auto: continue what --out holds; only (or no word): fail if that is nothing; force: also with other "
        "settings",
        choices=("auto", "only", "force"),
    )
    engine: tuple = knob(
        (),
        "any of recompute (activations, in the backward), offload (weights, AdamW on the CPU), compile "
        "(torch.compile of the blocks)",
        choices=("recompute", "offload", "compile"),
    )


EMBEDDED = dict(
    model="toy/model",
    problems="toy/problems.jsonl",
    ir_groups="toy/ir_groups.jsonl",
    eval_problems="toy/heldout.jsonl",
    out="out/embedded",
    steps=80,
    lr=3e-4,
    rollout_batch=64,
    gepo_batch=4,
    w_gepo=1.0,
    gepo_logp="mean",
    max_length=448,
    max_new_tokens=192,
    token_budget=2048,
    save_every=10,
)  # why w_gepo and gepo_logp: dev/LOG.md, "Sum or mean"
PATHS = ("model", "problems", "ir_groups", "eval_problems", "out")
MAY_CHANGE = (
    "out",
    "judge_workers",
    "token_budget",
    "save_every",
    "resume",
    "engine",
)  # when a run is continued


def parse_config(argv) -> Config:
    """Flags -> Config. Without --model: the embedded world's values, where no flag says otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for f in fields(Config):
        kind = (
            dict(nargs="*")
            if f.type is tuple
            else dict(type=f.type, **(dict(nargs="?", const="only") if f.name == "resume" else {}))
        )
        parser.add_argument(
            "--" + f.name.replace("_", "-"),
            default=f.default,
            choices=f.metadata.get("choices"),
            **kind,
            help=f"{f.metadata['help']} (default: {f.default})".replace("%", "%%"),
        )
    if not parser.parse_args(argv).model:
        here = Path(__file__).parent
        parser.set_defaults(**{k: str(here / v) if k in PATHS else v for k, v in EMBEDDED.items()})
    c = Config(**vars(parser.parse_args(argv)))
    for name in ("problems", "out", *(() if c.off_policy == "none" else ("ir_groups",))):
        if not getattr(c, name):
            parser.error(f"--{name.replace('_', '-')} is needed with --model")
    least = dict(
        dict.fromkeys(
            (
                "samples_per_prompt",
                "rollout_batch",
                "gepo_batch",
                "inner_epochs",
                "max_length",
                "max_new_tokens",
                "token_budget",
                "judge_workers",
                "save_every",
            ),
            1,
        ),
        temperature=1e-3,
    )
    for f in fields(Config):
        value = getattr(c, f.name)
        if f.type in (int, float) and not least.get(f.name, 0) <= value < math.inf:
            parser.error(
                f"--{f.name.replace('_', '-')} is {value}; it must be at least {least.get(f.name, 0)}"
            )
    if c.rollout_batch % c.samples_per_prompt:
        parser.error(
            f"--rollout-batch {c.rollout_batch} must be a multiple of --samples-per-prompt {c.samples_per_prompt}"
        )
    return c


def memory(model, n, world, c, width=2, sharded=True) -> dict:
    """Bytes that a rank needs at most, part by part: model a ModelConfig of n parameters, `width` bytes of the compute dtype.

    training and sampling take turns, the other two stay (--engine offload: on the host, and not in the peak). A test holds
    all but the gathered weights against what tensors take; the allocator's slack and torch itself (about 1 GiB) are left out."""
    d, f, kv = (
        model.hidden_size,
        model.intermediate_size,
        model.num_key_value_heads * model.head_dim,
    )
    block = (
        n - model.vocab_size * d * (1 if model.tie_word_embeddings else 2)
    ) // model.num_hidden_layers
    layer = (
        width
        * c.token_budget
        * (8 * d + 4 * f + 6 * model.num_attention_heads * model.head_dim + 7 * kv)
    )  # kept for the backward
    recompute = "recompute" in c.engine
    activations = (
        layer + width * d * c.token_budget * model.num_hidden_layers
        if recompute
        else layer * model.num_hidden_layers
    )
    # gathered: two blocks and the gradient of one, the head and its gradient; gradients once more in float32, to be reduced
    gathered = (3 * width + 4) * block + (2 * width + 4) * model.vocab_size * d if sharded else 0
    cache = (
        2
        * width
        * kv
        * model.num_hidden_layers
        * min(131_072, -(-c.rollout_batch // world) * c.max_length)
    )  # of rollout.generate
    parts = {
        "state": 16 * n // world,
        "pi_ref": (width if sharded else 4) * n // world if c.kl_coef else 0,
        "training": gathered + activations + 2**28,
        "sampling": (width * n if sharded else 0) + cache,
    }
    return parts | {
        "peak": max(parts["training"], parts["sampling"])
        + (0 if "offload" in c.engine else parts["state"] + parts["pi_ref"])
    }


def print_plan(c, model, problems, groups, total, start, mode, available, missing):
    n, cfg, world = sum(p.numel() for p in model.parameters()), model.config, ranks.world_size()
    need = {
        k: f"{v / 2**30:.2f}"
        for k, v in memory(cfg, n, world, c, model.dtype.itemsize, sharding.is_sharded()).items()
    }
    print(
        f"model     {c.model}: {n / 1e6:.2f}M parameters, {cfg.num_hidden_layers} layers, vocabulary {cfg.vocab_size}; {world} x {model.device.type}\n"
        f"memory    {need['peak']} GiB a rank: training {need['training']} (--token-budget {c.token_budget}), sampling {need['sampling']}, in turns; "
        f"{'beside it' if 'offload' in c.engine else 'in it'} {need['state']} weights, gradients, AdamW and {need['pi_ref']} pi_ref"
        f"{' in the memory of the host' * ('offload' in c.engine)}\n"
        f"on-policy {len(problems)} problems; {c.rollout_batch // c.samples_per_prompt} prompts x {c.samples_per_prompt} samples a step; "
        f"{c.advantage}, KL {c.kl_coef}, clip {c.clip_eps}, {c.inner_epochs} inner epoch(s)\n"
        f"off-policy {c.off_policy}"
        + (
            f": {len(groups)} IR groups, {c.gepo_batch} a step; weight {c.w_gepo}, beta {c.beta}, lambda {c.lam}\n"
            if groups
            else "\n"
        )
        + f"steps     {start} to {total}, lr {c.lr:g}; {c.rollout_batch * total} samples in all; out: {c.out}\n"
        f"{mode}; {c.judge_workers} workers\nlanguages found: {', '.join(available)}; "
        f"missing: {', '.join(f'{k} ({v})' for k, v in missing.items()) or 'none'}",
        flush=True,
    )
