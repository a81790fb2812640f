"""Does GEPO help? The arms of the paper's Table 4 and some more, on the same seeds and groups.

    make ablation [SEEDS=5] [STEPS=80]
    python bench/ablation.py OUT [--seeds 5] [--steps 80] [--arms "RL,RL + GEPO"]
    python bench/ablation.py OUT --report [--png ablation.png]

Runs train.py on the embedded world, one run after the other: seed 0 of all arms, then seed 1. A run
that ended is not run again, and one that was stopped continues; so does the whole command. Then it
prints what the runs show (--report: of those that have ended, without running any):

    a table      greedy pass@1 on the held-out problems, by target language; the reward of samples
                 in the last ten steps; the share of held-out IR groups whose winners are ahead
    differences  of two arms on the same seeds, with 95 % intervals: seeds and problems are drawn
                 with replacement (bootstrap). --png draws them, and needs matplotlib

"labels at random" trains on groups whose winners and losers change places by a coin, so that the
preference says nothing. Left out: worlds other than the embedded one.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tqdm import tqdm

from data import read_jsonl

ROOT = Path(__file__).resolve().parent.parent
GROUPS = ROOT / "toy" / "ir_groups.jsonl"
ARMS = {  # flags of train.py
    "RL": ["--off-policy", "none"],
    "RL + DPO": ["--off-policy", "dpo"],
    "RL + GEPO": [],
    "RL + GEPO, lambda 0": ["--lam", "0"],
    "RL + GEPO, labels at random": ["--ir-groups", "OUT/random.jsonl"],
    "GEPO": ["--w-rl", "0", "--kl-coef", "0"],
}
DIFFERENCES = [
    ("RL + DPO", "RL"),
    ("RL + GEPO", "RL"),
    ("RL + GEPO", "RL + DPO"),
    ("RL + GEPO", "RL + GEPO, lambda 0"),
    ("RL + GEPO", "RL + GEPO, labels at random"),
]
DRAWS = 10_000  # of the bootstrap
LAST = 10  # steps whose rewards are averaged


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="a run of each arm for each")
    parser.add_argument("--steps", type=int, default=80, help="of each run")
    parser.add_argument("--arms", default=",".join(ARMS), type=arms_of, help="with commas")
    parser.add_argument("--report", action="store_true", help="of the runs that have ended")
    parser.add_argument("--png", type=Path, help="a picture of the differences")
    args = parser.parse_args()
    if not args.report:
        run_all(args)
    results = read_results(args.out)
    if not results:
        parser.error(f"no run in {args.out} has ended")
    print(f"\n{table(results)}\n")
    found = differences(results)
    print(differences_table(found))
    if args.png:
        draw(found, args.png)
    print("\n" + json.dumps({"bench": "ablation", "differences": found}))


def arms_of(text):
    """The names in a list with commas; the names have commas too."""
    names = []
    left = text
    while left:
        fitting = [name for name in ARMS if (left + ",").startswith(name + ",")]
        if not fitting:
            known = "; ".join(ARMS)
            raise argparse.ArgumentTypeError(f"no arm begins {left!r}; there are: {known}")
        names.append(max(fitting, key=len))
        left = left[len(names[-1]) + 1 :]
    return names


# ------------------------------------------------------------------------------------------- runs


def run_all(args):
    """Every arm on every seed. Exits at the first run that fails."""
    args.out.mkdir(parents=True, exist_ok=True)
    write_random_labels(args.out / "random.jsonl")
    runs = []
    for seed in range(args.seeds):
        for arm in args.arms:
            runs.append((arm, seed))
    for arm, seed in tqdm(runs, desc="runs", unit="run"):
        folder = folder_of(args.out, arm, seed)
        flags = [flag.replace("OUT", str(args.out)) for flag in ARMS[arm]]
        command = [sys.executable, "train.py", *flags, "--seed", str(seed)]
        command += ["--steps", str(args.steps), "--out", str(folder)]
        began = time.monotonic()
        with open(args.out / f"{folder.name}.txt", "a") as printed:
            ended = subprocess.run(command, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        if ended.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {ended.returncode}; see {printed.name}")
        tqdm.write(f"{folder.name}: {time.monotonic() - began:.0f} s")


def folder_of(out, arm, seed):
    name = arm.replace(" + ", "-").replace(", ", "-").replace(" ", "-")
    return out.resolve() / f"{name}-{seed}"


def write_random_labels(path):
    """The shipped groups, half of them with winners for losers."""
    coin = random.Random(0)
    rows = []
    for _, row in read_jsonl(GROUPS, {}):
        if coin.random() < 0.5:
            row["winners"], row["losers"] = row["losers"], row["winners"]
        rows.append(json.dumps(row) + "\n")
    path.write_text("".join(rows))


# ---------------------------------------------------------------------------------------- results


def read_results(out):
    """{arm: {seed: its Result, a dict}} of the runs that have ended."""
    results = {}
    for arm in ARMS:
        seed = 0
        while (folder := folder_of(out, arm, seed)).exists():
            if (folder / "eval-after.jsonl").exists():
                results.setdefault(arm, {})[seed] = read_result(folder)
            seed += 1
    return results


def read_result(folder):
    """What a run left: passed {problem: 0 or 1}, before the same, target {problem: language},
    reward, and ahead, the share of IR groups before and after; None without such groups."""

    def rows(name):
        path = folder / name
        return [row for _, row in read_jsonl(path, {})] if path.exists() else []

    after, steps, groups = rows("eval-after.jsonl"), rows("metrics.jsonl"), rows("eval-ir.jsonl")
    return {
        "passed": {row["id"]: row["passed"] / row["n"] for row in after if row["n"]},
        "before": {
            row["id"]: row["passed"] / row["n"] for row in rows("eval-before.jsonl") if row["n"]
        },
        "target": {row["id"]: row["target_language"] for row in after},
        "reward": np.mean([row["reward"] for row in steps[-LAST:]]),
        "ahead": [
            np.mean([row[f"logp_margin_{when}"] > 0 for row in groups]) if groups else np.nan
            for when in ("before", "after")
        ],
    }


def table(results):
    """A Markdown table, a row for each arm; percent, means over its seeds."""
    first = next(iter(next(iter(results.values())).values()))
    targets = sorted(set(first["target"].values()))
    names = ["arm", "seeds", "pass@1", *targets, "reward of samples", "IR groups ahead"]
    lines = [line(names), "| --- " + "| ---: " * (len(names) - 1) + "|"]
    ahead = f"{100 * first['ahead'][0]:.1f}"
    lines.append(line(["before", "", *by_target([first], "before", targets), "", ahead]))
    for arm, of_seeds in results.items():
        runs = list(of_seeds.values())
        reward = f"{100 * np.mean([run['reward'] for run in runs]):.1f}"
        ahead = f"{100 * np.mean([run['ahead'][1] for run in runs]):.1f}"
        scores = by_target(runs, "passed", targets)
        lines.append(line([arm, len(runs), *scores, reward, ahead]))
    return "\n".join(lines)


def by_target(runs, key, targets):
    """Texts: the mean over all problems, with its deviation over runs, then over each target's."""
    totals = [100 * np.mean(list(run[key].values())) for run in runs]
    texts = [f"{np.mean(totals):.1f}"]
    if len(runs) > 1:
        texts = [f"{np.mean(totals):.1f} ± {np.std(totals, ddof=1):.1f}"]
    for target in targets:
        values = []
        for run in runs:
            values += [run[key][name] for name in run[key] if run["target"][name] == target]
        texts.append(f"{100 * np.mean(values):.0f}")
    return texts


