"""Does GEPO help? The arms of the paper's Table 4 and some more, on the same seeds and groups.

    make ablation [SEEDS=5] [STEPS=12]
    python bench/ablation.py OUT [--seeds 5] [--steps 12] [--arms "RL,RL + GEPO"]
    python bench/ablation.py OUT --report [--png ablation.png]
    python bench/ablation.py OUT --model DIR --flags="--rollout-batch 16"     of another model
    python bench/ablation.py OUT --model DIR --groups-of ir      of a model that writes IR

Runs train.py on the embedded world, one run after the other: seed 0 of all arms, then seed 1. A run
that ended is not run again, and one that was stopped continues; so does the whole command. Two
things differ from `make train`, and the runs are short, so that RL is not yet near its best:

    problems     none into the languages HELD_OUT, so that what reaches these is transfer
    groups       translations to C++, which stands in for LLVM IR (toy/translations.py), as the warm
                 start hardly knows IR. "on IR" takes the groups of `make train`. With
                 --groups-of ir all groups are IR of functions, the losers with one error, and the
                 arms "on IR" are left out

Then it prints what the runs show (--report: of those that have ended, without running any):

    a table      pass@1 on the held-out problems, greedy and sampled, and greedy by target language;
                 the reward of training samples in the last steps; the share of held-out groups
                 whose winners are ahead
    differences  of two arms on the same seeds, with 95 % intervals: seeds and problems are drawn
                 with replacement (bootstrap)

--png draws rewards and differences, and needs matplotlib. "labels at random" trains on
groups whose winners and losers change places by a coin, so that the preference says nothing.
"""

import argparse
import contextlib
import fcntl
import json
import os
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from tqdm import tqdm

