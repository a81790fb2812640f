"""Rows: what is right is read as it is, what is wrong is named by file, line and field."""

import json

import pytest

from data import append_rows, end_last_row, read_groups, read_jsonl, read_problems

PROBLEM = {
    "id": "a",
    "source_language": "python",
    "target_language": "cpp",
    "source": "print(1)",
    "tests": [{"stdin": "", "stdout": "1\n"}],
}
GROUP = {"id": "a", "language": "c", "source": "int f() {}", "winners": ["x"], "losers": ["y"]}


def without(row, field):
    return {k: v for k, v in row.items() if k != field}


@pytest.mark.parametrize(
    "read, row, message",
    [
        (read_problems, "{", r":3: not a JSON row"),
        (read_problems, "[" * 100_000, r":3: not a JSON row"),
        (read_problems, [1], r":3: the row is a list"),
        (read_problems, without(PROBLEM, "tests"), r':3: "tests" is missing'),
        (read_problems, {**PROBLEM, "source": 3}, r':3: "source" is a int; it must be a str'),
        (read_problems, {**PROBLEM, "tests": []}, r':3: "tests" is empty; give at least one'),
        (
            read_problems,
            {**PROBLEM, "tests": [{"stdin": ""}]},
            r':3: "tests"\[0\] needs a string "stdout"',
        ),
        (
            read_problems,
            {**PROBLEM, "target_language": "cobol"},
            r':3: "target_language" is \'cobol\'; known are python',
        ),
        (
            read_problems,
            json.dumps({**PROBLEM, "source": "\ud800"}),
            r":3: holds half of a surrogate pair",
        ),
        (read_groups, {**GROUP, "language": "rust"}, r':3: "language" must be "c" or "cpp"'),
        (
            read_groups,
            {**GROUP, "target_language": "cpp"},
            r':3: "language" is \'c\'; of a group of translations it is one of python',
        ),
        (
            read_groups,
            {**GROUP, "language": "python", "target_language": ["cpp"]},
            r""":3: "target_language" is \['cpp'\]; of a group of translations""",
        ),
        (read_groups, {**GROUP, "source": " "}, r':3: "source" is empty'),
        (read_problems, {**PROBLEM, "source": " "}, r':3: "source" is empty'),
        (read_problems, {**PROBLEM, "id": "first"}, r":3: \"id\" 'first' is already on line 1"),
        (read_groups, without(GROUP, "losers"), r':3: "losers" is missing'),
        (read_groups, {**GROUP, "winners": []}, r':3: "winners" must be a list of at least one'),
        (read_groups, {**GROUP, "losers": ["y", 3]}, r':3: "losers" must be a list'),
    ],
)
def test_bad_rows_are_named(read, row, message, tmp_path):
    good = PROBLEM if read is read_problems else GROUP
    first_line = json.dumps({**good, "id": "first"})
    third_line = row if isinstance(row, str) else json.dumps(row)
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{first_line}\n\n{third_line}\n")
    with pytest.raises(ValueError, match="rows.jsonl" + message):
        read(path)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.jsonl: cannot be read"):
        read_problems(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="empty.jsonl: holds no problem"):
        read_problems(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(ValueError, match="latin.jsonl:1: not a JSON row"):
        read_problems(tmp_path / "latin.jsonl")


def test_a_file_that_has_no_rows_keeps_its_last_line(tmp_path):
    """Such as notes that are given as --out by mistake."""
    path = tmp_path / "notes"
    path.write_text("one\ntwo")
    end_last_row(path)
    assert path.read_text() == "one\ntwo"


@pytest.mark.parametrize("tail", ["", '{"id": "cut', '{"id": 2}'])
def test_rows_can_be_appended_after_a_row_that_was_cut_short(tail, tmp_path):
    """It goes; a whole row without a line break, as editors leave it, stays."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n' + tail)
    end_last_row(path)
    append_rows(path, [{"id": 3}])
    ids = [row["id"] for _, row in read_jsonl(path, {})]
    assert ids == ([1, 2, 3] if tail.endswith("}") else [1, 3])
