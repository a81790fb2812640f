"""What rounding does to rhat (Eq. 8), step by step: its noise beside its signal, in each precision.

    python bench/noise.py                                       toy/model and its IR groups
    python bench/noise.py --model DIR --ir-groups G.jsonl --steps 100 --svg noise.svg

Trains GEPO alone (train.py's own off_policy_half, w_gepo of the paper, AdamW at --lr) on the first
IR group that fits, and compares at some steps, on the first --groups of them:

    signal   root mean square of rhat, computed in float64
    noise    root mean square of rhat in a precision, less rhat in float64

for rhat as a sum over tokens and as a mean. In float16 and bfloat16 also weights are rounded, as
FSDP gathers them. Prints a table, then a line of JSON. --svg needs matplotlib.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import gepo
import train
from bench.head import DEVICE, environment, print_table
from config import Config
from data import load_tokenizer
from groups import frozen_logprobs
from model import copy_in, load_model
from training.inputs import load_ir_groups
from training.optimizer import CLIP_NORM
from training.rhat import rhat_logprobs, rhat_noise
from training.samples import column, flatten

ROOT = Path(__file__).resolve().parent.parent
PRECISIONS = ("float32", "float16", "bfloat16")
STEPS = (1, 3, 10, 30, 100, 300, 1000)  # at which it compares


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--model", default=str(ROOT / "toy" / "model"), help="%(default)s")
    parser.add_argument("--ir-groups", default=str(ROOT / "toy" / "ir_groups.jsonl"))
    parser.add_argument("--max-length", type=int, default=448, help="tokens of prompt and IR")
    parser.add_argument("--groups", type=int, default=2, help="that are compared: %(default)s")
    parser.add_argument("--steps", type=int, default=100, help="%(default)s")
    parser.add_argument("--lr", type=float, default=5e-7, help="%(default)s")
    parser.add_argument("--precisions", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--svg", help="a picture of the table")
    args = parser.parse_args()

    config = Config(lr=args.lr, max_length=args.max_length)
    tokenizer = load_tokenizer(args.model)
    ir_groups = load_ir_groups(config, args.ir_groups, tokenizer)[: args.groups]
    policy = load_model(args.model, DEVICE)
    reference = copy.deepcopy(policy)
    for ir_group in ir_groups:
        [ir_group.logp_ref] = rhat_logprobs(config, reference, [ir_group.group])

    rows = compare_while_training(args, config, policy, reference, ir_groups)
    result = {
        "bench": "noise",
        **environment(),
        **vars(args),
        "tokens of IRs": [[len(y) for y in ir_group.group.responses] for ir_group in ir_groups],
        "measured at the start of a run": rhat_noise(config, reference, ir_groups),
    }
    for key, value in result.items():
        print(f"{key}: {value}")
    for how in ("sum", "mean"):
        print_table(f"rhat as a {how}: nats", {f"step {step}": rows[step][how] for step in rows})
    print("\n" + json.dumps({**result, "rows": rows}))
    if args.svg:
        draw(rows, args)


def compare_while_training(args, config, policy, reference, ir_groups):
    """-> {step: {"sum" or "mean": {"signal" or a precision: nats}}}"""
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0
    )
    groups = column(ir_groups, "group")
    dtypes = {name: getattr(torch, name) for name in ("float64", *args.precisions)}
    logps_ref = {name: logps_in(dtype, reference, groups) for name, dtype in dtypes.items()}
    rows = {}
    for step in range(1, args.steps + 1):
        train.off_policy_half(policy, config, ir_groups[:1])
        torch.nn.utils.clip_grad_norm_(policy.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if step in STEPS or step == args.steps:
            rhats = {}
            for name, dtype in dtypes.items():
                logps = logps_in(dtype, policy, groups)
                rhats[name] = list(map(gepo.rhat, logps, logps_ref[name]))
            rows[step] = {how: noise_beside_signal(rhats, how) for how in ("sum", "mean")}
            print(f"step {step}: {rows[step]}", file=sys.stderr, flush=True)
    return rows


def logps_in(dtype, model, groups):
    """The log-probs of all members of all groups, [R] float64 each."""
    logps = frozen_logprobs(copy_in(model, dtype), groups, Config.token_budget, apart=True)
    return [logp.double() for logp in flatten(logps)]


def noise_beside_signal(rhats, how):
    """rhats: {precision: for each member [R], token by token} -> {"signal" or precision: nats}"""
    totals = {}
    for name, of_members in rhats.items():
        totals[name] = torch.stack([getattr(of_member, how)() for of_member in of_members])
    truth = totals.pop("float64")
    row = {"signal": rms(truth)}
    for name, total in totals.items():
        row[name] = rms(total - truth)
    return row


def rms(x):
    return float(x.square().mean().sqrt())


def draw(rows, args):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "noise"  # the same file from the same numbers
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    names = {"signal": "signal: rhat in float64"}
    names |= {precision: f"noise in {precision}" for precision in args.precisions}
    styles = {"signal": "k-o", "float32": "C0-s", "float16": "C1-^", "bfloat16": "C3-v"}
    for key, name in names.items():
        axes.loglog(list(rows), [rows[step]["sum"][key] for step in rows], styles[key], label=name)
    axes.set_xlabel(f"steps at lr {args.lr:g}")
    axes.set_ylabel("nats, root mean square")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(args.svg, metadata={"Date": None})


if __name__ == "__main__":
    main()
