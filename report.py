"""Tables and curves of finished or running runs, from their folders alone.

    python report.py RUN [RUN ...] [--png curves.png]

Prints a Markdown table with a line for each run: held-out greedy pass@1 before and after training,
also by target language (before → after), and the seconds of all its steps. A run without both
scores has none in its line. --png draws the reward and the two terms of Eq. 9 over the steps; it
needs matplotlib, which nothing else here needs.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from data import read_jsonl
from evaluate import scores, wilson

CURVES = {  # metric: title
    "reward": "reward (Eq. 4), mean of 5 steps",
    "gepo_preference": "preference term of Eq. 9",
    "gepo_variance": "variance term of Eq. 9",
    "gepo_accuracy": "group accuracy, mean of 5 steps",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--png", type=Path)
    args = parser.parse_args()
    for folder in args.runs:
        if not (folder / "config.json").exists():
            parser.error(f"{folder} is no run: it has no config.json")
    runs = [read_run(folder) for folder in args.runs]
    print(table(runs))
    if args.png:
        try:
            draw(runs, args.png)
        except ImportError:
            parser.error(f"--png needs matplotlib: {sys.executable} -m pip install matplotlib")
        print(f"curves: {args.png}")


@dataclass
class Run:
    """What the folder of a run holds; no rows for a file that is not there yet."""

    name: str
    config: dict
    metrics: list[dict]  # a row for each step
    before: dict  # evaluate.scores of the held-out problems before training
    after: dict


def read_run(folder):
    return Run(
        folder.name,
        json.loads((folder / "config.json").read_text()),
        _read_rows(folder / "metrics.jsonl"),
        scores(_read_rows(folder / "eval-before.jsonl")),
        scores(_read_rows(folder / "eval-after.jsonl")),
    )


def _read_rows(path):
    if not path.exists():
        return []
    return [row for _, row in read_jsonl(path, {})]


def table(runs):
    """A Markdown table."""
    targets = set()
    for run in runs:
        for source, target in run.before:
            if source == "all" and target != "all":
                targets.add(target)
    targets = sorted(targets)
    columns = ["run", "seed", "steps", "seconds", "problems", "before", "after", "gain", *targets]
    lines = [_line(columns), "|---" * len(columns) + "|"]
    for run in runs:
        seconds = sum(row["step_s"] for row in run.metrics)
        cells = [run.name, run.config["seed"], len(run.metrics), f"{seconds:.0f}"]
        if run.before and run.after:
            cells += _score_cells(run, targets)
        else:
            reason = "not scored yet" if run.config["eval_problems"] else "no --eval-problems"
            cells += ["-", "-", reason, "-"] + ["-"] * len(targets)
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells):
    return f"| {' | '.join(map(str, cells))} |"


def _score_cells(run, targets):
    """problems, before, after, gain, and before → after for each target language.

    The problems are those scored after training, of which the interval is too.
    """
    before = run.before["all", "all"].pass_at_k
    after, problems = run.after["all", "all"]
    low, high = wilson(after, problems)
    cells = [
        problems,
        f"{100 * before:.1f} %",
        f"{100 * after:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
        f"**{100 * (after - before):+.1f}**",
    ]
    for target in targets:
        pair = ("all", target)
        cell = "-"  # of a language that this run has not
        if pair in run.before and pair in run.after:
            cell = f"{100 * run.before[pair].pass_at_k:.0f} → {100 * run.after[pair].pass_at_k:.0f}"
        cells.append(cell)
    return cells


def draw(runs, path):
    """Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = (4 * len(CURVES), 3)
    figure, axes = plt.subplots(1, len(CURVES), figsize=size, constrained_layout=True)
    for axis, (metric, title) in zip(axes, CURVES.items()):
        for run in runs:
            values = []
            for row in run.metrics:
                if metric in row:
                    values.append(math.nan if row[metric] is None else row[metric])
            if "mean of 5" in title:
                values = _running_mean(values, 5)
            axis.plot(values, label=run.name)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _running_mean(values, width):
    """The mean of each value and the width - 1 before it; of fewer at the start."""
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - width) : end]
        means.append(sum(window) / len(window))
    return means


if __name__ == "__main__":
    main()
