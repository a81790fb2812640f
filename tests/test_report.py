"""report.py: the table of runs that have all their scores, some, or those of other languages."""

import json

import pytest

import report
from test_evaluate import row


def write_run(folder, **scored):
    """A run of two steps. scored: before or after = rows of evaluate.py."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"seed": 3, "eval_problems": "h.jsonl"}))
    files = {f"eval-{when}": rows for when, rows in scored.items()}
    for name, rows in {"metrics": [{"step_s": 1.2}, {"step_s": 2.4}], **files}.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return report.read_run(folder)


def into(target, verdicts):
    """A row for each of the verdicts, of a translation into the target."""
    return [row("python", target, [verdict]) for verdict in verdicts]


@pytest.fixture
def ordinary(tmp_path):
    before = into("cpp", ["AC", "WA"]) + into("php", ["WA", "JE"])
    after = into("cpp", ["AC", "AC"]) + into("php", ["AC", "WA"])
    return write_run(tmp_path / "run", before=before, after=after)


def lines(*runs):
    """The table's lines without the one below the titles."""
    titles, _, *rest = report.table(list(runs)).splitlines()
    return [titles, *rest]


def test_the_numbers_of_a_run(ordinary):
    """A problem that had no verdict before training counts after it."""
    assert lines(ordinary) == [
        "| run | seed | steps | seconds | problems | before | after | gain | cpp | php |",
        "| run | 3 | 2 | 4 | 4 | 33.3 % | 75.0 % [30.1, 95.4] | **+41.7** | 50 → 100 | 0 → 50 |",
    ]


def test_runs_of_different_target_languages(ordinary, tmp_path):
    rows = into("cpp", ["WA"]) + into("java", ["AC"])
    other = write_run(tmp_path / "other", before=rows, after=rows)
    titles, first, second = lines(ordinary, other)
    assert titles.endswith("| gain | cpp | java | php |")
    assert first.endswith("| **+41.7** | 50 → 100 | - | 0 → 50 |")
    assert second.endswith("| **+0.0** | 0 → 0 | 100 → 100 | - |")


def test_a_run_that_lacks_a_score_has_no_scores(ordinary, tmp_path):
    """Runs of bench/ablation.py have only those after training in their folders."""
    rows = into("java", ["AC"])
    after = write_run(tmp_path / "after", after=rows)
    before = write_run(tmp_path / "before", before=rows)
    titles, _, *without = lines(ordinary, after, before)
    assert titles.endswith("| cpp | java | php |")
    assert without == [
        "| after | 3 | 2 | 4 | - | - | not scored yet | - | - | - | - |",
        "| before | 3 | 2 | 4 | - | - | not scored yet | - | - | - | - |",
    ]