from config import EMBEDDED, embedded_defaults
from data import read_jsonl, write_atomically
from toy.translations import group_rows, ir_group_rows

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT = ("bash", "javascript")
HELD_OUT_PROBLEMS = ROOT / "toy" / "heldout.jsonl"
# Scores, by how answers are drawn: file in OUT, file in each run, flags of evaluate.py
SCORES = {
    "greedy": ("eval-before.jsonl", "eval-after.jsonl", []),
    "sampled": ("sampled-before.jsonl", "sampled-after.jsonl", ["--temperature", "1"]),
}
WORLD = ["--problems", "OUT/problems.jsonl", "--eval-problems", "", "--w-gepo", "1"]
WORLD += ["--ir-groups", "OUT/groups.jsonl", "--eval-ir-groups", "OUT/heldout_groups.jsonl"]
IR = ["--ir-groups", "toy/ir_groups.jsonl", "--eval-ir-groups", "toy/heldout_groups.jsonl"]
ALONE = ["--w-rl", "0", "--kl-coef", "0", "--rollout-batch", "4"]  # few samples: none counts
ARMS = {  # flags of train.py, after those of WORLD
    "RL": ["--off-policy", "none"],
    "RL + DPO": ["--off-policy", "dpo"],
    "RL + GEPO": [],
    "RL + GEPO, lambda 0": ["--lam", "0"],
    "RL + GEPO, labels at random": ["--ir-groups", "OUT/random.jsonl"],
    "RL + GEPO on IR": IR,
    "RL + GEPO on IR, lambda 0": [*IR, "--lam", "0"],
    "RL + GEPO on IR, weight 0.1": [*IR, "--w-gepo", "0.1"],
    "GEPO": ALONE,
    "GEPO, labels at random": [*ALONE, "--ir-groups", "OUT/random.jsonl"],
}
DIFFERENCES = [
    ("GEPO", "before"),
    ("GEPO", "GEPO, labels at random"),
    ("RL + DPO", "RL"),
    ("RL + GEPO", "RL"),
    ("RL + GEPO", "RL + DPO"),
    ("RL + GEPO", "RL + GEPO, lambda 0"),
    ("RL + GEPO", "RL + GEPO, labels at random"),
    ("RL + GEPO on IR", "RL"),
    ("RL + GEPO on IR, lambda 0", "RL"),
    ("RL + GEPO on IR, weight 0.1", "RL"),
]
HELD_OUT_GROUPS = 100
WORLD_FILES = ("problems", "heldout", "groups", "heldout_groups", "random")  # as they are written
FLAGS = {  # of what is run, with their defaults; --report takes none of them
    "seeds": 5,
    "steps": 12,
    "arms": None,
    "model": ROOT / "toy" / "model",
    "groups": 400,
    "groups_of": "cpp",
    "scored": None,
    "flags": "",
}
DRAWS = 10_000  # of the bootstrap
LAST = 5  # steps whose rewards are averaged


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--seeds", type=int, help=f"a run of each arm for each (default: {FLAGS['seeds']})"
    )
    parser.add_argument("--steps", type=int, help=f"of each run (default: {FLAGS['steps']})")
    parser.add_argument("--arms", type=arms_of, help="with commas (default: all)")
    parser.add_argument("--model", type=Path, help="to begin with (default: toy/model)")
    parser.add_argument("--groups", type=int, help=f"of training (default: {FLAGS['groups']})")
    parser.add_argument(
        "--groups-of",
        choices=("cpp", "ir"),
        help=f"what their winners and losers are (default: {FLAGS['groups_of']})",
    )
    parser.add_argument("--scored", type=int, help="of the held-out problems (default: all)")
    parser.add_argument("--flags", help="of train.py, for all runs; before the arm's")
    parser.add_argument("--report", action="store_true", help="of the runs that have ended")
    parser.add_argument("--png", type=Path, help="a picture of both")
    args = parser.parse_args()
    for name, default in FLAGS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif args.report:
            parser.error(f"--report makes no run: leave out --{name.replace('_', '-')}")
    args.out = args.out.resolve()
    args.model = args.model.resolve()
    args.arms = args.arms or [arm for arm in ARMS if args.groups_of == "cpp" or "on IR" not in arm]
    if args.groups_of == "ir" and any("on IR" in arm for arm in args.arms):
        parser.error("--groups-of ir: all arms are on IR; leave out those that end in 'on IR ...'")
    if not args.report:
        run_all(args)
    results = read_results(args.out)
    if not results:
        parser.error(f"no run in {args.out} has ended")
    print(f"\n{table(results)}\n")
    found = differences(results)
    print(differences_table(found))
    if args.png:
        draw(results, found, args.png)
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
    with locked(args.out):  # another command may make other arms beside this one
        check_settings(args)
        write_world(args)
        for how, (before, _, _) in SCORES.items():
            score(args.out, args.model, how, args.out / before, args.out / "before.txt")
    runs = []
    for seed in range(args.seeds):
        for arm in args.arms:
            if not has_ended(folder_of(args.out, arm, seed), args.steps):
                runs.append((arm, seed))
    world = embedded_flags(args.model)
    world += [flag.replace("OUT", str(args.out)) for flag in WORLD]
    for arm, seed in tqdm(runs, desc="runs", unit="run"):
        began = time.monotonic()
        folder = folder_of(args.out, arm, seed)
        of_arm = [flag.replace("OUT", str(args.out)) for flag in ARMS[arm]]
        flags = [*world, *shlex.split(args.flags), *of_arm]
        flags += ["--seed", str(seed), "--steps", str(args.steps), "--out", str(folder)]
        printed = args.out / f"{folder.name}.txt"
        start(["train.py", *flags], printed)
        for how, (_, after, _) in SCORES.items():
            score(args.out, final(folder, args.steps), how, folder / after, printed)
        tqdm.write(f"{folder.name}: {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def locked(folder):
    """Waits while another process holds the folder."""
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_settings(args):
    """Exits if what is in OUT was run with other settings, for the runs would be compared."""
    settings = {"model": str(args.model), "flags": args.flags, "steps": args.steps}
    settings |= {"groups": args.groups, "groups of": args.groups_of, "scored": args.scored}
    file = args.out / "settings.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if {**settings, **known} != settings:  # a folder of an older version knows fewer
        sys.exit(f"{file} has other settings than {settings}: take another folder")
    write_atomically(file, json.dumps(settings) + "\n")


def embedded_flags(model):
    """The flags that train.py takes by itself where no model is given, and the model."""
    flags = []
    for name, value in {**embedded_defaults(), "model": model}.items():
        flags += ["--" + name.replace("_", "-"), str(value)]
    return flags


def has_ended(folder, steps):
    scores = [folder / after for _, after, _ in SCORES.values()]
    return all(path.exists() for path in [final(folder, steps), *scores])


def final(folder, steps):
    """The last checkpoint of a run."""
    return folder / f"step-{steps:06d}"


def score(out, model, how, path, printed):
    """pass@1 on the held-out problems, with the tokens of `make train`; rows into `path`, unless
    they are there. Those of a score that was cut off stand beside it, and are made again. how: a
    key of SCORES."""
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    problems = str(out / "heldout.jsonl")
    flags = ["--model", str(model), "--problems", problems, "--out", str(part)]
    flags += ["--max-new-tokens", str(EMBEDDED["max_new_tokens"]), *SCORES[how][2]]
    start(["evaluate.py", *flags], printed)
    os.replace(part, path)


def start(command, printed):
    """A program of this project; what it prints is added to that file. Exits if it fails."""
    command = [sys.executable, *command]
    with open(printed, "a") as file:
        ended = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}; see {printed}")


