"""Rows of published problem sets, each read to a Problem.

    read_problem_sets([PATH, ...], "auto") -> [Problem, ...]

A path is a file (JSONL, JSONL.gz, or parquet if pyarrow is installed), a folder of such files, or
a folder of problem packages (packages.py). FORMATS has a line for each kind of row: the fields that
tell it, and the function that reads it. The fields are those of the sets' own pages:

    apps, taco      huggingface.co/datasets/codeparrot/apps, .../BAAI/TACO: "solutions" and
                    "input_output" are JSON in strings, empty where there is none
    code_contests   .../deepmind/code_contests: languages are numbers, tests are two lists
    synthetic_1     .../PrimeIntellect/SYNTHETIC-1: a fenced block, and "verification_info", JSON or
                    Python's way to write it
    xcodeeval       .../NTU-NLP-sg/xCodeEval: a row a solution, joined by "src_uid"
    codeforces      .../open-r1/codeforces: problems with tests, and
    submissions     .../open-r1/codeforces-submissions: their solutions, joined by the problem's id
    problems        problems.jsonl, as this project writes it
    plain           {"id", "language", "source", "tests": [{"stdin", "stdout"}, ...]}

The statement of a problem is read only to compare problems. Left out: a set's own time limits.
"""

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import data
from judge.answer import extract_code
from problemsets.packages import package_folders, read_package
from problemsets.record import Case, Problem, language_of

# CodeContests' numbers (its page: UNKNOWN_LANGUAGE, PYTHON, CPP, PYTHON3, JAVA).
CODE_CONTESTS_LANGUAGES = ["unknown", "python 2", "cpp", "python", "java"]
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


class Place(NamedTuple):
    """A row of a file."""

    path: Path
    row: int  # from 1

    def __str__(self):
        return f"{self.path}:{self.row}"


@dataclass(frozen=True)
class Format:
    """One kind of row."""

    required: dict[str, type]  # the fields that it is told by, in the first row of a file
    read: Callable  # (row, Place) -> Problem
    joins: bool = False  # whether several rows may be of one problem


def read_problem_sets(paths, form="auto"):
    """The problems of files and folders, tidied, in their order.

    paths: list of Path. form: "auto", "package", or a key of FORMATS.
    -> list of Problem. Raises ValueError, which names file, row and field."""
    sys.set_int_max_str_digits(0)  # APPS has longer ones
    problems = {}
    for path in paths:
        for problem, joins in _problems_of(path, form):
            known = problems.setdefault(problem.id, problem)
            if known is problem:
                continue
            if not joins:
                raise ValueError(
                    f'{problem.where}: "id" {problem.id!r} is already that of {known.where}; '
                    "ids must be unique"
                )
            known.statement = known.statement or problem.statement
            known.refused = known.refused or problem.refused
            known.solutions += problem.solutions
            if problem.tests != known.tests:
                known.tests += problem.tests
    if not problems:
        raise ValueError(f"{' '.join(map(str, paths))}: no problem there; give at least one row")
    for problem in problems.values():
        problem.tidy()
    return list(problems.values())


def _problems_of(path, form):
    """(Problem, whether others may have its id) of each row and package of a path."""
    files = [path]
    if path.is_dir():
        packages = package_folders(path)
        files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES))
        if form == "package" or (packages and form == "auto"):
            for folder in packages:
                yield read_package(folder, path), False
            return
    for file in files:
        rows = data.read_table(file)
        fields = rows[0][1].keys() if rows else ()
        name = _told_format(file, fields) if form == "auto" and rows else form
        for number, row in rows:
            place = Place(file, number)
            data.check_fields(place, row, FORMATS[name].required)
            problem = FORMATS[name].read(row, place)
            if FORMATS[name].joins:  # before the next row, because sets are large
                problem.tidy()
            yield problem, FORMATS[name].joins


def _told_format(file, fields):
    for name, form in FORMATS.items():
        if form.required.keys() <= fields:
            return name
    known = "; ".join(f"{name}: {', '.join(form.required)}" for name, form in FORMATS.items())
    raise ValueError(
        f"{file}:1: no known format has the fields {', '.join(fields)}; name one with --format. "
        f"Known are {known}"
    )


# ------------------------------------------------------------------------------ parts of a row


