"""load_model against a plain read of the same files, in one run.

    python bench/load.py [--mib 400] [--repeats 5]

Random Qwen3 weights in bfloat16, in shards of 100 MB, are loaded as they are. Both ways read from
the page cache, in turn; times are medians. The target is 80 % of the plain read's speed (into one
buffer a file, which is the fastest a copy can be). What load_model does beside copying: it checks
every weight for NaN and infinity. Prints a table, then a line of JSON; ends with 1 below the
target. Left out: cold disks, GPUs' buses.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from model import ModelConfig, Transformer, load_model, save_model

TARGET = 0.8
EMBEDDING_MILLIONS = 32  # parameters; tied
LAYER_MILLIONS = 15


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--mib", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save_random_model(folder, args.mib)
        files = sorted(Path(folder).glob("*.safetensors"))
        mib = sum(path.stat().st_size for path in files) / 2**20
        seconds = {"plain read": [], "load_model": []}
        for _ in range(args.repeats + 1):
            began = time.perf_counter()
            read(files)
            seconds["plain read"].append(time.perf_counter() - began)
            began = time.perf_counter()
            load_model(folder, dtype=torch.bfloat16)
            seconds["load_model"].append(time.perf_counter() - began)
    # The first of each warms up.
    medians = {way: statistics.median(times[1:]) for way, times in seconds.items()}
    ratio = medians["plain read"] / medians["load_model"]
    print(f"{mib:.0f} MiB in {len(files)} files\n\n| way | s | MiB/s |\n| --- | ---: | ---: |")
    for way, s in medians.items():
        print(f"| {way} | {s:.3f} | {mib / s:.0f} |")
    report = {
        "bench": "load",
        "mib": mib,
        "seconds": medians,
        "ratio": ratio,
        "torch": torch.__version__,
    }
    print("\n" + json.dumps(report))
    return int(ratio < TARGET)


def save_random_model(folder, mib):
    """About `mib` MiB of weights."""
    millions = mib / 2  # two bytes a parameter
    config = ModelConfig(
        vocab_size=32_768,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=max(1, round((millions - EMBEDDING_MILLIONS) / LAYER_MILLIONS)),
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    )
    save_model(Transformer(config).bfloat16(), folder, shard_bytes=100_000_000)


def read(files):
    for path in files:
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(path.stat().st_size)
            file.readinto(buffer)


if __name__ == "__main__":
    sys.exit(main())
