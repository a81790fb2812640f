"""How well the losers of groups can be told from the winners without looking at the source.

    audit([group, ...], [[features, ...], ...]) -> {classifier: [(what is counted, %, +-), ...]}

What a model can tell that way it need not learn from the source, so a good set of groups leaves
these classifiers at one half. Each is a linear score of a text, fitted to other groups by logistic
regression on their pairs: four fifths of the groups fit it, the rest are judged, in five turns. A
share is what it gets right of

    pairs           a winner and a loser of one group, the winner's score is the higher one
    at one level    the pairs of one optimisation level
    across levels   the other pairs
    groups          the mean score of the winners is the higher one, as gepo_accuracy counts

A tie counts half. Needs numpy alone.

Left out: classifiers that see several texts of a group at once, and neural ones.
"""

import re
import zlib
from collections import Counter

import numpy as np

from llvm.compile import TOKEN, length

SEEDS = 5
FOLDS = 5
COLUMNS = 2048  # of n-grams, hashed
SHRINK = 0.1  # of the weights, per column of the matrix
STEPS = 8  # of Newton's method
IS_INSTRUCTION = re.compile("  ").match
COUNTS = ("pairs", "at one level", "across levels", "groups")


def plain_features(ir, optimised_again):
    """What a look at one text tells: {name: float}.

    ir: str, normalised. optimised_again: str, the same after another run of the optimiser."""
    lines = ir.split("\n")
    body = list(filter(IS_INSTRUCTION, lines))
    values = re.findall(r"^  %\S+ = (.*)", ir, re.M)
    uses = Counter(re.findall(r"%[\w.]+", ir))
    changed = Counter(lines) - Counter(optimised_again.split("\n"))
    return {
        "tokens": length(ir),
        "lines": len(body),
        "dead values": list(uses.values()).count(1),
        "repeated values": len(values) - len(set(values)),
        "blocks": len(re.findall(r"^\w+:$", ir, re.M)),
        "changed by the optimiser": changed.total(),
    }


def audit(groups, plain):
    """What each classifier gets right of COUNTS, in percent.

    groups: list of dict, rows of ir_groups.jsonl. plain: for each group the plain_features of its
    texts, winners first. -> {classifier: [(one of COUNTS, mean, spread), ...]}, the spread the
    standard deviation over SEEDS splits; nan if there is no such pair."""
    texts = []  # of all groups
    features = []  # of each text
    members = []  # for each group its places in `texts`, winners first
    for group, of_group in zip(groups, plain):
        first = len(texts)
        texts += group["winners"] + group["losers"]
        members.append(range(first, len(texts)))
        for of_text in of_group:
            features.append(list(of_text.values()))
    tokens = list(map(TOKEN.findall, texts))
    plain_columns = np.array(features, dtype=float)
    columns = {
        "length": plain_columns[:, :1],
        "six features": plain_columns,
        "tokens": hashed(map(Counter, tokens), len(texts)),
        "n-grams": hashed(map(ngrams, tokens), len(texts)),
    }
    return {name: shares(groups, members, matrix) for name, matrix in columns.items()}


def ngrams(words):
    """words: list of str. -> Counter of their sequences of one to three."""
    counts = Counter()
    for size in (1, 2, 3):
        for end in range(size, len(words) + 1):
            counts[tuple(words[end - size : end])] += 1
    return counts


def hashed(counts, texts):
    """log(1 + count), each thing in one of COLUMNS: [texts, COLUMNS].

    counts: a Counter for each text. texts: int, how many."""
    matrix = np.zeros((texts, COLUMNS))
    for row, counter in zip(matrix, counts):
        for thing, count in counter.items():
            row[zlib.crc32(repr(thing).encode()) % COLUMNS] += count
    return np.log1p(matrix)


def shares(groups, members, matrix):
    """[(one of COUNTS, mean, spread), ...] of one classifier. matrix: [texts, columns]."""
    matrix = comparable(matrix, members)
    result = {name: [] for name in COUNTS}
    for seed in range(SEEDS):
        right = {name: [] for name in COUNTS}
        order = np.random.default_rng(seed).permutation(len(groups))
        for fold in range(FOLDS):
            judged = order[fold::FOLDS]
            weights = fitted_to(groups, members, matrix, np.setdiff1d(order, judged))
            for g in judged:
                count_right(groups[g], matrix[members[g]] @ weights, right)
        for name, values in right.items():
            result[name].append(np.mean(values) if values else np.nan)
    summary = []
    for name, values in result.items():
        summary.append((name, 100 * np.mean(values), 100 * np.std(values)))
    return summary


def fitted_to(groups, members, matrix, chosen):
    """The weights [columns] of the logistic regression on the pairs of the chosen groups."""
    pairs = []  # winner minus loser
    for g in chosen:
        rows = matrix[members[g]]
        count = len(groups[g]["winners"])
        for winner in rows[:count]:
            pairs.extend(winner - rows[count:])
    return logistic(pairs, matrix.shape[1])


def comparable(matrix, members):
    """The matrix [texts, columns] relative to the mean of each group, its columns of one scale.

    -> [texts, rank]: rotated, so that the many columns of n-grams become as few as they can be."""
    matrix = matrix.copy()
    for places in members:
        matrix[places] -= matrix[places].mean(axis=0)
    matrix = np.arcsinh(matrix)  # a text of another size does not outweigh the others
    matrix = matrix[:, matrix.std(axis=0) > 0]
    matrix /= matrix.std(axis=0)
    rotated, scale, _ = np.linalg.svd(matrix, full_matrices=False)
    kept = scale > 1e-6
    return (rotated * scale)[:, kept]


def logistic(pairs, columns):
    """The weights [columns] under which most pairs, list of [columns], score above 0."""
    weights = np.zeros(columns)
    if not pairs or not columns:
        return weights
    matrix = np.array(pairs)
    for _ in range(STEPS):
        wrong = 1 / (1 + np.exp(matrix @ weights))  # the chance that the model gives the loser
        gradient = matrix.T @ wrong - SHRINK * columns * weights
        curvature = (matrix.T * (wrong * (1 - wrong))) @ matrix
        weights += np.linalg.solve(curvature + SHRINK * columns * np.eye(columns), gradient)
    return weights


def count_right(group, scores, right):
    """Appends 0, 0.5 or 1 to the lists of `right` by the scores [texts] of a group: dict."""
    meta = group["meta"]
    count = len(group["winners"])
    winners, losers = scores[:count], scores[count:]
    for winner, winner_level in zip(winners, meta["levels"]):
        for loser, edit in zip(losers, meta["losers"]):
            same_level = winner_level == edit["level"]
            won = (np.sign(winner - loser) + 1) / 2
            right["pairs"].append(won)
            right["at one level" if same_level else "across levels"].append(won)
    right["groups"].append((np.sign(winners.mean() - losers.mean()) + 1) / 2)
