"""What all sets have in common: a problem with solutions and tests, before anything has run."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

TEST_BYTES = 64 << 10  # a longer input or output is no test
TESTS = 40  # of a problem, at most: the smallest
SOLUTIONS = 8  # of a problem in each language, at most: the shortest

# How sets, compilers and file names call the languages that we know. Python 2 is none of them.
NAMES = {
    "python": r"py|python|(py|pypy|python) ?3.*",
    "cpp": r"cc|cxx|cpp|(gnu |ms |clang|microsoft visual )?[cg]?\+\+.*",
    "java": r"java( ?\d.*)?",
    "javascript": r"js|javascript.*|node.*",
    "typescript": r"ts|typescript.*",
    "csharp": r"cs|csharp|.*c#.*",
    "php": r"php.*",
    "go": r"go(lang)?( .*)?",
    "scala": r"scala.*",
    "haskell": r"hs|haskell.*",
    "bash": r"sh|bash",
}


class Refused(ValueError):
    """A problem that cannot be used; what precedes the first colon of the message is the kind."""


class Solution(NamedTuple):
    language: str  # a key of NAMES
    source: str

    def size(self):
        return len(self.source), self


class Case(NamedTuple):
    stdin: str
    stdout: str

    def size(self):
        return len(self.stdin) + len(self.stdout)


@dataclass
class Problem:
    """One problem of a set."""

    id: str
    where: str  # FILE:ROW
    statement: str = ""
    solutions: list[Solution] = field(default_factory=list)  # those that the set calls right
    tests: list[Case] = field(default_factory=list)
    refused: str = ""  # why it cannot be used, if its row says so
    dropped: Counter = field(default_factory=Counter)  # tests and solutions that went, by reason

    def add_solution(self, language, source):
        """Adds a solution in a language by any of its names; other languages are left out."""
        name = language_of(language)
        source = source.replace("\r\n", "\n")
        if name and source.strip():
            self.solutions.append(Solution(name, source))

    def tidy(self):
        """Keeps the shortest solutions, and the smallest tests that are of use. -> None"""
        by_length = sorted(set(self.solutions), key=Solution.size)
        counts = Counter()
        self.solutions = []
        for solution in by_length:
            counts[solution.language] += 1
            if counts[solution.language] <= SOLUTIONS:
                self.solutions.append(solution)
        outputs = {}  # stdin -> the outputs that its tests want
        for test in self.tests:
            stdin, stdout = [text.replace("\r\n", "\n") for text in test]
            if not stdout.strip():
                self.dropped["no output"] += 1
            elif max(len(stdin.encode()), len(stdout.encode())) > TEST_BYTES:
                self.dropped["over 64 KB"] += 1
            else:
                outputs.setdefault(stdin, []).append(stdout)
        self.tests = []
        for stdin, wanted in outputs.items():
            if len({text.rstrip() for text in wanted}) > 1:
                self.dropped["two outputs for one input"] += len(wanted)
                continue
            self.dropped["duplicate"] += len(wanted) - 1
            self.tests.append(Case(stdin, wanted[0]))
        self.tests.sort(key=Case.size)
        self.dropped["more than enough"] += len(self.tests[TESTS:])
        del self.tests[TESTS:]
        self.dropped = +self.dropped  # without the zeros


def language_of(name):
    """The language that a set or a file calls `name` (str), or ""."""
    for language, pattern in NAMES.items():
        if re.fullmatch(pattern, name.strip().lower()):
            return language
    return ""
