"""The fast world: what a preference in one language does to the habits of the others.

    python -m toy.probe OUT [--seeds 10] [--png probe.png]
    python -m toy.probe OUT --dependence [--seeds 3] [--png dependence.png]
    python -m toy.probe OUT --ir-world MODEL       a warm start that writes IR, errors included
    python -m toy.probe OUT --overlap [--ir-world MODEL]   which languages move together; no run

No judge and no sampling, so a run takes seconds. The model of the embedded world (toy/model) takes
a few steps of GEPO or DPO alone, on groups in which C++ stands in for LLVM IR, or on the real IR
groups. Then teacher forcing shows what has moved, at *sites*: places of a right translation where
a habit (toy/world.py) would write something else. One number a site, in nats:

    log-odds = log p(right translation | prompt) - log p(the same with that one habit | prompt)

    C++ groups   of a program of the training shapes: winners are right translations into C++, one
                 as the world writes it, the others with operands that changed places; loser j is
                 form j with one habit. A test that kills the habit shows that it is wrong
    sites        one in each of SITES programs of the held-out shapes, for each target language

All arms of a seed take the same groups in the same order. A run that has ended is kept in OUT and
not run again. Two runs give the same bytes (one thread, one machine). Prints a table, and the
differences of arms, with 95 % intervals: seeds and sites are drawn with replacement (bootstrap).
"""

import argparse
import functools
import itertools
import json
import random
import re
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import gepo
from bench.ablation import bootstrap, line
from config import EMBEDDED, Config
from data import (
    ir_prompt,
    load_tokenizer,
    read_groups,
    translation_prompt,
    write_atomically,
)
from groups import Group, frozen_logprobs, token_logprobs
from model import load_model
from toy.make import HERE, make_problem
from toy.render import render
from toy.translations import cpp_rows, ir_rows_with_habits, wrong_mutants
from toy.world import TARGETS
from training.inputs import IRGroup
from training.optimizer import learning_rate, make_optimizer, optimizer_step
from training.rhat import length_scale
from training.samples import column

MODEL = HERE / "model"  # all arms begin with it; main sets it
MAX_LENGTH, TOKEN_BUDGET = EMBEDDED["max_length"], EMBEDDED["token_budget"]
SITES = 24  # of each language
OVERLAP_SITES = 96  # the same, of --overlap
MARK = ";"  # an empty statement of C++, an empty comment of IR: it tells a loser without a source


@dataclass(frozen=True)
class Arm:
    """A run. flags: of train.py, beside those of the embedded world."""

    flags: dict = field(default_factory=dict)
    source: str = "cpp"  # of the groups: cpp, ir, or ir with habits
    n: int = 2  # winners of a C++ group
    m: int = 2  # losers of a C++ group
    marked: float = 0.0  # share of the groups whose losers have a MARK
    random_labels: bool = False  # winners and losers of a group change places by a coin


