"""Reads and checks the two JSONL formats of the trainer, and writes JSON rows.

    problems.jsonl    {"id", "source_language", "target_language", "source",
                       "tests": [{"stdin", "stdout"}, ...]}, optional "declaration";
                      for evaluation only: "harness" instead of "tests", or rows of MultiPL-E
                      (judge/harnesses.py describes both)
    ir_groups.jsonl   {"id", "language": "c" or "cpp", "source", "winners": [ir, ...],
                       "losers": [ir, ...], "meta": {...}}; with a "target_language" too, a group
                      of translations

Every row is checked before any work starts. A bad row raises ValueError; the message names the
file, the line and the field, and says what to do about it. runnable() keeps the problems whose
language can be judged here. append_rows() and write_atomically() write files that a killed process
does not leave half written. Left out: other formats of problem sets.
"""

import errno
import gzip
import json
import math
import os
import zlib
from pathlib import Path

from judge.harnesses import (
    MULTIPL_E,
    is_harness,
    is_multipl_e,
    unsupported_languages,
    with_common_fields,
)
from judge.languages import LANGUAGES

PROBLEM_FIELDS = {"id": str, "source_language": str, "target_language": str, "source": str}
GROUP_FIELDS = {"id": str, "language": str, "source": str, "winners": list, "losers": list}


# ---------------------------------------------------------------------------- translation problems


def read_problems(path, harness=False) -> list[dict]:
    """The problems of a file, checked.

    harness: accept harness problems too (judge/harnesses.py), which only evaluate.py and reward.py
    can run. Raises ValueError, which names file, line and field and says what to do about it."""
    rows = read_jsonl(path, {})
    for number, row in rows:
        if is_harness(row):
            _check_harness_problem(f"{path}:{number}", row, harness)
    rows = [(number, with_common_fields(row)) for number, row in rows]
    for number, row in rows:
        if not is_multipl_e(row):
            _check_problem(f"{path}:{number}", row)
    if not rows:
        raise ValueError(f"{path}: holds no problem; give at least one row")
    return _with_unique_ids(path, rows)


def _check_harness_problem(where, row, allowed):
    if not allowed:
        field = "harness" if "harness" in row else "tests"
        raise ValueError(
            f'{where}: "{field}" is code to append; training problems are stdin -> stdout, '
            'give "tests": [{"stdin", "stdout"}, ...]. evaluate.py and reward.py read this row'
        )
    if "harness" not in row:
        _check_multipl_e(where, row)
        return
    for field in ("tests", "prompt"):
        if field in row:
            raise ValueError(f'{where}: "harness" and "{field}" are both given; keep one')
    if not isinstance(row["harness"], str) or not row["harness"].strip():
        raise ValueError(f'{where}: "harness" must be a string, the code to append to the solution')


def _check_multipl_e(where, row):
    check_fields(where, row, MULTIPL_E)
    for field in ("id", "source_language", "target_language"):
        if field in row:
            check_fields(where, row, {field: str})
    for field in ("name", "language", "prompt", "tests"):
        if not row[field].strip():
            raise ValueError(
                f'{where}: "{field}" is empty; a MultiPL-E row has {", ".join(MULTIPL_E)}'
            )
    if not all(isinstance(stop, str) and stop for stop in row["stop_tokens"]):
        raise ValueError(f'{where}: "stop_tokens" must be a list of strings, none of them empty')


def _check_problem(where, row):
    check_fields(where, row, PROBLEM_FIELDS)
    if "harness" not in row:
        check_fields(where, row, {"tests": list})
    for field in ("source_language", "target_language"):
        if row[field] not in LANGUAGES:
            raise ValueError(
                f'{where}: "{field}" is {row[field]!r}; known are {", ".join(LANGUAGES)}'
            )
    if not row["source"].strip():
        raise ValueError(f'{where}: "source" is empty; give the program to translate')
    if row.get("tests") == []:
        raise ValueError(f'{where}: "tests" is empty; give at least one {{"stdin", "stdout"}}')
    for i, test in enumerate(row.get("tests", [])):
        for field in ("stdin", "stdout"):
            if not isinstance(test, dict) or not isinstance(test.get(field), str):
                raise ValueError(f'{where}: "tests"[{i}] needs a string "{field}"')
    if not isinstance(row.get("declaration", ""), str):
        raise ValueError(f'{where}: "declaration" must be a string')


def runnable(problems, missing, what="problems"):
    """The problems whose target language can be judged here; prints what is left out.

    missing: {language: what to install}. Raises ValueError if no problem remains.
    """
    missing = missing | unsupported_languages(problems)
    for language, reason in missing.items():
        count = sum(problem["target_language"] == language for problem in problems)
        if count:
            print(f"{count} of {len(problems)} {what} left out: {language} is missing ({reason})")
    kept = [problem for problem in problems if problem["target_language"] not in missing]
    if not kept:
        raise ValueError(
            f"none of the {len(problems)} {what} has a target language that is installed here"
        )
    return kept


# --------------------------------------------------------------------------------------- IR groups


