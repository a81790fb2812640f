"""Problem packages, as Kattis, DOMjudge and the ICPC use them: one folder a problem.

    problem.yaml   data/**/NAME.in with NAME.ans   submissions/accepted/FILE

The form is that of icpc.io/problem-package-format, "legacy" and "2023-07". Of problem.yaml only the
lines are read that tell how an answer is judged, so that no YAML library is needed. Left out:
solutions of several files, and code that a package adds to them.
"""

import re
from pathlib import Path

from problemsets.record import Case, Problem, language_of

# What a line of problem.yaml means for us: the pattern, and why the problem cannot be used.
REFUSED = [
    (r"^(validation|type):.*\b(interactive|multi-pass|submit-answer)", "interactive"),
    (r"^validation:\s*[\"']?custom", "a checker judges the output"),
    (r"^\s*validator_flags:.*tolerance", "a tolerance judges the output"),
]
CHECKERS = ("output_validator", "output_validators")


def package_folders(folder):
    """The folders of all packages below a folder, sorted. folder: Path -> list of Path."""
    return sorted(file.parent for file in folder.rglob("problem.yaml"))


def read_package(folder, root):
    """The Problem of a package. folder, root: Path; its id is the path from the root.

    Raises ValueError, which names the file."""
    id = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    problem = Problem(id, str(folder))
    settings = _read(folder / "problem.yaml")
    for pattern, reason in REFUSED:
        if re.search(pattern, settings, re.M):
            problem.refused = reason
            return problem
    if re.search(r"^problem_format_version:.*20", settings, re.M):
        if (folder / CHECKERS[0]).is_dir() or (folder / CHECKERS[1]).is_dir():
            problem.refused = "a checker judges the output"
            return problem
    if (folder / "include").is_dir():
        problem.refused = "code is added to the solution"
        return problem
    for answer in sorted(folder.glob("data/**/*.ans")):
        question = answer.with_suffix(".in")
        if not question.is_file():
            raise ValueError(f"{answer}: there is no {question.name} beside it; add it")
        problem.tests.append(Case(_read(question), _read(answer)))
    for file in sorted(folder.glob("submissions/accepted/*")):
        language = file.suffix.removeprefix(".")
        if file.is_file() and language_of(language):
            try:
                problem.add_solution(language, _read(file))
            except ValueError:  # such as Latin-1
                problem.dropped["a solution is not UTF-8"] += 1
    return problem


def _read(path: Path):
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); copy it again") from None
