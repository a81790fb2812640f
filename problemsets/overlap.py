"""Which problems are nearly the same: by 13-grams of their texts, or by their tests.

Two texts overlap if the smaller of their two sets of 13-grams lies by half in the other. A gram is
13 words or marks in a row, whatever the white space and the case. The same holds for sets of
tests. What many programs begin with says nothing and is left out: imports and macros, and grams
that many problems share.
"""

import json
import re
from collections import Counter, defaultdict

GRAM = 13
# Lines that every program of an author may begin with, and comments of Python.
HEAD = re.compile(r"^\s*(#|using |import |from |typedef ).*", re.M)
SHARE = 0.5
COMMON = 1 / 20  # of the problems; a gram that more have is left out
FEW = 20  # holders of a gram are always looked at


def grams(text):
    """The set of the 13-grams (tuples) of a text; of a shorter one that of all its words."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    ends = range(GRAM, max(len(words), GRAM) + 1)
    return {tuple(words[end - GRAM : end]) for end in ends if words}


def features(problem, source):
    """Three sets, by which problems are compared: of source, statement and tests.

    problem: Problem. source: str, the chosen solution."""
    tests = {(test.stdin.strip(), test.stdout.strip()) for test in problem.tests}
    return {
        "source": grams(HEAD.sub("", source)),
        "statement": grams(problem.statement),
        "tests": tests,
    }


class Index:
    """Sets with names; finds those that overlap with another one."""

    def __init__(self):
        self._holders = defaultdict(list)  # member -> names of the sets that have it
        self._sizes = {}

    def add(self, name, members):
        self._sizes[name] = len(members)
        for member in members:
            self._holders[member].append(name)

    def overlapping(self, members):
        """The names of the sets that share with `members` half of the smaller of the two."""
        shared = Counter()
        for member in members:
            shared.update(self._holders.get(member, ()))
        found = []
        for name, count in shared.items():
            if count >= SHARE * min(len(members), self._sizes[name]):
                found.append(name)
        return found


class Evaluation:
    """Rows of evaluation sets, of any form: what overlaps with one of them is not to be learnt."""

    def __init__(self, rows):
        """rows: list of JSON values."""
        self._grams = Index()
        self._holders = defaultdict(set)  # text -> numbers of the rows that have it
        for number, row in enumerate(rows):
            of_row = set()
            for text in texts(row):
                of_row |= grams(text)
                self._holders[text.strip()].add(number)
            self._grams.add(number, of_row)

    def overlaps(self, of_problem):
        """What of a problem's features() a row has too: its kind (str), or ""."""
        for kind in ("source", "statement"):
            if self._grams.overlapping(of_problem[kind]):
                return kind
        shared = Counter()
        for stdin, stdout in of_problem["tests"]:
            shared.update(self._holders.get(stdin, set()) & self._holders.get(stdout, set()))
        most = max(shared.values(), default=0)
        return "tests" if most and most >= SHARE * len(of_problem["tests"]) else ""


def clusters(all_features):
    """Numbers that near-duplicates share. all_features: a dict of features() each -> list of int.

    Near-duplicates of near-duplicates share it too."""
    parent = list(range(len(all_features)))

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for kind in ("source", "statement", "tests"):
        holders = Counter()
        for of_problem in all_features:
            holders.update(of_problem[kind])
        limit = max(FEW, COMMON * len(all_features))
        index = Index()
        same = {}  # equal sets, however common their members are
        for i, of_problem in enumerate(all_features):
            if not of_problem[kind]:
                continue
            twin = same.setdefault(frozenset(of_problem[kind]), i)
            telling = {member for member in of_problem[kind] if holders[member] <= limit}
            for j in [twin, *index.overlapping(telling)]:
                parent[root(i)] = root(j)
            index.add(i, telling)
    return [root(i) for i in range(len(all_features))]


def texts(value):
    """Every text in a JSON value, also in JSON that stands in a text. -> generator of str"""
    if isinstance(value, str):
        yield value
        if value[:1] in ("{", "["):
            try:
                yield from texts(json.loads(value))
            except (ValueError, RecursionError):
                return
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)