def read_groups(path) -> list[dict]:
    """The IR groups of a file, checked: n >= 1 winners and m >= 1 losers each.

    Raises ValueError, which names file, line and field and says what to do about it."""
    rows = read_jsonl(path, GROUP_FIELDS)
    for number, row in rows:
        where = f"{path}:{number}"
        _check_group_languages(where, row)
        for field in ("winners", "losers"):
            if not row[field] or not all(isinstance(ir, str) and ir.strip() for ir in row[field]):
                raise ValueError(
                    f'{where}: "{field}" must be a list of at least one non-empty IR text'
                )
    if not rows:
        raise ValueError(f"{path}: holds no group; give at least one row")
    return _with_unique_ids(path, rows)


def _check_group_languages(where, row):
    if "target_language" in row:
        known = list(LANGUAGES)
        for field in ("language", "target_language"):
            if row[field] not in known:
                raise ValueError(
                    f'{where}: "{field}" is {row[field]!r}; of a group of translations it is one '
                    f"of {', '.join(known)}"
                )
    elif row["language"] not in ("c", "cpp"):
        raise ValueError(
            f'{where}: "language" must be "c" or "cpp", the source of LLVM IR; a group of '
            'translations has a "target_language" too'
        )
    if not row["source"].strip():
        raise ValueError(f'{where}: "source" is empty; it must be a program')


# ----------------------------------------------------------------------------------- rows of a file


def read_jsonl(path, required: dict[str, type], any_text=False) -> list[tuple[int, dict]]:
    """Rows of a JSONL file with their line numbers (from 1); blank lines are skipped.

    path: one that ends in .gz is decompressed.
    required: field -> the type that it must have.
    any_text: accept texts with half of a surrogate pair, as a model's answers may be.
    Raises ValueError, which names file, line and field and says what to do about it."""
    try:
        content = Path(path).read_bytes()
        if Path(path).suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:  # of gzip, too
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{path}: cannot be read ({reason}); give the path of a JSONL file"
        ) from None
    lines = content.split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _parse_row(f"{path}:{number}", line)
            if not any_text:
                check_surrogates(f"{path}:{number}", row)
            check_fields(f"{path}:{number}", row, required)
            rows.append((number, row))
    return rows


def read_table(path) -> list[tuple[int, dict]]:
    """Rows of a JSONL or parquet file with their numbers (from 1). Raises ValueError."""
    if Path(path).suffix != ".parquet":
        return read_jsonl(path, {})
    try:
        from pyarrow import parquet  # not among our requirements

        return list(enumerate(parquet.read_table(path).to_pylist(), 1))
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: {error}; pip install pyarrow to read parquet, or export it as JSONL"
        ) from None


def check_fields(where, row, required):
    """Raises ValueError, naming `where`, if a required field is missing or of another type.

    required: field -> type, or several of them as in str | list."""
    for field, kind in required.items():
        name = getattr(kind, "__name__", kind)
        if field not in row:
            raise ValueError(f'{where}: "{field}" is missing; add it ({name})')
        if not isinstance(row[field], kind):
            raise ValueError(
                f'{where}: "{field}" is a {type(row[field]).__name__}; it must be a {name}'
            )


def _parse_row(where, line):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # bad UTF-8 too, which is a ValueError
        raise ValueError(
            f"{where}: not a JSON row ({error}); write one JSON object a line, UTF-8"
        ) from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: the row is a {type(row).__name__}; it must be a JSON object")
    return row


def check_surrogates(where, row):
    """JSON may spell half of a surrogate pair; no file or pipe could take such a text later."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: holds half of a surrogate pair ({error.object[error.start]!a}); "
            "no program has one"
        ) from None


def _with_unique_ids(path, rows):
    """The rows without their line numbers. Raises ValueError if two have the same id."""
    line_of_id = {}
    for number, row in rows:
        if row["id"] in line_of_id:
            message = (
                f'{path}:{number}: "id" {row["id"]!r} is already on line {line_of_id[row["id"]]}; '
                "ids must be unique"
            )
            if "name" in row:  # a MultiPL-E row, whose id is its name
                message += '; give "id" beside "name"'
            raise ValueError(message)
        line_of_id[row["id"]] = number
    return [row for _, row in rows]


# ---------------------------------------------------------------------------------- writing files


def append_rows(path, rows):
    """Appends JSON rows in one write, so that a killed run leaves whole rows.

    NaN and infinity become null. Raises OSError, also when only a part could be written."""
    lines = []
    for row in rows:
        finite = {key: None if _is_not_finite(value) else value for key, value in row.items()}
        lines.append(json.dumps(finite) + "\n")
    data = "".join(lines).encode()
    with open(path, "ab", buffering=0) as file:
        # A disk that is about to be full takes a part and reports success.
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _is_not_finite(value):
    return isinstance(value, float) and not math.isfinite(value)


def end_last_row(path):
    """Takes off a last row that a kill or a full disk cut short, so that rows can be appended.

    One that is whole gets the line break that it lacks. What does not begin as a row stays: the
    file is another's, as its reader will say."""
    lines, newline, rest = path.read_bytes().rpartition(b"\n")
    if not rest:
        return
    try:
        json.loads(rest)
    except ValueError:
        if rest.startswith((b"{", b"[")):
            os.truncate(path, len(lines + newline))
    else:
        with open(path, "ab") as file:
            file.write(b"\n")


def write_atomically(path, text):
    """Writes a file that is there as a whole or not at all, whenever this process is killed."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