def folder_of(out, arm, seed):
    name = arm.replace(" + ", "-").replace(", ", "-").replace(" ", "-")
    return out / f"{name}-{seed}"


def write_world(args):
    """The problems without those into HELD_OUT, the held-out ones, the groups, and the groups with
    random labels, unless they are there. If toy/ has changed since, take another folder."""
    if (args.out / f"{WORLD_FILES[-1]}.jsonl").exists():
        return
    practised = []
    for _, row in read_jsonl(ROOT / "toy" / "problems.jsonl", {}):
        if row["target_language"] not in HELD_OUT:
            practised.append(row)
    make_groups = {"cpp": group_rows, "ir": ir_group_rows}[args.groups_of]
    groups = make_groups(args.groups, "ablation", held=False)
    files = {
        "problems": practised,
        "heldout": [row for _, row in read_jsonl(HELD_OUT_PROBLEMS, {})][: args.scored],
        "groups": groups,
        "heldout_groups": make_groups(HELD_OUT_GROUPS, "ablation held out", held=True),
        "random": with_random_labels(groups),
    }
    for name in WORLD_FILES:
        lines = [json.dumps(row) + "\n" for row in files[name]]
        write_atomically(args.out / f"{name}.jsonl", "".join(lines))


def with_random_labels(groups):
    """The same groups, half of them with winners for losers."""
    coin = random.Random(0)
    rows = []
    for row in groups:
        if coin.random() < 0.5:
            row = {**row, "winners": row["losers"], "losers": row["winners"]}
        rows.append(row)
    return rows


# ---------------------------------------------------------------------------------------- results


def read_results(out):
    """{arm: {seed: its Result, a dict}} of the runs that have ended."""
    results = {}
    for arm in ARMS:
        seed = 0
        while (folder := folder_of(out, arm, seed)).exists():
            if (folder / SCORES["greedy"][1]).exists():
                results.setdefault(arm, {})[seed] = read_result(folder)
            seed += 1
    return results