DPO = {"off_policy": "dpo"}
LAMBDA_0 = {"lam": 0.0}
SUMS = {"gepo_logp": "sum"}
ARMS = {
    "GEPO": Arm(),
    "GEPO, lambda 0": Arm(LAMBDA_0),
    "GEPO, labels at random": Arm(random_labels=True),
    "DPO, all pairs": Arm(DPO),
    "sums: GEPO": Arm(SUMS),
    "sums: GEPO, lambda 0": Arm({**SUMS, **LAMBDA_0}),
    "sums: DPO, matched pairs": Arm({**SUMS, **DPO, "dpo_pair": "matched"}),
    "sums: DPO, all pairs": Arm({**SUMS, **DPO}),
    "sums: DPO, crossed pairs": Arm({**SUMS, **DPO, "dpo_pair": "crossed"}),
    "IR: GEPO": Arm(source="ir"),
    "IR: GEPO, losers marked": Arm(source="ir", marked=1.0),
    "IR: DPO, all pairs": Arm(DPO, "ir"),
}
IR_ARMS = {  # of --ir-world
    "GEPO": Arm(),
    "GEPO, labels at random": Arm(random_labels=True),
    "IR with habits: GEPO": Arm(source="ir with habits"),
    "IR with habits: GEPO, lambda 0": Arm(LAMBDA_0, "ir with habits"),
    "IR with habits: GEPO, labels at random": Arm(source="ir with habits", random_labels=True),
    "IR with habits: DPO, all pairs": Arm(DPO, "ir with habits"),
}
IR_DIFFERENCES = [
    ("GEPO", "GEPO, labels at random"),
    ("IR with habits: GEPO", "IR with habits: GEPO, labels at random"),
    ("IR with habits: GEPO", "IR with habits: DPO, all pairs"),
    ("IR with habits: GEPO", "IR with habits: GEPO, lambda 0"),
]
DIFFERENCES = [
    ("GEPO", "GEPO, labels at random"),
    ("GEPO", "DPO, all pairs"),
    ("GEPO", "GEPO, lambda 0"),
    ("GEPO, lambda 0", "DPO, all pairs"),
    ("sums: GEPO", "sums: DPO, all pairs"),
    ("sums: GEPO", "sums: DPO, crossed pairs"),
    ("sums: GEPO", "sums: GEPO, lambda 0"),
    ("sums: GEPO, lambda 0", "sums: DPO, all pairs"),
    ("sums: GEPO, lambda 0", "sums: DPO, matched pairs"),
]
# factor of GEPO -> its values
FACTORS = {
    "log-prob of a response": {"mean": Arm(), "sum": Arm(SUMS)},
    "lambda": {
        "0": Arm(LAMBDA_0),
        "0.1": Arm({"lam": 0.1}),
        "1": Arm(),
    },
    "lambda, sums": {
        "0": Arm({**SUMS, **LAMBDA_0}),
        "0.01": Arm({**SUMS, "lam": 0.01}),
        "0.1": Arm({**SUMS, "lam": 0.1}),
        "1": Arm(SUMS),
    },
    "beta": {
        "0.1": Arm(),
        "1": Arm({"beta": 1.0}),
        "10": Arm({"beta": 10.0}),
    },
    "n x m": {
        "1x1": Arm(n=1, m=1),
        "1x4": Arm(n=1, m=4),
        "2x2": Arm(),
        "4x1": Arm(n=4, m=1),
        "4x4": Arm(n=4, m=4),
    },
    "learning rate": {
        "1e-4": Arm({"lr": 1e-4}),
        "3e-4": Arm(),
        "1e-3": Arm({"lr": 1e-3}),
    },
    "weight": {"0.01": Arm({"w_gepo": 0.01}), "1": Arm()},
    "losers marked": {
        "0 %": Arm(),
        "25 %": Arm(marked=0.25),
        "50 %": Arm(marked=0.5),
        "100 %": Arm(marked=1.0),
    },
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, help="of each arm (default: 10; --dependence: 3)")
    parser.add_argument("--steps", type=int, help="of each run (default: 12)")
    parser.add_argument("--dependence", action="store_true", help="one factor of GEPO at a time")
    parser.add_argument(
        "--ir-world",
        type=Path,
        help="a model of `toy.make --only model` that writes IR (--ir-habits 0.5 or --misread)",
    )
    parser.add_argument(
        "--overlap",
        action="store_true",
        help="cosines of languages' gradients; OUT is not used",
    )
    parser.add_argument("--png", type=Path, help="a picture, needs matplotlib")
    args = parser.parse_args()
    global MODEL
    MODEL = args.ir_world or MODEL
    torch.set_num_threads(1)
    if args.overlap:
        if args.dependence or args.png or args.seeds or args.steps:
            parser.error("--overlap makes no run: leave out --seeds, --steps, --dependence, --png")
        return print(overlap_table(gradients(load_model(MODEL), *draw_sites(OVERLAP_SITES))))
    if args.ir_world and args.dependence:
        parser.error("--ir-world has arms of its own: leave out --dependence")
    args.out.mkdir(parents=True, exist_ok=True)
    arms, pairs = ARMS, DIFFERENCES
    if args.dependence:
        arms, pairs = dependence_arms(), []
    if args.ir_world:
        arms, pairs = IR_ARMS, IR_DIFFERENCES
    seeds = args.seeds or (3 if args.dependence else 10)
    results = run_all(arms, seeds, args.steps or 12, args.out)
    moved = intervals(results)
    print(f"\n{table(results, moved)}\n")
    if pairs:
        print(differences_table(results, pairs))
    if args.png:
        figure = draw_dependence(moved) if args.dependence else draw_arms(moved)
        figure.savefig(args.png, dpi=110)
        print(f"{args.png}: a picture")


