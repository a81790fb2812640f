"""What the README claims about the code is true."""

import ast
import re
from dataclasses import fields

from config import EMBEDDED, Config
from conftest import ROOT
from support import table_under

SOURCES = sorted([*ROOT.glob("*.py"), *ROOT.glob("kernels/*.py")])


def test_every_equation_is_where_the_table_says():
    rows = table_under("Equations")
    assert [int(n) for row in rows for n in re.findall(r"\((\d+)\)", row[0])] == list(range(1, 11))
    for row in rows:
        for place in re.findall(r"`([\w/]+\.py):(\w+)`", row[2]):
            text = (ROOT / place[0]).read_text()
            node = next(
                (
                    n
                    for n in ast.walk(ast.parse(text))
                    if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == place[1]
                ),
                None,
            )
            assert node, f"{place[0]} has no {place[1]}"
            body = ast.get_source_segment(text, node) + text.splitlines()[node.end_lineno - 1]
            assert re.search(rf"Eq\. \(?{row[0].strip('()')}\b", body), (
                f"{place[0]}:{place[1]} does not say Eq. {row[0]}"
            )


def test_every_flag_is_in_the_table_with_its_default():
    rows = {row[0].strip("`"): row for row in table_under("Flags")}
    assert set(rows) == {"--" + f.name.replace("_", "-") for f in fields(Config)}
    assert len(rows) <= 30
    for f in fields(Config):
        _, default, embedded, _ = rows["--" + f.name.replace("_", "-")]
        shown = (
            "none"
            if f.default == ()
            else f"{f.default:g}"
            if isinstance(f.default, float)
            else str(f.default)
        )
        assert default == ("cores" if f.name == "judge_workers" else shown), f.name
        value = EMBEDDED.get(f.name, "")
        assert embedded == (f"{value:g}" if isinstance(value, float) else str(value)), f.name


ALGORITHM = (
    "train",
    "config",
    "gepo",
    "groups",
    "rollout",
    "model",
    "families",
    "data",
    "checkpoint",
)


def test_line_budgets():
    lines = {p: len(p.read_text().splitlines()) for p in SOURCES}
    assert all(n <= 400 for n in lines.values()), lines
    algorithm = {
        p: n for p, n in lines.items() if p.parent.name == "kernels" or p.stem in ALGORITHM
    }
    assert sum(algorithm.values()) <= 2300, sum(
        algorithm.values()
    )  # what an evening's reading of the paper's algorithm takes
    assert sum(lines.values()) <= 4600, sum(
        lines.values()
    )  # with the ranks, the judge, the IR builder and the reports (dev/LOG.md)


def test_no_forbidden_imports():
    for path in SOURCES + sorted(ROOT.glob("toy/*.py")):
        names = {
            n.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for n in node.names
        }
        names |= {
            node.module.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not names & {"transformers", "vllm", "trl", "flash_attn"}, path
        assert path.name == "train.py" or "train" not in names, f"{path} imports train.py"


def test_launch_lines_use_flags_that_exist():
    scripts = list(ROOT.glob("runs/*.sh"))
    assert len(scripts) >= 2
    for path in scripts:
        lines = [
            line.split()
            for line in path.read_text().split("flags=(")[1].split("\n)")[0].splitlines()
        ]
        named = [
            words[0].removeprefix("--").replace("-", "_")
            for words in lines
            if words and words[0].startswith("--")
        ]
        assert len(named) > 5 and set(named) <= {f.name for f in fields(Config)}, path
