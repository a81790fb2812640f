"""GiB per GPU that a run needs at most: Qwen3's sizes on 1, 8 and 64 GPUs, by formula.

    python bench/memory.py

The formula is training/plan.py's memory_per_rank. The settings are the paper's with --engine
recompute, and eight samples per GPU and step. tests/distributed/test_ranks.py holds the formula
against what tensors take on a CPU, and this table against docs/distributed.md.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.shapes import SHAPES
from config import Config
from model import Transformer
from training.plan import memory_per_rank

MODELS = ("Qwen3-0.6B", "Qwen3-4B", "Qwen3-8B", "Qwen3-32B")
WORLD_SIZES = (1, 8, 64)
HEADER = "| model | GPUs | weights, gradients, AdamW | pi_ref | training | sampling | at most |"
COLUMNS = ("state", "pi_ref", "training", "sampling", "peak")


def main():
    print(HEADER)
    print("|---" * 7 + "|")
    peaks = {}
    for name in MODELS:
        model_config = SHAPES[name]
        with torch.device("meta"):
            model = Transformer(model_config)
        n_parameters = sum(p.numel() for p in model.parameters())
        for world_size in WORLD_SIZES:
            config = Config(rollout_batch=8 * world_size, engine=("recompute",))
            need = memory_per_rank(model_config, n_parameters, world_size, config)
            cells = [f"{need[column] / 2**30:.1f}" for column in COLUMNS]
            print(f"| {name} | {world_size} | {' | '.join(cells)} |")
            peaks[f"{name}/{world_size}"] = float(cells[-1])
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