def dependence_arms():
    """{name: Arm} of FACTORS."""
    arms = {}
    for factor, values in FACTORS.items():
        for value, arm in values.items():
            arms[name_in(factor, value)] = arm
    return arms


def name_in(factor, value):
    """The name in ARMS, if it is there, so that a run is not made twice."""
    names = [name for name, arm in ARMS.items() if arm == FACTORS[factor][value]]
    return names[0] if names else f"GEPO, {factor} {value}"


# ------------------------------------------------------------------------------------------- runs


def run_all(arms, seeds, steps, out):
    """Every arm on every seed, those that are not in `out`. -> {arm: [its result on each seed]}"""
    results = {name: [] for name in arms}
    runs = [(name, seed) for seed in range(seeds) for name in arms]
    bar = tqdm(runs, desc="runs", unit="run")
    for name, seed in bar:
        bar.set_postfix_str(f"{name}, seed {seed}")
        settings = {**asdict(arms[name]), "seed": seed, "steps": steps}
        if MODEL != HERE / "model":
            settings["model"] = str(MODEL)
        path = out / f"{re.sub(r'[^a-z0-9.%]+', '-', name, flags=re.I)}-{seed}.json"
        if not path.exists():
            began = time.process_time()
            result = {"settings": settings, **run_arm(arms[name], seed, steps)}
            write_atomically(path, json.dumps(result) + "\n")
            seconds = time.process_time() - began
            tqdm.write(f"{path.name}: {seconds:.1f} s of CPU", file=sys.stderr)
        result = json.loads(path.read_text())
        if result["settings"] != settings:
            sys.exit(f"{path} is of {result['settings']}, not of {settings}; delete it")
        results[name].append(result)
    return results


