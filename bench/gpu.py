"""The day there is a GPU: its tests, all benches and a run, and one page with what they measured.

    make gpu                                     writes gpu.md
    python bench/gpu.py [--out gpu.md] [--only head,rollout]

One step after the other, each in a process of its own. A step that fails is a row that says so, and
the others still run. The page has the machine, the versions, every target beside what was measured,
and the end of what each step printed. Ends with 1 if a step failed. Left out: several GPUs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.head import environment

ROOT = Path(__file__).resolve().parent.parent
PRINTED = 60  # lines of a step's output that the page keeps


class Step(NamedTuple):
    name: str
    command: str  # arguments of python
    targets: dict  # {what must hold: function of the step's line of JSON -> str, what was measured}


def best_backend(report):
    """The row of bench/head.py for the faster one of ours."""
    return report["rows"][f"ours, {report['faster backend']}"]


def head_times(report):
    row = best_backend(report)
    return f"{row['forward ms']:.1f} and {row['both ms']:.1f} ms, {row['peak MiB']:.0f} MiB"


def head_floors(report):
    row = best_backend(report)
    return f"{row['forward / floor']:.2f} and {row['both / floor']:.2f} floors"


def packing_ratios(report):
    texts = []
    for name, row in report["rows"].items():
        if "padded" in name:
            texts.append(f"{name}: {row['measured / ideal %']:.0f} %")
    return "; ".join(texts)


def decode_share(report):
    return f"{report['share of the floor']:.0%}"


def rollout_rows(column, form):
    """A function of bench/rollout.py's report: that column of all its rows."""

    def measured(report):
        rows = report["rows"].items()
        return "; ".join(f"{name}: {row[column]:{form}}" for name, row in rows)

    return measured


def step_mfu(report):
    return f"{report['step']['MFU']:.0%}"


def load_ratio(report):
    return f"{report['ratio']:.0%}"


STEPS = [
    Step(
        "tests",
        "-m pytest -q -n 8 tests/kernels tests/test_groups.py tests/test_rollout.py "
        "tests/test_step.py",
        {},
    ),
    Step(
        "head",
        "bench/head.py --repeats 5",
        {
            "the head on an H200: forward <= 20 ms, with backward <= 75 ms, <= 614 MiB": head_times,
            "against one matmul, and four": head_floors,
        },
    ),
    Step(
        "packing",
        "bench/packing.py --repeats 3",
        {"packed against padded: >= 80 % of the ratio of FLOPs": packing_ratios},
    ),
    Step(
        "decode",
        "bench/decode.py --shape Qwen3-8B --sequences 64 --context 2048",
        {"a token of 64: >= 60 % of reading weights and cache once": decode_share},
    ),
    Step(
        "rollout",
        "bench/rollout.py --shape Qwen3-8B --sequences 64 --prompt-tokens 1792 --new-tokens 256",
        {
            "sampling, prompts read: share of the floor": rollout_rows("decoding", ".0%"),
            "sampling: >= 5 x transformers.generate": rollout_rows("ratio", ".2f"),
        },
    ),
    Step(
        "step",
        "bench/step.py --shape Qwen3-8B --layers 4 --rhat-dtype compute --repeats 2",
        {"a training step: >= 38 % MFU": step_mfu},
    ),
    Step("step-float32", "bench/step.py --shape Qwen3-8B --layers 4 --repeats 2", {}),
    Step("noise", "bench/noise.py --steps 5", {}),
    Step("load", "bench/load.py", {"loading: >= 80 % of a plain read": load_ratio}),
    Step("run", "bench/gpu.py --run", {}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path("gpu.md"), help="(default: %(default)s)")
    parser.add_argument("--only", default="", help="names of steps, with commas")
    parser.add_argument("--run", action="store_true", help="the step `run` alone")
    args = parser.parse_args()
    if args.run:
        return run_train()
    known = [step.name for step in STEPS]
    wanted = args.only.split(",") if args.only else known
    for name in wanted:
        if name not in known:
            parser.error(f"--only: no step {name!r}; there are {', '.join(known)}")
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA GPU; `make bench` measures a CPU")
    results = []
    for step in STEPS:
        if step.name in wanted:
            results.append((step, *outcome(step)))
            args.out.write_text(page(results))  # after each, so that nothing is lost
    print(f"{args.out} has it all")
    return int(any(returncode for _, returncode, _, _ in results))


def outcome(step):
    """(exit code, seconds, what it printed) of a step, which is shown while it runs."""
    print(f"\n== {step.name}: python {step.command}", flush=True)
    began = time.monotonic()
    lines = []
    with subprocess.Popen(
        [sys.executable, *step.command.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, time.monotonic() - began, "".join(lines)


def page(results):
    """The text of the page. results: list of (Step, exit code, seconds, output)."""
    machine = environment()
    if torch.cuda.is_available():
        machine["CUDA"] = torch.version.cuda
        machine["memory"] = f"{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    commit = ["git", "-C", str(ROOT), "log", "-1", "--format=%h %cs"]
    machine["commit"] = subprocess.run(commit, capture_output=True, text=True).stdout.strip()
    lines = ["# Measured on a GPU", ""]
    lines += [f"- {key}: {value}" for key, value in machine.items()]
    lines += ["", "| step | command | ended with | s |", "| --- | --- | ---: | ---: |"]
    for step, returncode, seconds, _ in results:
        lines.append(f"| {step.name} | `python {step.command}` | {returncode} | {seconds:.0f} |")
    lines += ["", "| target | measured |", "| --- | --- |"]
    for step, _, _, output in results:
        for target, measured in step.targets.items():
            lines.append(f"| {target} | {text_of(measured, output)} |")
    for step, _, _, output in results:
        shown = output.splitlines()[-PRINTED:]
        lines += ["", f"## {step.name}", "", "```", *shown, "```"]
    return "\n".join(lines) + "\n"


def text_of(measured, output):
    """What a step's last line of JSON says, or why it says nothing."""
    reports = [line for line in output.splitlines() if line.startswith("{")]
    if not reports:
        return "nothing: the step did not end well"
    try:
        return measured(json.loads(reports[-1]))
    except (KeyError, TypeError, ValueError) as error:
        return f"nothing: {type(error).__name__} {error}"


def run_train():
    """train.py for four steps on random weights of Qwen3-0.6B's shape, with the toy's tokenizer."""
    from bench.shapes import SHAPES
    from model import ModelConfig, Transformer, save_model

    with tempfile.TemporaryDirectory() as folder:
        toy = ROOT / "toy"
        vocab_size = ModelConfig.from_pretrained(toy / "model").vocab_size
        shape = replace(SHAPES["Qwen3-0.6B"], vocab_size=vocab_size)
        save_model(Transformer(shape).bfloat16(), folder)
        for path in (toy / "model").iterdir():
            if not (Path(folder) / path.name).exists():
                os.symlink(path, Path(folder) / path.name)
        flags = {
            "model": folder,
            "problems": toy / "problems.jsonl",
            "ir-groups": toy / "ir_groups.jsonl",
            "out": Path(folder) / "out",
            "steps": 4,
            "rollout-batch": 64,
            "max-new-tokens": 512,
            "max-length": 2048,
        }
        command = [sys.executable, "train.py"]
        for name, value in flags.items():
            command += [f"--{name}", str(value)]
        return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
