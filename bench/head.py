"""The head's log-prob (kernels.linear_logprob) against its peers, interleaved in one run.

    python bench/head.py            Qwen3-8B's head in bf16 on CUDA, a small one in fp32 on the CPU
    python bench/head.py --tokens 4096 --hidden 1024 --vocab 151936 --dtype bfloat16 --repeats 20

Every contestant turns hidden [T, D], weight [V, D] and targets [T] into log-probs [T] and takes the
same random upstream gradient per token; timed are forward and forward + backward ("both").

    floor    one matmul of hidden and weight in the same dtype, timed in the same rounds: once for
             forward, 4 times for forward + backward (logits, logits again, dX, dW)
    TFLOP/s  2TDV and 8TDV for all, also for those that keep the logits and so need 6TDV
    peak     what a forward + backward takes beyond inputs, dX and dW: the allocator's on CUDA, the
             growth of ru_maxrss in a fresh process on the CPU
    error    max |got - truth| / max |truth| on at most 1,024 tokens; truth is the eager twin in
             float64

Who is absent or fails is a row that says why. Prints a table, then a line of JSON. Left out:
temperatures other than 1 (most peers know no other), entropy, a frozen weight, gepo_group_loss.
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
from dataclasses import dataclass
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
    "cuda": {"tokens": 8192, "hidden": 4096, "vocab": 151_936, "dtype": "bfloat16", "repeats": 10},
    "cpu": {"tokens": 2048, "hidden": 128, "vocab": 65_536, "dtype": "float32", "repeats": 3},
}[DEVICE]
ERROR_TOKENS = 1024  # not all: float64 is slow on most GPUs


# ------------------------------------------------------------------ contestants
# each: hidden [T, D], weight [V, D], targets [T] int64 -> log-probs [T]


def whole_logits(hidden, weight, targets):
    logp = (hidden @ weight.T).float().log_softmax(-1)
    return logp.gather(1, targets[:, None])[:, 0]


def checkpointed_chunks(hidden, weight, targets):
    chunks = zip(hidden.chunk(8), targets.chunk(8))
    return torch.cat(
        [checkpoint(whole_logits, h, weight, t, use_reentrant=False) for h, t in chunks]
    )


@functools.cache
def compiled_whole_logits():
    return torch.compile(whole_logits, dynamic=False)


def torch_compile(hidden, weight, targets):
    return compiled_whole_logits()(hidden, weight, targets)


def linear_cross_entropy(hidden, weight, targets, **options):
    return -F.linear_cross_entropy(hidden, weight, targets, reduction="none", **options).float()


def linear_cross_entropy_with_options(hidden, weight, targets):
    options = torch.nn.LinearCrossEntropyOptions()
    return linear_cross_entropy(hidden, weight, targets, options=options)


def liger(hidden, weight, targets):
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    return -LigerFusedLinearCrossEntropyFunction.apply(
        hidden, weight, targets, None, None, -100, 0.0, 0.0, "none"
    )[0]


CONTESTANTS = {
    "ours, fused": functools.partial(linear_logprob, backend="fused"),
    "ours, slab": functools.partial(linear_logprob, backend="slab"),
    "ours, eager twin": linear_logprob_eager,
    "torch, whole logits": whole_logits,
    "torch.compile, whole logits": torch_compile,
    "torch, 8 checkpointed chunks": checkpointed_chunks,
    "F.linear_cross_entropy": linear_cross_entropy,
    "F.linear_cross_entropy, options": linear_cross_entropy_with_options,
    "Liger": liger,
}
CUDA_ONLY = "ours, fused", "ours, slab", "torch.compile, whole logits", "Liger"


# ------------------------------------------------------------------ the run


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="%(default)s")
    args = parser.parse_args()
    failed = {}  # contestant: why it has no figures
    if DEVICE == "cpu":
        failed = dict.fromkeys(CUDA_ONLY, "needs CUDA")

    peaks = measure_peaks(args, failed)  # first: a fresh process starts from this one's ru_maxrss
    ms, floor_ms = measure_times(args, failed)
    rows = {name: {} for name in CONTESTANTS}
    add_times(rows, ms, floor_ms, args)
    add_peaks_and_errors(rows, peaks, failed, args)

    result = {
        "bench": "head",
        **environment(),
        **vars(args),
        "floor ms": floor_ms,
        "floor TFLOP/s": matmul_tflop(args) / (1e-3 * floor_ms),
        "error tokens": min(args.tokens, ERROR_TOKENS),
    }
    if DEVICE == "cuda":
        result |= compare_backends(rows, args)
    report(result, failed, rows)


def attempt(failed, name, function, *arguments):
    """function(*arguments), or None and a note in failed. A peer fails in its own way."""
    if name in failed:
        return None
    try:
        return function(*arguments)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}".split("\n")[0][:160]
        return None


def measure_peaks(args, failed):
    """-> {contestant: bytes beyond inputs, dX and dW}, None for who failed."""
    return {name: attempt(failed, name, isolated, peak, args, name) for name in CONTESTANTS}


def peak(args, name):
    inputs = make_inputs(args, args.tokens, args.vocab)
    contestant = CONTESTANTS[name]
    both(contestant, make_inputs(args, 8, 8))  # loads libraries, starts threads
    gradients = inputs.hidden.nbytes + inputs.weight.nbytes
    return peak_bytes(lambda: both(contestant, inputs)) - gradients


def measure_times(args, failed):
    """-> {(contestant, "forward" or "both"): ms}, ms of the floor."""
    inputs = make_inputs(args, args.tokens, args.vocab)
    for name, contestant in CONTESTANTS.items():
        attempt(failed, name, warm_up, contestant, inputs)
    # allocated once: otherwise the CPU would pay for fresh pages, not for the matmul
    logits = inputs.hidden.new_empty(args.tokens, args.vocab)

    def matmul(hidden, weight, targets):
        return torch.mm(hidden, weight.T, out=logits)

    runs = {"floor": functools.partial(forward, matmul, inputs)}
    for name, contestant in CONTESTANTS.items():
        if name not in failed:
            runs[name, "forward"] = functools.partial(forward, contestant, inputs)
            runs[name, "both"] = functools.partial(both, contestant, inputs)
    runs["floor"]()
    ms = medians_ms(runs, args.repeats)
    floor_ms = ms.pop("floor")
    return ms, floor_ms


def warm_up(contestant, inputs):
    forward(contestant, inputs)
    both(contestant, inputs)


def add_times(rows, ms, floor_ms, args):
    for name, direction in ms:
        matmuls = {"forward": 1, "both": 4}[direction]
        measured = ms[name, direction]
        rows[name][f"{direction} ms"] = measured
        rows[name][f"{direction} / floor"] = measured / (matmuls * floor_ms)
        rows[name][f"{direction} TFLOP/s"] = matmuls * matmul_tflop(args) / (1e-3 * measured)


def matmul_tflop(args):
    return 2e-12 * args.tokens * args.hidden * args.vocab


def add_peaks_and_errors(rows, peaks, failed, args):
    few = make_inputs(args, min(args.tokens, ERROR_TOKENS), args.vocab)
    in_float64 = Inputs(
        few.hidden.detach().double().requires_grad_(),
        few.weight.detach().double().requires_grad_(),
        few.targets,
        few.upstream.double(),
    )
    truth = both(linear_logprob_eager, in_float64)
    for name, contestant in CONTESTANTS.items():
        if name in failed:
            continue
        rows[name]["peak MiB"] = peaks[name] / 2**20
        got = both(contestant, few)
        for what, x, want in zip(("logp", "dX", "dW"), got, truth):
            error = (x.double() - want).abs().max() / want.abs().max()
            rows[name][f"error {what}"] = error.item()


def compare_backends(rows, args):
    """Which of our two backends is faster, and which one choose_backend takes."""
    both_ms = {}
    for backend in ("fused", "slab"):
        both_ms[backend] = rows[f"ours, {backend}"].get("both ms", float("inf"))
    return {
        "faster backend": min(both_ms, key=both_ms.get),
        "choose_backend": choose_backend(make_inputs(args, 8, 8).hidden),
    }


def report(result, failed, rows):
    for key, value in result.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    if DEVICE == "cpu":
        print("without CUDA ours is the eager twin: the times say nothing about the kernels")
    table = {}
    for name, row in rows.items():
        label = f"{name}: {failed[name]}" if name in failed else name
        table[label] = row
    print_table("contestant; both = forward + backward", table)
    print("\n" + json.dumps({**result, "failed": failed, "rows": rows}))


@dataclass
class Inputs:
    hidden: torch.Tensor  # [T, D], requires a gradient
    weight: torch.Tensor  # [V, D], requires a gradient
    targets: torch.Tensor  # [T] int64
    upstream: torch.Tensor  # [T] float32


def make_inputs(args, tokens, vocab):
    generator = torch.Generator(DEVICE).manual_seed(0)
    dtype = getattr(torch, args.dtype)

    def draw(*size):
        return torch.randn(*size, generator=generator, device=DEVICE, dtype=dtype)

    # logits of standard deviation 2
    weight = draw(vocab, args.hidden).mul_(2 / args.hidden**0.5).requires_grad_()
    targets = torch.randint(vocab, (tokens,), generator=generator, device=DEVICE)
    hidden = draw(tokens, args.hidden).requires_grad_()
    return Inputs(hidden, weight, targets, upstream=draw(tokens).float())


def forward(contestant, inputs):
    with torch.no_grad():
        return contestant(inputs.hidden, inputs.weight, inputs.targets)


def both(contestant, inputs):
    """Forward and backward. -> logp [T], dX [T, D], dW [V, D]."""
    logp = contestant(inputs.hidden, inputs.weight, inputs.targets)
    gradients = torch.autograd.grad(logp, (inputs.hidden, inputs.weight), inputs.upstream)
    return logp.detach(), *gradients


# ------------------------------------------------------------------ measures, also of packing.py


def medians_ms(runs, repeats):
    """{name: function} -> {name: ms}. Every round runs them all: a slow minute slows them all."""
    rounds = []
    for _ in range(repeats):
        rounds.append({name: timed_ms(run) for name, run in runs.items()})
    return {name: statistics.median(times[name] for times in rounds) for name in runs}


def timed_ms(run):
    if DEVICE == "cpu":
        start = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - start)
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def peak_bytes(run):
    """How far run() drives memory above what is held before.

    On the CPU this holds only where nothing as big ran before."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = highest_bytes()
    run()
    return highest_bytes() - before


def highest_bytes():
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def isolated(function, *arguments):
    """function(*arguments), on the CPU in a fresh process.

    That starts from this process's ru_maxrss: call this while this process is small."""
    if DEVICE == "cuda":
        return function(*arguments)
    # in the new process a freed tensor leaves at once
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def environment():
    if DEVICE == "cuda":
        device = torch.cuda.get_device_name()
    else:
        device = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    return {"device": device, "torch": torch.__version__, "triton": triton.__version__}


def print_table(first_header, rows):
    """rows: {name: {column: value}}; a column that a row lacks is empty."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    print("\n| " + " | ".join([first_header, *columns]) + " |")
    print("| --- " + "| ---: " * len(columns) + "|")
    for name, row in rows.items():
        cells = [shown(row.get(column, "")) for column in columns]
        print("| " + " | ".join([name, *cells]) + " |")


def shown(value):
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