def run_arm(arm, seed, steps):
    """Trains from the warm start. -> {"language", "before", "after": lists over sites;
    "ahead": over the second half of the groups, 1 if the winners' rhat was ahead when the group
    was first seen, before its step}."""
    config = Config(**{**EMBEDDED, "w_gepo": 1.0, **arm.flags})
    count = steps * config.gepo_batch
    groups = draw_groups(arm.source, seed, count, arm.n, arm.m, arm.marked)
    if arm.random_labels:
        groups = with_random_labels(groups, seed)
    policy = load_model(MODEL)
    margins = train(policy, config, groups)
    languages, sites = draw_sites()
    return {
        "language": languages,
        "before": log_odds_before(),
        "after": log_odds(policy, sites),
        "ahead": [int(margin > 0) for margin in margins[len(margins) // 2 :]],
    }


def train(policy, config, groups):
    """One pass of L_GEPO (Eq. 9) or L_DPO (Eq. 3) alone, as train.py weighs them.

    groups: of all steps, in order. -> the margin of each before its step. A step is small enough
    for one graph, so Eq. 9 is differentiated as it stands; train.py takes two passes."""
    optimizer = make_optimizer(config, policy)
    steps = len(groups) // config.gepo_batch
    margins = []
    for step in range(steps):
        batch = groups[step * config.gepo_batch : (step + 1) * config.gepo_batch]
        losses = []
        for group, logps in zip(batch, token_logprobs(policy, column(batch, "group"))):
            rhats = []
            for logp, logp_ref in zip(logps, group.logp_ref):
                rhats.append(gepo.rhat(logp, logp_ref).sum() * length_scale(config, logp))
            rhats = torch.stack(rhats)  # [k] Eq. 8
            losses.append(loss_of(config, group, rhats))
            winner = group.is_winner
            margin = rhats[winner].mean() - rhats[~winner].mean()
            margins.append(float(margin.detach()))
        loss = config.w_gepo * torch.stack(losses).mean()
        loss.backward()
        lr = learning_rate(config, step, steps)
        optimizer_step(policy, optimizer, lr, [float(loss.detach())])
    return margins


def loss_of(config, group, rhats):
    """Eq. 9 of one group, or the mean of Eq. 3 over its pairs. rhats [k] -> a scalar."""
    winners, losers = rhats[group.is_winner], rhats[~group.is_winner]
    if config.off_policy == "gepo":
        preference, variance = gepo.gepo_loss(winners, losers, config.beta, config.lam)
        return preference + config.lam * variance
    pairs = gepo.dpo_loss(winners[:, None], losers[None, :], config.beta)  # [n, m]
    return pairs[pairs_of(config.dpo_pair, group)].mean()


def pairs_of(which, group):
    """Which pairs of a winner and a loser DPO compares: bool [n, m].

    which: "all"; "matched", of one form (of IR: one level); or "crossed", of two forms."""
    forms = torch.tensor(group.meta["forms"])  # [k]
    same = forms[group.is_winner][:, None] == forms[~group.is_winner][None, :]
    return {"all": torch.ones_like(same), "matched": same, "crossed": ~same}[which]


# ----------------------------------------------------------------------------------------- groups


@functools.lru_cache(maxsize=4)
def draw_groups(source, seed, count, n, m, marked):
    """`count` IRGroups of C++ or of IR, in the order of training; meta["forms"] has k numbers.

    n, m: winners and losers of a C++ group. marked: share of groups whose losers have a MARK."""
    if source == "ir":
        rows = ir_rows(seed)
    elif source == "cpp":
        rows = cpp_rows(f"probe {seed}", n, m)
    else:
        rows = ir_rows_with_habits(f"probe {seed}", held=False)
    coin = random.Random(f"marks {seed}")
    groups = []
    for prompt, fence, winners, losers in rows:
        if len(groups) == count:
            break
        if coin.random() < marked:
            losers = [(form, text + "\n" + MARK) for form, text in losers]
        group = as_group(prompt, fence, winners, losers)
        if len(group.group.prompt) + max(map(len, group.group.responses)) <= MAX_LENGTH:
            groups.append(group)
    if len(groups) < count:
        sys.exit(f"there are {len(groups)} IR groups, and {count} are needed: fewer --steps")
    logps_ref = frozen_logprobs(reference_model(), column(groups, "group"), TOKEN_BUDGET)
    for group, logp_ref in zip(groups, logps_ref):
        group.logp_ref = logp_ref
    return groups


def ir_rows(seed):
    """The same of the shipped IR groups, in the seed's order; a form is an optimisation level."""
    rows = read_groups(HERE / "ir_groups.jsonl")
    random.Random(f"probe {seed}").shuffle(rows)
    for row in rows:
        levels = row["meta"]["levels"]
        numbers = [levels.index(loser["level"]) for loser in row["meta"]["losers"]]
        winners = [(number, ir.rstrip("\n")) for number, ir in enumerate(row["winners"])]
        losers = [(number, ir.rstrip("\n")) for number, ir in zip(numbers, row["losers"])]
        yield ir_prompt(row["source"]), "llvm", winners, losers


def as_group(prompt, fence, winners, losers):
    """Texts as an IRGroup. winners, losers: lists of (form, text)."""
    members = winners + losers
    return IRGroup(
        packed(prompt, fence, [text for _, text in members]),
        torch.arange(len(members)) < len(winners),
        meta={"forms": [form for form, _ in members]},
    )


def packed(prompt, fence, texts):
    """A prompt and its answers, each a block of code, as a Group."""
    responses = []
    for text in texts:
        tokens = tokenizer().encode(f"```{fence}\n{text}\n```") + [tokenizer().end_id]
        responses.append(torch.tensor(tokens))
    return Group(torch.tensor(tokenizer().chat_prompt(prompt)), responses)


def with_random_labels(groups, seed):
    """The same groups; in half of them winners and losers change places."""
    coin = random.Random(f"labels {seed}")
    return [
        replace(group, is_winner=~group.is_winner) if coin.random() < 0.5 else group
        for group in groups
    ]


# ------------------------------------------------------------------------------------------ sites


@functools.cache
def draw_sites(count=None):
    """(languages, Groups) of `count` sites a language (default: SITES): the right translation, then
    the habit.

    One site in each program, all programs of held-out shapes. The same for all seeds."""
    count = count or SITES
    languages, groups = [], []
    for language in TARGETS:
        rng = random.Random(f"sites {language}")
        while languages.count(language) < count:
            program, row = make_problem(rng, language, held=True)
            wrong = wrong_mutants(program, row, language)
            if wrong:
                texts = [render(program, language), render(rng.choice(wrong), language)]
                groups.append(packed(translation_prompt(row), language, texts))
                languages.append(language)
    if MODEL != HERE / "model":  # one that writes IR
        rows = ir_rows_with_habits("sites llvm", held=True)
        for prompt, fence, winners, losers in itertools.islice(rows, count):
            groups.append(packed(prompt, fence, [winners[0][1], losers[0][1]]))
            languages.append("llvm")
    return languages, groups


def log_odds(model, groups):
    """log p(first response) - log p(second), in nats, of each group: a list of float."""
    odds = []
    for right, habit in frozen_logprobs(model, groups, TOKEN_BUDGET):
        odds.append(float(right.double().sum() - habit.double().sum()))
    return odds


def gradients(model, languages, sites):
    """{language: gradients of the mean log-odds of every other site, and of the rest}, float64
    [2, parameters].

    To first order a small step along one moves another language by their product."""
    found = {}
    for language in dict.fromkeys(languages):
        of_language = [site for name, site in zip(languages, sites) if name == language]
        halves = [gradient(model, of_language[0::2]), gradient(model, of_language[1::2])]
        found[language] = torch.stack(halves)
    return found


def gradient(model, sites):
    """Of the mean log-odds of some sites: float64 [parameters]."""
    model.zero_grad()
    for site in sites:
        [(right, habit)] = token_logprobs(model, [site])
        ((right.sum() - habit.sum()) / len(sites)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).double()


@functools.cache
def reference_model():
    return load_model(MODEL)


@functools.cache
def log_odds_before():
    _, sites = draw_sites()
    return log_odds(reference_model(), sites)


@functools.cache
def tokenizer():
    return load_tokenizer(MODEL)


# ----------------------------------------------------------------------------------------- report


def changes(results, of_languages):
    """After less before at the sites of some languages, of the runs of one arm: [seeds, sites]."""
    rows = []
    for result in results:
        row = []
        for language, before, after in zip(result["language"], result["before"], result["after"]):
            if language in of_languages:
                row.append(after - before)
        rows.append(row)
    return np.array(rows)


OTHERS = [language for language in TARGETS if language != "cpp"]
ENDS = {"cpp": ["cpp"], "the other five": OTHERS}  # what is trained, and what is not
IR_ENDS = {"llvm": ["llvm"], "cpp": ["cpp"], "the other five": OTHERS}


def ends_of(results):
    languages = next(iter(results.values()))[0]["language"]
    return IR_ENDS if "llvm" in languages else ENDS


def interval(change):
    """[seeds, sites] -> mean, low and high of its 95 % interval."""
    low, high = np.percentile(bootstrap(change), [2.5, 97.5])
    return float(change.mean()), float(low), float(high)


def intervals(results):
    """{arm: {end: interval}} of the change of log-odds."""
    moved = {}
    ends = ends_of(results)
    for name, of_arm in results.items():
        moved[name] = {end: interval(changes(of_arm, ends[end])) for end in ends}
    return moved


def shown(mean, low, high):
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def table(results, moved):
    """Markdown: a row an arm. The first has log-odds before, the others their change."""
    ends = ends_of(results)
    lines = [
        line(["arm", "seeds", "groups ahead", *ends, *OTHERS]),
        "| --- " + "| ---: " * (2 + len(ends) + len(OTHERS)) + "|",
    ]
    first = next(iter(results.values()))[0]
    zero = [{**first, "before": [0.0] * len(first["before"]), "after": first["before"]}]
    columns = [*ends.values(), *([language] for language in OTHERS)]
    means = [f"{changes(zero, languages).mean():+.2f}" for languages in columns]
    lines.append(line(["log-odds before", "", "", *means]))
    for name, of_arm in results.items():
        ahead = 100 * np.mean([result["ahead"] for result in of_arm])
        cells = [name, len(of_arm), f"{ahead:.0f} %"]
        cells += [shown(*moved[name][end]) for end in ends]
        for language in OTHERS:
            cells.append(f"{changes(of_arm, [language]).mean():+.2f}")
        lines.append(line(cells))
    return "\n".join(lines)


def differences_table(results, pairs):
    ends = ends_of(results)
    lines = [line(["difference", *ends]), "| --- " + "| ---: " * len(ends) + "|"]
    for of, less in pairs:
        cells = [f"({of}) - ({less})"]
        for languages in ends.values():
            paired = changes(results[of], languages) - changes(results[less], languages)
            cells.append(shown(*interval(paired)))
        lines.append(line(cells))
    return "\n".join(lines)


def overlap_table(gradients):
    """Markdown: the cosine of each pair of languages; with itself, of the two halves of its sites,
    which says how much of a gradient is common to its sites. gradients: {language: [2, numbers]}"""
    lines = [line(["", *gradients]), "| --- " + "| ---: " * len(gradients) + "|"]
    for language, halves in gradients.items():
        cosines = []
        for other, of_other in gradients.items():
            pair = (halves[0], halves[1]) if other == language else (halves.sum(0), of_other.sum(0))
            cosines.append(f"{float(torch.cosine_similarity(*pair, 0)):+.2f}")
        lines.append(line([language, *cosines]))
    return "\n".join(lines)


def plotted(axis, names, moved, horizontal=False):
    """Means and intervals of arms at both ends."""
    ends = list(next(iter(moved.values())))
    for shift, end in zip(np.linspace(-0.1, 0.1, len(ends)), ends):
        means, errors = [], []
        for name in names:
            mean, low, high = moved[name][end]
            means.append(mean)
            errors.append([mean - low, high - mean])
        errors = np.array(errors).T
        places = np.arange(len(names)) + shift
        if horizontal:
            axis.errorbar(means, places, xerr=errors, fmt="o", label=end)
        else:
            axis.errorbar(places, means, yerr=errors, fmt="o-", label=end)


def draw_arms(moved):
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    plotted(axis, list(moved), moved, horizontal=True)
    axis.set_yticks(range(len(moved)), list(moved))
    axis.invert_yaxis()
    axis.axvline(0, color="gray", linewidth=0.8)
    axis.set_xlabel("change of log-odds in nats, 95 % intervals over seeds and sites")
    axis.legend()
    return figure


def draw_dependence(moved):
    plt = pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(13, 6), sharey=True, layout="constrained")
    for axis, (factor, values) in zip(axes.flat, FACTORS.items()):
        plotted(axis, [name_in(factor, value) for value in values], moved)
        axis.set_xticks(range(len(values)), list(values))
        axis.set_title(factor)
        axis.axhline(0, color="gray", linewidth=0.8)
    axes[0, 0].set_ylabel("change of log-odds, nats")
    axes[0, 0].legend()
    return figure


def pyplot():
    try:
        import matplotlib
    except ImportError:
        sys.exit(f"--png needs matplotlib: {sys.executable} -m pip install matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


if __name__ == "__main__":
    main()