def read_result(folder):
    """What a run left: greedy and sampled {problem: 0 or 1}, after it, of one answer; "greedy
    before" and "sampled before" the same of the warm start; target {problem: language}; rewards,
    one a step; and ahead, the share of groups before and after. Without groups it is nan; of a run
    without sampled answers those are empty."""
    result = {}
    for how, (before, after, _) in SCORES.items():
        result[how] = passed(rows_of(folder / after))
        result[f"{how} before"] = passed(rows_of(folder.parent / before))
    groups = rows_of(folder / "eval-ir.jsonl")
    ahead = []
    for when in ("before", "after"):
        margins = [row[f"logp_margin_{when}"] for row in groups]
        ahead.append(np.mean(np.array(margins) > 0) if groups else np.nan)
    after = rows_of(folder / SCORES["greedy"][1])
    return {
        **result,
        "target": {row["id"]: row["target_language"] for row in after},
        "rewards": [row["reward"] for row in rows_of(folder / "metrics.jsonl")],
        "ahead": ahead,
    }


def rows_of(path):
    return [row for _, row in read_jsonl(path, {})] if path.exists() else []


def passed(rows):
    return {row["id"]: row["passed"] / row["n"] for row in rows if row["n"]}


def table(results):
    """A Markdown table, a row for each arm; percent, means over its seeds."""
    first = next(iter(next(iter(results.values())).values()))
    targets = sorted(set(first["target"].values()), key=lambda name: (name in HELD_OUT, name))
    titles = [f"{name} (held out)" if name in HELD_OUT else name for name in targets]
    names = ["arm", "seeds", "sampled", "greedy", *titles, "reward in training", "groups ahead"]
    lines = [line(names), "| --- " + "| ---: " * (len(names) - 1) + "|"]
    scores = [over_all([first], "sampled before"), over_all([first], "greedy before")]
    scores += by_target([first], "greedy before", targets)
    lines.append(line(["before", "", *scores, "", ""]))
    for arm, of_seeds in results.items():
        runs = list(of_seeds.values())
        reward = ""
        if arm.startswith("RL"):  # the others sample next to nothing
            reward = f"{100 * np.mean([run['rewards'][-LAST:] for run in runs]):.1f}"
        ahead = np.mean([run["ahead"][1] for run in runs])
        ahead = "" if np.isnan(ahead) else f"{100 * ahead:.1f}"
        scores = [over_all(runs, "sampled"), over_all(runs, "greedy")]
        scores += by_target(runs, "greedy", targets)
        lines.append(line([arm, len(runs), *scores, reward, ahead]))
    return "\n".join(lines)


def over_all(runs, key):
    """The mean over all problems, with its deviation over runs. -> a text"""
    totals = [100 * np.mean(list(run[key].values())) for run in runs if run[key]]
    if len(totals) < len(runs):
        return ""
    deviation = f" ± {np.std(totals, ddof=1):.1f}" if len(runs) > 1 else ""
    return f"{np.mean(totals):.1f}{deviation}"


def by_target(runs, key, targets):
    """The means over the problems of each target language: a list of texts."""
    texts = []
    for target in targets:
        values = []
        for run in runs:
            values += [run[key][name] for name in run[key] if run["target"][name] == target]
        texts.append(f"{100 * np.mean(values):.0f}")
    return texts


def line(cells):
    return f"| {' | '.join(map(str, cells))} |"


def differences(results):
    """[{"of", "less", "seeds", and under each of COLUMNS [points, low, high] or None}, ...] for
    pairs of arms with seeds in common: points of pass@1, low to high a 95 % interval. "held out" is
    greedy, over the problems into HELD_OUT."""
    found = []
    before = {}
    for runs in results.values():
        for seed, run in runs.items():
            before[seed] = {how: run[f"{how} before"] for how in SCORES}
    results = {**results, "before": before}
    for of, less in DIFFERENCES:
        seeds = sorted(results.get(of, {}).keys() & results.get(less, {}).keys())
        if not seeds:
            continue
        of_seeds = [(results[of][seed], results[less][seed]) for seed in seeds]
        found.append(
            {
                "of": of,
                "less": less,
                "seeds": len(seeds),
                "sampled": interval(gain(of_seeds, "sampled")),
                "greedy": interval(gain(of_seeds, "greedy")),
                "held out": interval(gain(of_seeds, "greedy", HELD_OUT)),
            }
        )
    return found


