"""What the trainer reads: tokenizers with their chat prompt, and the two JSONL formats.

    problems.jsonl    {"id", "source_language", "target_language", "source", "tests": [{"stdin", "stdout"}, ...]};
                      for evaluation only "harness" instead of "tests", or rows of MultiPL-E: see harness.py
    ir_groups.jsonl   {"id", "language": "c", "source", "winners": [ir, ...], "losers": [ir, ...], "meta": {...}}

Every row is checked before any work starts; a bad one is named by file, line and field, with the mend. This file
imports no torch, so that the judge's workers start quickly. Left out: tokenizer training (toy/make.py does it).
"""

import json
from pathlib import Path

from judge.harnesses import MULTIPL_E, is_harness, is_multipl_e, with_common_fields
from judge.languages import LANGUAGES

# ---------------------------------------------------------------------------------------------- JSONL


def read_jsonl(path, required: dict[str, type]) -> list[tuple[int, dict]]:
    """Rows of a JSONL file with their line numbers (from 1); blank lines are passed over.

    required: field -> type that it must have. Raises ValueError naming file, line, field and mend."""
    rows = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as e:
        raise ValueError(
            f"{path}: cannot be read ({e.strerror}); give the path of a JSONL file"
        ) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:  # UnicodeDecodeError is one too
            raise ValueError(
                f"{path}:{number}: not a JSON row ({e}); write one JSON object a line, UTF-8"
            ) from None
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as e:
            raise ValueError(
                f"{path}:{number}: holds half of a surrogate pair ({e.object[e.start]!a}); no program has one"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}:{number}: the row is a {type(row).__name__}; it must be a JSON object"
            )
        check_fields(f"{path}:{number}", row, required)
        rows.append((number, row))
    return rows


def read_table(path) -> list[tuple[int, dict]]:
    """Rows of a JSONL or parquet file with their numbers. Raises ValueError."""
    if Path(path).suffix != ".parquet":
        return read_jsonl(path, {})
    try:
        from pyarrow import parquet  # not among our requirements

        return list(enumerate(parquet.read_table(path).to_pylist(), 1))
    except (ImportError, OSError, ValueError) as e:
        raise ValueError(
            f"{path}: {e}; pip install pyarrow to read parquet, or export it as JSONL"
        ) from None


def check_fields(where, row, required):
    for field, kind in required.items():
        if field not in row:
            raise ValueError(f'{where}: "{field}" is missing; add it ({kind.__name__})')
        if not isinstance(row[field], kind):
            raise ValueError(
                f'{where}: "{field}" is a {type(row[field]).__name__}; it must be a {kind.__name__}'
            )


def _unique_ids(path, rows):
    first = {}
    for number, row in rows:
        if row["id"] in first:
            raise ValueError(
                f'{path}:{number}: "id" {row["id"]!r} is already on line {first[row["id"]]}; '
                "ids must be unique" + '; give "id" beside "name"' * ("name" in row)
            )
        first[row["id"]] = number
    return [row for _, row in rows]


def read_problems(path, harness=False) -> list[dict]:
    """The problems of a file, checked; harness: also those that harness.py runs. Raises ValueError (file:line, field, mend)."""
    rows = [
        (
            number,
            with_common_fields(row) if _check_harness(f"{path}:{number}", row, harness) else row,
        )
        for number, row in read_jsonl(path, {})
    ]
    for number, row in rows:
        where = f"{path}:{number}"
        if is_multipl_e(row):
            continue
        tests = {"harness": str} if "harness" in row else {"tests": list}
        check_fields(
            where,
            row,
            {"id": str, "source_language": str, "target_language": str, "source": str, **tests},
        )
        for field in ("source_language", "target_language"):
            if row[field] not in LANGUAGES:
                raise ValueError(
                    f'{where}: "{field}" is {row[field]!r}; known are {", ".join(LANGUAGES)}'
                )
        if not row["source"].strip():
            raise ValueError(f'{where}: "source" is empty; give the program to translate')
        if row.get("tests") == []:
            raise ValueError(f'{where}: "tests" is empty; give at least one {{"stdin", "stdout"}}')
        for k, test in enumerate(row.get("tests", [])):
            for field in ("stdin", "stdout"):
                if not isinstance(test, dict) or not isinstance(test.get(field), str):
                    raise ValueError(f'{where}: "tests"[{k}] needs a string "{field}"')
        if not isinstance(row.get("declaration", ""), str):
            raise ValueError(f'{where}: "declaration" must be a string')
    if not rows:
        raise ValueError(f"{path}: holds no problem; give at least one row")
    return _unique_ids(path, rows)


def _check_harness(where, row, allowed):
    """Whether it is a harness problem; ValueError if it is a bad one, or none is allowed."""
    if not is_harness(row):
        return False
    if not allowed:
        field = "harness" if "harness" in row else "tests"
        raise ValueError(
            f'{where}: "{field}" is code to append; training problems are stdin -> stdout, give "tests": '
            '[{"stdin", "stdout"}, ...]. evaluate.py and reward.py read this row'
        )
    if "harness" in row:
        if "tests" in row or "prompt" in row:
            raise ValueError(
                f'{where}: "harness" and "{"tests" if "tests" in row else "prompt"}" are both given; keep one'
            )
        if not isinstance(row["harness"], str) or not row["harness"].strip():
            raise ValueError(
                f'{where}: "harness" must be a string, the code to append to the solution'
            )
        return True
    check_fields(
        where,
        row,
        {
            **MULTIPL_E,
            **{
                field: str for field in ("id", "source_language", "target_language") if field in row
            },
        },
    )
    for field in ("name", "language", "prompt", "tests"):
        if not row[field].strip():
            raise ValueError(
                f'{where}: "{field}" is empty; a MultiPL-E row has {", ".join(MULTIPL_E)}'
            )
    if not all(isinstance(stop, str) and stop for stop in row["stop_tokens"]):
        raise ValueError(f'{where}: "stop_tokens" must be a list of strings, none of them empty')
    return True


def read_groups(path) -> list[dict]:
    """The IR groups of a file, checked; n >= 1 winners, m >= 1 losers. Raises ValueError (file:line, field, mend)."""
    rows = read_jsonl(
        path, {"id": str, "language": str, "source": str, "winners": list, "losers": list}
    )
    for number, row in rows:
        if row["language"] != "c" or not row["source"].strip():
            raise ValueError(f'{path}:{number}: "language" must be "c" and "source" a C function')
        for field in ("winners", "losers"):
            if not row[field] or not all(isinstance(ir, str) and ir.strip() for ir in row[field]):
                raise ValueError(
                    f'{path}:{number}: "{field}" must be a list of at least one non-empty IR text'
                )
    if not rows:
        raise ValueError(f"{path}: holds no group; give at least one row")
    return _unique_ids(path, rows)