def line(cells):
    return f"| {' | '.join(map(str, cells))} |"


def differences(results):
    """[{"of", "less", "seeds", "points", "low", "high"}, ...] for pairs of arms with seeds in
    common; the last three in points of pass@1, low to high a 95 % interval."""
    found = []
    for of, less in DIFFERENCES:
        seeds = sorted(results.get(of, {}).keys() & results.get(less, {}).keys())
        if not seeds:
            continue
        problems = sorted(results[of][seeds[0]]["passed"])
        gain = np.zeros((len(seeds), len(problems)))
        for row, seed in zip(gain, seeds):
            ours, theirs = results[of][seed]["passed"], results[less][seed]["passed"]
            row[:] = [ours.get(name, 0) - theirs.get(name, 0) for name in problems]
        low, high = np.percentile(100 * bootstrap(gain), [2.5, 97.5])
        points = 100 * gain.mean()
        summary = {"points": float(points), "low": float(low), "high": float(high)}
        found.append({"of": of, "less": less, "seeds": len(seeds), **summary})
    return found


def bootstrap(gain):
    """Means of `gain` [seeds, problems] with both drawn with replacement: [DRAWS]."""
    draw = np.random.default_rng(0)
    means = np.zeros(DRAWS)
    for i in range(DRAWS):
        seeds = draw.integers(gain.shape[0], size=gain.shape[0])
        problems = draw.integers(gain.shape[1], size=gain.shape[1])
        means[i] = gain[np.ix_(seeds, problems)].mean()
    return means


def differences_table(found):
    lines = [
        line(["difference", "seeds", "points of pass@1", "95 %"]),
        "| --- | ---: | ---: | ---: |",
    ]
    for row in found:
        interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
        name = f"({row['of']}) - ({row['less']})"
        lines.append(line([name, row["seeds"], f"{row['points']:+.1f}", interval]))
    return "\n".join(lines)


def draw(found, path):
    """The differences with their intervals."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit(f"--png needs matplotlib: {sys.executable} -m pip install matplotlib")
    figure, axis = plt.subplots(figsize=(8, 1 + 0.5 * len(found)), layout="constrained")
    for y, row in enumerate(reversed(found)):
        axis.plot([row["low"], row["high"]], [y, y], color="tab:blue")
        axis.plot(row["points"], y, "o", color="tab:blue")
    names = [f"({row['of']}) - ({row['less']})" for row in reversed(found)]
    axis.set_yticks(range(len(found)), names)
    axis.axvline(0, color="gray", linewidth=0.8)
    axis.set_xlabel("points of held-out greedy pass@1, 95 % intervals over seeds and problems")
    figure.savefig(path)
    print(f"{path}: a picture")


if __name__ == "__main__":
    main()