def _parsed(place, row, field):
    """The value of a field that may be JSON in a string, or Python's repr; None for ""."""
    value = row[field]
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError as error:
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f'{place}: "{field}" is not JSON ({error}); copy it again') from None


def _text(place, field, value):
    """The text of a test: a string, bytes, a number, or a list of such lines."""
    if isinstance(value, list):
        value = "\n".join(_text(place, field, line) for line in value)
    if isinstance(value, int | float):
        value = str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f'{place}: "{field}" is not UTF-8 ({error})') from None
    if not isinstance(value, str):
        raise ValueError(
            f'{place}: "{field}" is a {type(value).__name__}; it must be text or a list of lines'
        )
    data.check_surrogates(f'{place}: "{field}"', value)  # JSON in a string may spell one
    return value


def _typed(place, field, value, kind):
    """The value, if it is of the kind, a type. None counts as an empty one."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise ValueError(
            f'{place}: "{field}" is a {type(value).__name__}; it must be a {kind.__name__}'
        )
    return value


def _paired_tests(place, field, cases, names):
    """Tests of two lists of one length, cases[names[0]] and cases[names[1]]."""
    inputs = _typed(place, f"{field}.{names[0]}", cases.get(names[0]), list)
    outputs = _typed(place, f"{field}.{names[1]}", cases.get(names[1]), list)
    if len(inputs) != len(outputs):
        raise ValueError(
            f'{place}: "{field}" has {len(inputs)} {names[0]} and {len(outputs)} {names[1]}; '
            "it must have as many"
        )
    tests = []
    for i, pair in enumerate(zip(inputs, outputs)):
        stdin, stdout = [_text(place, f"{field}[{i}]", value) for value in pair]
        tests.append(Case(stdin, stdout))
    return tests


def _listed_tests(place, field, cases, names):
    """Tests of a list of objects, each with the two names."""
    tests = []
    for i, case in enumerate(_typed(place, field, cases, list)):
        case = _typed(place, f"{field}[{i}]", case, dict)
        texts = []
        for name in names:
            if name not in case:
                raise ValueError(f'{place}: "{field}"[{i}] needs "{name}"')
            texts.append(_text(place, f"{field}[{i}].{name}", case[name]))
        tests.append(Case(*texts))
    return tests


# ------------------------------------------------------------------------------------- formats


def _read_apps(row, place):
    id = row.get("problem_id", row.get("id", place.row))
    problem = Problem(f"{place.path.name.partition('.')[0]}/{id}", str(place))
    problem.statement = row.get("question") or ""
    for i, source in enumerate(_typed(place, "solutions", _parsed(place, row, "solutions"), list)):
        problem.add_solution("python", _text(place, f"solutions[{i}]", source))
    cases = _typed(place, "input_output", _parsed(place, row, "input_output"), dict)
    if cases.get("fn_name"):
        problem.refused = "a function is called, fn_name"
    else:
        problem.tests = _paired_tests(place, "input_output", cases, ("inputs", "outputs"))
    return problem


def _read_code_contests(row, place):
    problem = Problem(f"code_contests/{row['name']}", str(place))
    problem.statement = row.get("description") or ""
    languages = _typed(place, "solutions.language", row["solutions"].get("language"), list)
    sources = _typed(place, "solutions.solution", row["solutions"].get("solution"), list)
    if len(languages) != len(sources):
        raise ValueError(f'{place}: "solutions" has {len(languages)} languages, not {len(sources)}')
    for i, (number, source) in enumerate(zip(languages, sources)):
        if number not in range(len(CODE_CONTESTS_LANGUAGES)):
            raise ValueError(f'{place}: "solutions.language"[{i}] is {number!r}; known are 0 to 4')
        problem.add_solution(CODE_CONTESTS_LANGUAGES[number], _text(place, "solutions", source))
    for field in ("public_tests", "private_tests", "generated_tests"):
        cases = _typed(place, field, row.get(field), dict)
        problem.tests += _paired_tests(place, field, cases, ("input", "output"))
    if row.get("input_file") or row.get("output_file"):
        problem.refused = "files for input or output"
    return problem


def _read_synthetic_1(row, place):
    problem = Problem(f"synthetic_1/{row['problem_id']}", str(place))
    problem.statement = row.get("prompt") or ""
    info = _typed(place, "verification_info", _parsed(place, row, "verification_info"), dict)
    if row.get("task_type", "verifiable_code") != "verifiable_code":
        problem.refused = f"another task, {row['task_type']}"
        return problem
    cases = _typed(place, "verification_info.test_cases", info.get("test_cases"), list)
    kinds = {_typed(place, "test_cases", case, dict).get("type") for case in cases}
    if kinds - {"stdin_stdout"}:
        problem.refused = "a function is called, test_cases"
        return problem
    problem.tests = _listed_tests(place, "test_cases", cases, ("input", "output"))
    answer = _typed(place, "gold_standard_solution", row["gold_standard_solution"], str)
    language = language_of(info.get("language") or "python")
    if language:
        code = extract_code(answer, language) if "```" in answer else answer
        problem.add_solution(language, code or "")
    return problem


def _read_xcodeeval(row, place):
    problem = Problem(f"xcodeeval/{row['src_uid']}", str(place))
    problem.statement = row.get("prob_desc_description") or ""
    if row.get("exec_outcome", "PASSED") == "PASSED":
        problem.add_solution(row["lang"], row["source_code"])
    cases = _parsed(place, row, "hidden_unit_tests")
    for i, case in enumerate(_typed(place, "hidden_unit_tests", cases, list)):
        case = _typed(place, f"hidden_unit_tests[{i}]", case, dict)
        outputs = case.get("output")
        if isinstance(outputs, list) and len(outputs) != 1:
            problem.dropped["several right outputs"] += 1
        else:
            field = f"hidden_unit_tests[{i}]"
            problem.tests += _listed_tests(place, field, [case], ("input", "output"))
    for field in ("prob_desc_input_from", "prob_desc_output_to"):
        if "standard" not in (row.get(field) or "standard"):
            problem.refused = "files for input or output"
    return problem


def _read_codeforces(row, place):
    problem = Problem(f"codeforces/{row['id']}", str(place))
    problem.statement = row.get("description") or ""
    for field in ("examples", "official_tests"):
        problem.tests += _listed_tests(place, field, row.get(field), ("input", "output"))
    if row.get("interaction_format"):
        problem.refused = "interactive"
    elif row.get("generated_checker"):
        problem.refused = "a checker judges the output"
    elif row.get("input_mode", "stdio") != "stdio":
        problem.refused = "files for input or output"
    return problem


def _read_submission(row, place):
    problem = Problem(f"codeforces/{row['problem_id']}", str(place))
    if row["verdict"] == "OK":
        problem.add_solution(row["programmingLanguage"], row["source"])
    return problem


def _read_plain(row, place):
    problem = Problem(row["id"], str(place), row.get("statement") or "")
    language = row.get("language") or row.get("source_language")
    if not isinstance(language, str) or not language_of(language):
        raise ValueError(f'{place}: "language" is {language!r}; give a language that is known')
    problem.add_solution(language, row["source"])
    problem.tests = _listed_tests(place, "tests", row["tests"], ("stdin", "stdout"))
    return problem


PLAIN = {"id": str, "source": str, "tests": list}
APPS = {"solutions": str | list, "input_output": str | dict}
FORMATS = {  # the first whose fields a row has
    "code_contests": Format(
        {"name": str, "solutions": dict, "private_tests": dict}, _read_code_contests
    ),
    "taco": Format({**APPS, "skill_types": object}, _read_apps),
    "apps": Format(APPS, _read_apps),
    "synthetic_1": Format(
        {"problem_id": str, "gold_standard_solution": object, "verification_info": object},
        _read_synthetic_1,
        joins=True,  # a row for each answer of a model
    ),
    "xcodeeval": Format(
        {"src_uid": str, "lang": str, "source_code": str, "hidden_unit_tests": object},
        _read_xcodeeval,
        joins=True,
    ),
    "codeforces": Format({"id": str, "official_tests": object}, _read_codeforces, joins=True),
    "submissions": Format(
        {"problem_id": str, "programmingLanguage": str, "verdict": str, "source": str},
        _read_submission,
        joins=True,
    ),
    "problems": Format({**PLAIN, "source_language": str}, _read_plain),
    "plain": Format({**PLAIN, "language": str}, _read_plain),
}
