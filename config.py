"""The flags of train.py: one dataclass, from which the command line is generated.

Defaults are the paper's where it states a value; where it does not, docs/method.md says what is
taken. Without --model the embedded world's values (EMBEDDED) are the defaults. An unknown flag or a
value out of range is an error that names the flag. The resolved values are saved with the run.
"""

import argparse
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path


def knob(default, help_text, choices=()):
    """A field of Config with what `--help` says of it."""
    return field(default=default, metadata={"help": help_text, "choices": choices or None})


def cores_per_rank():
    """CPU cores of this machine, shared out to its ranks."""
    return max(1, os.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


@dataclass
class Config:
    # what is trained, on what, and where the run is kept
    model: str = knob("", "directory of a Hugging Face checkpoint; the initial policy and pi_ref")
    problems: str = knob("", "translation problems with tests (problems.jsonl)")
    ir_groups: str = knob("", "IR groups (ir_groups.jsonl); not needed with --off-policy none")
    eval_problems: str = knob(
        "", "held-out problems, scored before and after; empty: no evaluation"
    )
    eval_ir_groups: str = knob(
        "", "held-out IR groups, compared before and after; empty: no comparison"
    )
    out: str = knob("", "folder of the run")
    # the run
    steps: int = knob(0, "rollout batches to train on; 0: one epoch of the problems")
    seed: int = knob(0, "of data order and sampling")
    # Eq. 10 and its two halves
    off_policy: str = knob("gepo", "preference half", choices=("gepo", "dpo", "none"))
    dpo_pair: str = knob(
        "all",
        "pairs of a group in the dpo arm: all; or one, whose two IRs are of one optimisation "
        "level (matched) or of two (crossed)",
        choices=("all", "matched", "crossed"),
    )
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
    rhat_dtype: str = knob(
        "float32",
        "precision of rhat, Eq. 8; compute: the model's own, faster, but in bfloat16 mostly "
        "rounding",
        choices=("float32", "float64", "compute"),
    )
    # batches, and the on-policy half
    samples_per_prompt: int = knob(4, "translations sampled of each problem")
    rollout_batch: int = knob(8, "samples per step, over all prompts")
    gepo_batch: int = knob(8, "IR groups per step")
    kl_coef: float = knob(0.01, "k1 KL to pi_ref in the token reward, Eq. 1; 0: no reference pass")
    clip_eps: float = knob(0.2, "PPO clip, Eq. 5")
    inner_epochs: int = knob(
        1, "optimiser steps on each rollout batch, each with the same IR groups"
    )
    # the optimiser
    lr: float = knob(5e-7, "peak of AdamW's learning rate, cosine to 0")
    warmup_ratio: float = knob(0.03, "share of the steps in which the learning rate rises")
    # sampling and lengths
    temperature: float = knob(1.0, "of sampling, and of the log-probs in the on-policy half")
    max_length: int = knob(
        8192, "tokens of prompt and answer; longer problems and groups are left out, counted"
    )
    max_new_tokens: int = knob(4096, "tokens of a sampled answer")
    token_budget: int = knob(
        16384,
        "tokens of one forward and backward (a longer response goes alone); changes no gradient",
    )
    # the machine
    judge_workers: int = knob(cores_per_rank(), "programs that each rank judges at a time")
    save_every: int = knob(100, "steps between checkpoints; the last two stay")
    resume: str = knob(
        "auto",
        "auto: continue what --out holds; only (or no word): fail if that is nothing; "
        "force: also with other settings",
        choices=("auto", "only", "force"),
    )
    dtype: str = knob(
        "auto",
        "what the model computes in; auto: bfloat16 on a GPU, float32 on a CPU",
        choices=("auto", "float32", "bfloat16"),
    )
    engine: tuple = knob(
        (),
        "any of recompute (activations, in the backward), offload (weights, AdamW on the CPU), "
        "compile (torch.compile of the blocks)",
        choices=("recompute", "offload", "compile"),
    )


# What `python train.py` without --model takes. Why gepo_logp and w_gepo: dev/LOG.md, "Sum
# or mean" and "the ablation".
EMBEDDED = {
    "model": "toy/model",
    "problems": "toy/problems.jsonl",
    "ir_groups": "toy/ir_groups.jsonl",
    "eval_problems": "toy/heldout.jsonl",
    "eval_ir_groups": "toy/heldout_groups.jsonl",
    "out": "out/embedded",
    "steps": 80,
    "lr": 3e-4,
    "rollout_batch": 64,
    "gepo_batch": 4,
    "w_gepo": 0.1,
    "gepo_logp": "mean",
    "max_length": 448,
    "max_new_tokens": 192,
    "token_budget": 2048,
    "save_every": 10,
}
PATHS = ("model", "problems", "ir_groups", "eval_problems", "eval_ir_groups", "out")
# A run may be continued with other values of these: they change no result.
MAY_CHANGE = ("out", "judge_workers", "token_budget", "save_every", "resume", "engine")
# The least value of a number, where it is not 0.
MINIMUM = {
    "samples_per_prompt": 1,
    "rollout_batch": 1,
    "gepo_batch": 1,
    "inner_epochs": 1,
    "max_length": 1,
    "max_new_tokens": 1,
    "token_budget": 1,
    "judge_workers": 1,
    "save_every": 1,
    "temperature": 1e-3,
}


def parse_config(arguments):
    """Command line -> Config; None: this process's own. A bad flag ends the program (argparse)."""
    parser = make_parser()
    if not parser.parse_args(arguments).model:
        parser.set_defaults(**embedded_defaults())
    config = Config(**vars(parser.parse_args(arguments)))
    for error in find_errors(config):
        parser.error(error)
    return config


def make_parser():
    """A parser with a flag for each field of Config."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for knob_field in fields(Config):
        options = {"type": knob_field.type}
        if knob_field.type is tuple:
            options = {"nargs": "*"}
        if knob_field.name == "resume":
            options |= {"nargs": "?", "const": "only"}
        help_text = f"{knob_field.metadata['help']} (default: {knob_field.default})"
        parser.add_argument(
            flag(knob_field.name),
            default=knob_field.default,
            choices=knob_field.metadata["choices"],
            help=help_text.replace("%", "%%"),
            **options,
        )
    return parser


def embedded_defaults():
    """EMBEDDED, with paths that do not depend on the working directory."""
    root = Path(__file__).parent
    return {name: str(root / value) if name in PATHS else value for name, value in EMBEDDED.items()}


def find_errors(config):
    """Yields a sentence for each value that is missing or out of range."""
    needed = ["problems", "out"]
    if config.off_policy != "none":
        needed.append("ir_groups")
    for name in needed:
        if not getattr(config, name):
            yield f"{flag(name)} is needed with --model"
    for knob_field in fields(Config):
        value = getattr(config, knob_field.name)
        minimum = MINIMUM.get(knob_field.name, 0)
        if knob_field.type in (int, float) and not minimum <= value < math.inf:
            yield f"{flag(knob_field.name)} is {value}; it must be at least {minimum}"
    if config.warmup_ratio > 1:
        yield f"--warmup-ratio is {config.warmup_ratio}; it is a share of the steps, at most 1"
    if config.dpo_pair != "all" and config.off_policy != "dpo":
        yield f"--dpo-pair {config.dpo_pair} is of --off-policy dpo"
    if config.rollout_batch % config.samples_per_prompt:
        yield (
            f"--rollout-batch {config.rollout_batch} must be a multiple of "
            f"--samples-per-prompt {config.samples_per_prompt}"
        )


def flag(name):
    """The command-line spelling of a field's name."""
    return "--" + name.replace("_", "-")
