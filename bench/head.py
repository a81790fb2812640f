"""The head's log-prob (kernels.linear_logprob) against its peers, forward and forward + backward, interleaved in one run.

    python bench/head.py                                     Qwen3-8B's head in bf16 on CUDA, a small one in fp32 on the CPU
    python bench/head.py --tokens 4096 --hidden 1024 --vocab 151936 --dtype bfloat16 --repeats 20

Every contestant turns hidden [T, D], weight [V, D] and targets [T] into log-probs [T] and takes the same random upstream
gradient per token. The floor is one matmul of hidden and weight in the same dtype, timed in the same rounds: once for
forward, 4 times for forward + backward (logits, logits again, dX, dW). TFLOP/s count 2TDV and 8TDV for all, also for those
that keep the logits and so need 6TDV. Peak is what a forward + backward takes beyond inputs, dX and dW: the allocator's on
CUDA, the growth of ru_maxrss in a fresh process on the CPU. Errors are max |got - truth| / max |truth| on at most 1,024
tokens; truth is the eager twin in float64. Who is absent or fails is a row that says why. Prints a table, then a line of
JSON. Left out: temperatures other than 1 (most peers know no other), entropy, a frozen weight, gepo_group_loss.
"""

import argparse
import functools
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
import triton
from torch.utils.checkpoint import checkpoint

from kernels import linear_logprob, linear_logprob_eager
from kernels.head import choose_backend

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DEFAULTS = {
    "cuda": dict(tokens=8192, hidden=4096, vocab=151_936, dtype="bfloat16", repeats=10),
    "cpu": dict(tokens=2048, hidden=128, vocab=65_536, dtype="float32", repeats=3),
}[DEVICE]


# ---------------------------------------------------------------------------------------------- contestants


def whole(h, w, t):
    return (h @ w.T).float().log_softmax(-1).gather(1, t[:, None])[:, 0]


def checkpointed(h, w, t):
    return torch.cat(
        [checkpoint(whole, a, w, b, use_reentrant=False) for a, b in zip(h.chunk(8), t.chunk(8))]
    )


def torch_loss(h, w, t, **options):
    return -F.linear_cross_entropy(h, w, t, reduction="none", **options).float()


def liger(h, w, t):
    from liger_kernel.ops.fused_linear_cross_entropy import (
        LigerFusedLinearCrossEntropyFunction as function,
    )

    return -function.apply(h, w, t, None, None, -100, 0.0, 0.0, "none")[0]


compiled = functools.cache(lambda: torch.compile(whole, dynamic=False))
CONTESTANTS = {
    "ours, fused": lambda h, w, t: linear_logprob(h, w, t, backend="fused"),
    "ours, slab": lambda h, w, t: linear_logprob(h, w, t, backend="slab"),
    "ours, eager twin": linear_logprob_eager,
    "torch, whole logits": whole,
    "torch.compile, whole logits": lambda h, w, t: compiled()(h, w, t),
    "torch, 8 checkpointed chunks": checkpointed,
    "F.linear_cross_entropy": torch_loss,
    "F.linear_cross_entropy, options": lambda h, w, t: torch_loss(
        h, w, t, options=torch.nn.LinearCrossEntropyOptions()
    ),
    "Liger": liger,
}
CUDA_ONLY = "ours, fused", "ours, slab", "torch.compile, whole logits", "Liger"


# ---------------------------------------------------------------------------------------------- measures, packing.py's too


def timed_ms(run):
    if DEVICE == "cpu":
        start = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - start)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def medians_ms(runs, repeats):
    """{name: function} -> {name: ms}: every round runs them all, so that a slow minute is everybody's."""
    rounds = [{name: timed_ms(run) for name, run in runs.items()} for _ in range(repeats)]
    return {name: statistics.median(times[name] for times in rounds) for name in runs}


def peak_bytes(run):
    """How far run() drives memory above what is held before; on the CPU only where nothing as big ran before."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    high = (
        torch.cuda.max_memory_allocated
        if DEVICE == "cuda"
        else (
            lambda: (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                * (1 if sys.platform == "darwin" else 1024)
            )
        )
    )
    before = high()
    run()
    return high() - before


def isolated(f, *args):
    """f(*args), on the CPU in a fresh process; that starts from this one's ru_maxrss, so call this while this one is small."""
    if DEVICE == "cuda":
        return f(*args)
    os.environ["MALLOC_MMAP_THRESHOLD_"] = (
        "65536"  # there, a freed tensor leaves the process at once
    )
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(f, *args).result()


