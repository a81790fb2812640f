"""One token of every sequence, as sampling draws it: the time against reading memory once.

    python bench/decode.py [--shape Qwen3-8B] [--sequences 64] [--context 2048]

Random weights and a random cache, all sequences of the same length. On CUDA the step is a graph
(rollout.Engine), and a second table says which kernels take its time. Floor: the bytes of all
weights and of the keys and values in use, at the rate of a plain read in the same run. Prints
tables, then a line of JSON. Left out: reading prompts, ends of sequences, what the host does in
between (bench/rollout.py has it all).
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.head import DEVICE, environment, print_table, timed_ms
from bench.rollout import bytes_to_read, random_model, read_bytes_per_s
from bench.shapes import add_shape_flags, shape_of
from model import compiled_blocks, packed_weights
from rollout import Engine, Settings

KERNELS = 12  # rows of the second table


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_shape_flags(parser, {"cpu": "5M", "cuda": "Qwen3-8B"}[DEVICE])
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--context", type=int, default=2048, help="tokens of a sequence")
    parser.add_argument("--repeats", type=int, default=20, help="the median is taken")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = random_model(shape_of(args), getattr(torch, args.dtype))
    with torch.no_grad(), packed_weights(model):
        report(args, model)


def report(args, model):
    rate = read_bytes_per_s()
    engine = filled_engine(model, args.sequences, args.context)

    def draw():
        engine.positions.fill_(args.context - 1)
        if DEVICE == "cuda":
            engine._replay(args.sequences)
        else:
            engine._draw_next(args.sequences, args.context)

    draw()
    ms = statistics.median(timed_ms(draw) for _ in range(args.repeats))
    floor_ms = 1000 * bytes_to_read(model, [1] * args.sequences, args.context) / rate
    row = {"ms": ms, "floor, ms": floor_ms, "share of the floor": floor_ms / ms}
    title = f"{args.shape}, {args.dtype}, {args.sequences} x {args.context}"
    print_table(f"{title}; a plain read: {rate / 1e9:.0f} GB/s", {"a token of each": row})
    if DEVICE == "cuda":
        print_table("kernel", kernels_of(engine, args))
    result = {"bench": "decode", **vars(args), "read bytes/s": rate, **row}
    print("\n" + json.dumps({**result, **environment()}))


def filled_engine(model, sequences, context):
    """An engine with all rows in use and one slot free in each."""
    settings = Settings(max_new_tokens=1, temperature=1.0, eos_ids=set(), seed=0)
    engine = Engine(model, settings, sequences, context)
    for keys, values in engine.cache.layers:
        keys.normal_()
        values.normal_()
    engine.tokens.random_(model.config.vocab_size)
    engine.uniform.uniform_()
    return engine


def kernels_of(engine, args):
    """{kernel: its row}, those that take the longest; the sum is first."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    engine.positions.fill_(args.context - 1)
    with compiled_blocks(engine.model), torch.profiler.profile(activities=activities) as profile:
        engine._draw_next(args.sequences, args.context)
        torch.cuda.synchronize()
    events = [event for event in profile.key_averages() if event.self_device_time_total]
    events.sort(key=lambda event: -event.self_device_time_total)
    total_us = sum(event.self_device_time_total for event in events)
    launches = sum(event.count for event in events)
    rows = {"all": {"ms": total_us / 1000, "launches": launches}}
    for event in events[:KERNELS]:
        rows[event.key[:60]] = {"ms": event.self_device_time_total / 1000, "launches": event.count}
    return rows


if __name__ == "__main__":
    main()