COLUMNS = ("sampled", "greedy", "held out")


def gain(of_seeds, how, languages=None):
    """pass@1 of the first less the second's: [seeds, problems]. of_seeds: pairs of Results.

    languages: the targets that count (default: all). Problems without a verdict in one of the runs
    are left out. Empty if a run has no such answers."""
    target = of_seeds[0][0]["target"]
    problems = [name for name in sorted(target) if not languages or target[name] in languages]
    for pair in of_seeds:
        problems = [name for name in problems if all(name in run[how] for run in pair)]
    rows = []
    for ours, theirs in of_seeds:
        rows.append([ours[how][name] - theirs[how][name] for name in problems])
    return np.array(rows)


def interval(gain):
    """[points, low, high] of `gain` [seeds, problems], in points of pass@1; None if it is empty."""
    if not gain.size:
        return None
    low, high = np.percentile(bootstrap(gain), [2.5, 97.5])
    return [float(100 * value) for value in (gain.mean(), low, high)]


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
        line(
            ["difference, in points of pass@1", "seeds", "sampled", "greedy", "languages held out"]
        ),
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        cells = [name_of(row), row["seeds"]]
        for column in COLUMNS:
            cells.append("{:+.1f} [{:+.1f}, {:+.1f}]".format(*row[column]) if row[column] else "")
        lines.append(line(cells))
    return "\n".join(lines)


def name_of(row):
    return f"({row['of']}) - ({row['less']})"


def draw(results, found, path):
    """Left how far the reward of samples is above RL's on the same seeds: the mean over seeds, the
    least and the most. Right the differences of pass@1."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit(f"--png needs matplotlib: {sys.executable} -m pip install matplotlib")
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(14, 2.5 + 0.5 * len(found)), layout="constrained"
    )
    for arm, of_seeds in results.items():
        seeds = of_seeds.keys() & results.get("RL", {}).keys()
        if arm == "RL" or not arm.startswith("RL") or not seeds:
            continue
        gains = []
        for seed in seeds:
            ours, theirs = of_seeds[seed]["rewards"], results["RL"][seed]["rewards"]
            gains.append(np.subtract(smoothed(ours), smoothed(theirs)))
        gains = np.array(gains)  # [seeds, steps]
        steps = np.arange(1, gains.shape[1] + 1)
        (drawn,) = left.plot(steps, gains.mean(0), label=f"{arm} ({len(seeds)} seeds)")
        left.fill_between(steps, gains.min(0), gains.max(0), color=drawn.get_color(), alpha=0.1)
    left.axhline(0, color="gray", linewidth=0.8)
    left.set_xlabel("step")
    left.set_ylabel(f"reward of samples less RL's, mean of {LAST} steps")
    left.legend(fontsize="small")
    for shift, color, name in ((0.12, "tab:blue", "greedy"), (-0.12, "tab:orange", "held out")):
        for y, row in enumerate(reversed(found)):
            if row[name]:
                points, low, high = row[name]
                right.plot([low, high], [y + shift, y + shift], color=color)
                right.plot(points, y + shift, "o", color=color)
    right.set_yticks(range(len(found)), [name_of(row) for row in reversed(found)])
    right.axvline(0, color="gray", linewidth=0.8)
    right.set_xlabel("points of greedy pass@1, 95 %; orange: languages held out")
    figure.savefig(path, dpi=110)
    print(f"{path}: a picture")


def smoothed(rewards):
    """Means over the last LAST steps, fewer at the start."""
    means = []
    for step in range(len(rewards)):
        means.append(np.mean(rewards[max(0, step + 1 - LAST) : step + 1]))
    return means


if __name__ == "__main__":
    main()
