"""load_model against a plain read of the same files, in one run.

    python bench/load.py [--mib 400] [--repeats 5]           random Qwen3 weights in bfloat16, in shards of 100 MB, loaded as they are

Both read from the page cache, in turn; times are medians. The target is 80 % of the plain read's speed (read into one
buffer that stays, which is the fastest a copy can be). What load_model does beside copying: it checks every weight for
NaN and infinity. Prints a table, then a line of JSON; ends with 1 below the target. Left out: cold disks, GPUs' buses.
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


def read(files):
    for path in files:
        with open(path, "rb", buffering=0) as file:
            buffer = bytearray(path.stat().st_size)
            file.readinto(buffer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    shape = dict(
        vocab_size=32_768,
        hidden_size=1024,
        intermediate_size=3072,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
    )
    layers = max(
        1, round((args.mib / 2 - 32) / 15)
    )  # 15 M parameters a layer, 32 M in the tied embedding
    with tempfile.TemporaryDirectory() as folder:
        save_model(
            Transformer(
                ModelConfig(num_hidden_layers=layers, tie_word_embeddings=True, **shape)
            ).bfloat16(),
            folder,
            shard_bytes=100_000_000,
        )
        files = sorted(Path(folder).glob("*.safetensors"))
        mib = sum(path.stat().st_size for path in files) / 2**20
        seconds = {"plain read": [], "load_model": []}
        for _ in range(args.repeats + 1):  # the first of each warms up
            for way, run in (
                ("plain read", lambda: read(files)),
                ("load_model", lambda: load_model(folder, dtype=torch.bfloat16)),
            ):
                began = time.perf_counter()
                run()
                seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(times[1:]) for way, times in seconds.items()}
    ratio = medians["plain read"] / medians["load_model"]
    print(f"{mib:.0f} MiB in {len(files)} files\n\n| way | s | MiB/s |\n| --- | ---: | ---: |")
    for way, s in medians.items():
        print(f"| {way} | {s:.3f} | {mib / s:.0f} |")
    print(
        "\n"
        + json.dumps(
            {
                "bench": "load",
                "mib": mib,
                "seconds": medians,
                "ratio": ratio,
                "torch": torch.__version__,
            }
        )
    )
    return int(ratio < 0.8)


if __name__ == "__main__":
    sys.exit(main())
