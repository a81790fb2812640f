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
from config import Config
from model import ModelConfig, Transformer
from training.plan import memory_per_rank

SIZES = {  # hidden, MLP, layers, heads, tied; 8 key-value heads of 128 and a vocabulary of 151,936 all
    "Qwen3-0.6B": (1024, 3072, 28, 16, True),
    "Qwen3-4B": (2560, 9728, 36, 32, True),
    "Qwen3-8B": (4096, 12288, 36, 32, False),
    "Qwen3-32B": (5120, 25600, 64, 64, False),
}


def main():
    print(
        "| model | GPUs | weights, gradients, AdamW | pi_ref | training | sampling | at most |\n|---|---|---|---|---|---|---|"
    )
    result = {}
    for name, (hidden, mlp, layers, heads, tied) in SIZES.items():
        config = ModelConfig(
            vocab_size=151_936,
            hidden_size=hidden,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=tied,
        )
        with torch.device("meta"):
            n = sum(p.numel() for p in Transformer(config).parameters())
        for world in (1, 8, 64):
            need = memory_per_rank(config, n, world, Config(rollout_batch=8 * world, engine=("recompute",)))
            cells = [
                f"{need[part] / 2**30:.1f}"
                for part in ("state", "pi_ref", "training", "sampling", "peak")
            ]
            print(f"| {name} | {world} | {' | '.join(cells)} |")
            result[f"{name}/{world}"] = float(cells[-1])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