def environment():
    name = (
        torch.cuda.get_device_name()
        if DEVICE == "cuda"
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return dict(device=name, torch=torch.__version__, triton=triton.__version__)


def print_table(first, rows):
    """rows: {name: {column: value}}; a column that a row lacks is empty."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    cell = lambda x: (
        f"{x:,.0f}"
        if isinstance(x, float) and abs(x) >= 1000
        else f"{x:.3g}"
        if isinstance(x, float)
        else str(x)
    )
    print("\n| " + " | ".join([first, *columns]) + " |\n| --- " + "| ---: " * len(columns) + "|")
    for name, row in rows.items():
        print("| " + " | ".join([name, *(cell(row.get(key, "")) for key in columns)]) + " |")


# ---------------------------------------------------------------------------------------------- the run


def make_inputs(args, tokens, vocab):
    g, dtype = torch.Generator(DEVICE).manual_seed(0), getattr(torch, args.dtype)
    draw = lambda *size: torch.randn(*size, generator=g, device=DEVICE, dtype=dtype)
    weight = draw(vocab, args.hidden).mul_(2 / args.hidden**0.5)  # logits of standard deviation 2
    targets = torch.randint(vocab, (tokens,), generator=g, device=DEVICE)
    return (
        draw(tokens, args.hidden).requires_grad_(),
        weight.requires_grad_(),
        targets,
        draw(tokens).float(),
    )


def forward(f, h, w, t, upstream):
    with torch.no_grad():
        return f(h, w, t)


def both(f, h, w, t, upstream):
    logp = f(h, w, t)
    return logp.detach(), *torch.autograd.grad(logp, (h, w), upstream)


def peak(args, name):
    inputs = make_inputs(args, args.tokens, args.vocab)
    both(CONTESTANTS[name], *make_inputs(args, 8, 8))  # loads libraries, starts threads
    return peak_bytes(lambda: both(CONTESTANTS[name], *inputs)) - sum(x.nbytes for x in inputs[:2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="%(default)s")
    args = parser.parse_args()
    T, D, V = args.tokens, args.hidden, args.vocab
    rows, failed = (
        {name: {} for name in CONTESTANTS},
        {name: "needs CUDA" for name in CUDA_ONLY if DEVICE == "cpu"},
    )

    def attempt(name, f, *given):
        if name not in failed:
            try:
                return f(*given)
            except Exception as e:  # a peer fails in its own way; its row says which
                failed[name] = f"{type(e).__name__}: {e}".split("\n")[0][:160]

    peaks = {name: attempt(name, isolated, peak, args, name) for name in CONTESTANTS}
    inputs = make_inputs(args, T, V)
    for name, f in CONTESTANTS.items():  # warm-up
        attempt(name, lambda: (forward(f, *inputs), both(f, *inputs)))
    logits = inputs[0].new_empty(T, V)  # or the CPU would pay for fresh pages, not for the matmul
    runs = {
        ("floor", "forward"): lambda: forward(lambda h, w, t: torch.mm(h, w.T, out=logits), *inputs)
    }
    runs |= {
        (name, of.__name__): functools.partial(of, f, *inputs)
        for name, f in CONTESTANTS.items()
        if name not in failed
        for of in (forward, both)
    }
    runs["floor", "forward"]()
    ms = medians_ms(runs, args.repeats)
    floor = ms.pop(("floor", "forward"))
    del logits, inputs, runs
    for name, of in ms:
        matmuls = {"forward": 1, "both": 4}[of]
        rows[name] |= {
            f"{of} ms": ms[name, of],
            f"{of} / floor": ms[name, of] / (matmuls * floor),
            f"{of} TFLOP/s": matmuls * 2e-9 * T * D * V / ms[name, of],
        }

    few = make_inputs(args, min(T, 1024), V)  # not all: float64 is slow on most GPUs
    truth = both(
        linear_logprob_eager,
        *(x.detach().double().requires_grad_() for x in few[:2]),
        few[2],
        few[3].double(),
    )
    for name in CONTESTANTS.keys() - failed.keys():
        rows[name]["peak MiB"] = peaks[name] / 2**20
        for what, got, want in zip(("logp", "dX", "dW"), both(CONTESTANTS[name], *few), truth):
            rows[name][f"error {what}"] = (
                (got.double() - want).abs().max() / want.abs().max()
            ).item()

    result = {
        "bench": "head",
        **environment(),
        **vars(args),
        "floor ms": floor,
        "floor TFLOP/s": 2e-9 * T * D * V / floor,
        "error tokens": len(few[0]),
    }
    if DEVICE == "cuda":
        speed = {
            backend: rows[f"ours, {backend}"].get("both ms", float("inf"))
            for backend in ("fused", "slab")
        }
        result |= {
            "faster backend": min(speed, key=speed.get),
            "choose_backend": choose_backend(few[0]),
        }
    print(
        "\n".join(
            f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"
            for key, value in result.items()
        )
    )
    if DEVICE == "cpu":
        print("without CUDA ours is the eager twin: the times say nothing about the kernels")
    print_table(
        "contestant; both = forward + backward",
        {f"{name}: {failed[name]}" if name in failed else name: row for name, row in rows.items()},
    )
    print("\n" + json.dumps({**result, "failed": failed, "rows": rows}))


if __name__ == "__main__":
    main()
