"""Tables and curves of finished or running runs, from their folders alone.

    python report.py RUN [RUN ...] [--png curves.png]

Prints a Markdown table, a row a run: held-out greedy pass@1 before and after, also by target
language (before → after), and the seconds of its steps. --png draws reward and the two terms of Eq. (9) over the steps (needs matplotlib, which nothing else needs).
"""

import argparse
import json
import math
import sys
from pathlib import Path

from data import read_jsonl
from evaluate import scores, wilson


def read(run: Path, name: str) -> list[dict]:
    """The rows of a file of the run; none when it is not there yet."""
    return [row for _, row in read_jsonl(run / name, {})] if (run / name).exists() else []


def table(runs) -> str:
    before, after = (
        {run: scores(read(run, f"eval-{when}.jsonl")) for run in runs}
        for when in ("before", "after")
    )
    targets = sorted(
        {
            target
            for run in runs
            for source, target in before[run]
            if source == "all" and target != "all"
        }
    )
    lines = [
        f"| {' | '.join(['run', 'seed', 'steps', 'seconds', 'problems', 'before', 'after', 'gain', *targets])} |",
        "|---" * (8 + len(targets)) + "|",
    ]
    percent = lambda p: f"{100 * p:.1f} %"
    for run in runs:
        config, rows = json.loads((run / "config.json").read_text()), read(run, "metrics.jsonl")
        cells = [run.name, config["seed"], len(rows), f"{sum(row['step_s'] for row in rows):.0f}"]
        if ("all", "all") in after[run]:
            (b, n), (a, _) = before[run]["all", "all"], after[run]["all", "all"]
            low, high = wilson(a, n)
            cells += [
                n,
                percent(b),
                f"{percent(a)} [{100 * low:.1f}, {100 * high:.1f}]",
                f"**{100 * (a - b):+.1f}**",
            ]
            cells += [
                f"{100 * before[run]['all', t][0]:.0f} → {100 * after[run]['all', t][0]:.0f}"
                for t in targets
            ]
        else:
            cells += [
                "-",
                "-",
                "not scored yet" if config["eval_problems"] else "no --eval-problems",
                *["-"] * (1 + len(targets)),
            ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def draw(runs, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = [
        ("reward", "reward (Eq. 4), mean of 5 steps"),
        ("gepo_preference", "preference term of Eq. 9"),
        ("gepo_variance", "variance term of Eq. 9"),
        ("gepo_accuracy", "group accuracy, mean of 5 steps"),
    ]
    figure, axes = plt.subplots(
        1, len(curves), figsize=(4 * len(curves), 3), constrained_layout=True
    )
    for axis, (key, title) in zip(axes, curves):
        for run in runs:
            values = [
                math.nan if row[key] is None else row[key]
                for row in read(run, "metrics.jsonl")
                if key in row
            ]
            if "mean of 5" in title:
                values = [
                    sum(values[max(0, i - 4) : i + 1]) / len(values[max(0, i - 4) : i + 1])
                    for i in range(len(values))
                ]
            axis.plot(values, label=run.name)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("step")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--png", type=Path)
    args = parser.parse_args()
    for run in args.runs:
        if not (run / "config.json").exists():
            parser.error(f"{run} is no run: it has no config.json")
    print(table(args.runs))
    if args.png:
        try:
            draw(args.runs, args.png)
        except ImportError:
            parser.error(f"--png needs matplotlib: {sys.executable} -m pip install matplotlib")
        print(f"curves: {args.png}")


if __name__ == "__main__":
    main()
