"""What README and docs/ claim about the code is true, and the code is as readable as they say."""

import ast
import graphlib
import io
import re
import tokenize
from dataclasses import fields

import pytest

from config import EMBEDDED, Config
from conftest import ROOT
from support import table_under

ROOMS = ("training", "judge", "llvm", "problemsets", "data", "hf", "distributed", "kernels")
PRODUCT = sorted([*ROOT.glob("*.py"), *(p for room in ROOMS for p in (ROOT / room).glob("*.py"))])
PAGES = sorted([ROOT / "README.md", ROOT / "dev" / "LOG.md", *ROOT.glob("docs/*.md")])


def relative(path):
    return str(path.relative_to(ROOT))


# ------------------------------------------------------------------------------------------- tables


def definition(path, name):
    """The source text of a function, class or constant, with the comment at its last line."""
    text = (ROOT / path).read_text()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        if isinstance(node, ast.Assign) and node in tree.body:
            names = [ast.unparse(target) for target in node.targets]
        if name in names:
            return ast.get_source_segment(text, node) + text.splitlines()[node.end_lineno - 1]
    return None


def test_every_equation_is_where_the_table_says():
    rows = table_under("Equations")
    assert [int(n) for row in rows for n in re.findall(r"\((\d+)\)", row[0])] == list(range(1, 11))
    for equation, _, places in rows:
        found = re.findall(r"`([\w/]+\.py):(\w+)`", places)
        assert found, f"no place for Eq. {equation}"
        for path, name in found:
            body = definition(path, name)
            assert body, f"{path} has no {name}"
            says_so = re.search(rf"Eq\. \(?{equation.strip('()')}\b", body)
            assert says_so, f"{path}:{name} does not say Eq. {equation}"


def shown(value):
    """A default as the table of flags writes it."""
    if value == ():
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_flag_is_in_the_table_with_its_default():
    rows = {row[0].strip("`"): row for row in table_under("Flags", "docs/flags.md")}
    assert set(rows) == {"--" + f.name.replace("_", "-") for f in fields(Config)}
    assert len(rows) <= 34
    for f in fields(Config):
        _, default, embedded, _ = rows["--" + f.name.replace("_", "-")]
        assert default == ("cores" if f.name == "judge_workers" else shown(f.default)), f.name
        assert embedded == shown(EMBEDDED.get(f.name, "")), f.name


def test_launch_lines_use_flags_that_exist():
    known = {f.name for f in fields(Config)}
    scripts = list(ROOT.glob("runs/*.sh"))
    assert len(scripts) >= 2
    for path in scripts:
        flags = path.read_text().split("flags=(")[1].split("\n)")[0]
        named = [flag.replace("-", "_") for flag in re.findall(r"^ *--(\S+)", flags, re.M)]
        assert len(named) > 5 and set(named) <= known, path


def test_the_layout_names_every_file_of_the_root_and_every_room():
    text = (ROOT / "README.md").read_text()
    layout = text.split("## Layout\n")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `([\w.]+/?)`", layout, re.M))
    assert {path.name for path in ROOT.glob("*.py")} <= named
    assert {f"{room}/" for room in ROOMS} <= named
    for name in named:
        assert (ROOT / name).exists(), name


# -------------------------------------------------------------------------------------------- pages


def without_code(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def anchors(page):
    """GitHub's anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_pages_resolve(page):
    for target in re.findall(r"\]\(([^()\s]+)\)", without_code(page.read_text())):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{relative(page)}: {target}"
        assert not anchor or anchor in anchors(linked), f"{relative(page)}: {target}"


def test_pages_are_linked_from_the_readme_and_link_back():
    readme = (ROOT / "README.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert f"](docs/{page.name})" in readme, page.name
        assert "](../README.md" in page.read_text(), page.name


def test_files_that_pages_name_exist():
    """Paths in back quotes, such as `gepo.py` or `judge/pool.py:digest`, and what they define.

    The log names files of the root that are no more."""
    for page in PAGES:
        named = re.findall(r"`([\w/]*\w+\.(?:py|sh|md|c))(?::(\w+))?`", page.read_text())
        for path, name in named:
            if page.name == "LOG.md" and "/" not in path and not name:
                continue
            assert (ROOT / path).exists(), f"{relative(page)}: {path}"
            assert not name or definition(path, name), f"{relative(page)}: {path}:{name}"


def test_a_definition_is_no_mention():
    for name in ("JudgePool", "submit", "REMEMBERED"):
        assert definition("judge/pool.py", name), name
    for name in ("bwrap", "Judgement", "future"):  # in a comment, imported, local
        assert not definition("judge/pool.py", name), name


def test_the_readme_fits_in_250_lines_of_100_columns():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 250
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_prose_fits_in_100_columns(page):
    lines = page.read_text().splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


# --------------------------------------------------------------------------------------------- code


def imported_packages(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_imports_run_down_only():
    """Rooms and root files import one another in one direction: there is no circle."""
    unit_of = {path: path.stem if path.parent == ROOT else path.parent.name for path in PRODUCT}
    below = {unit: set() for unit in unit_of.values()}
    for path, unit in unit_of.items():
        below[unit] |= imported_packages(path) & below.keys() - {unit}
    graphlib.TopologicalSorter(below).prepare()  # raises CycleError, which names the circle
    assert below["gepo"] == set()


def test_no_forbidden_imports():
    for path in PRODUCT + sorted(ROOT.glob("toy/*.py")):
        names = imported_packages(path)
        assert not names & {"transformers", "vllm", "trl", "flash_attn"}, path
        assert path.name == "train.py" or "train" not in names, f"{path} imports train.py"


def test_no_command_takes_a_flag_for_another():
    """argparse would take --seed for --seeds."""
    parsers = 0
    for path in [*PRODUCT, *ROOT.glob("bench/*.py"), *ROOT.glob("toy/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ArgumentParser"):
                parsers += 1
                assert "allow_abbrev=False" in ast.unparse(node), relative(path)
    assert parsers > 15


LIMITS = {  # per 100 lines of code, save the first and the last
    "tokens a line": 10.5,  # kernels: 12
    "comprehensions": 6,
    "tuple assignments": 5,
    "conditional expressions": 4,
    "lambdas": 1,
    "lines over 100 columns": 0,
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
MAX_TOKENS = 87_500  # of the root, the rooms and kernels/ together


def docstring_lines(tree):
    lines = set()
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            lines.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def code_tokens(source):
    """Names, operators, numbers and strings. Docstrings and comments are free."""
    kinds = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
    free = docstring_lines(ast.parse(source))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token for token in tokens if token.type in kinds and token.start[0] not in free]


def density(source):
    """The figures of LIMITS. A line of code is one on which a token of code begins."""
    tokens = code_tokens(source)
    code_lines = max(1, len({token.start[0] for token in tokens}))
    nodes = list(ast.walk(ast.parse(source)))

    def per_100_lines(kinds):
        return 100 * sum(isinstance(node, kinds) for node in nodes) / code_lines

    assignments = [node for node in nodes if isinstance(node, ast.Assign)]
    tuples = [node for node in assignments if isinstance(node.targets[0], ast.Tuple)]
    return {
        "tokens a line": len(tokens) / code_lines,
        "comprehensions": per_100_lines(COMPREHENSIONS),
        "tuple assignments": 100 * len(tuples) / code_lines,
        "conditional expressions": per_100_lines(ast.IfExp),
        "lambdas": per_100_lines(ast.Lambda),
        "lines over 100 columns": sum(len(line) > 100 for line in source.splitlines()),
    }


def test_density_counts_what_it_says():
    source = '"""A docstring."""\na, b = 1, 2  # a comment\nc = [x if x else b for x in (a,)]\n'
    figures = density(source)
    assert figures["tokens a line"] == (7 + 16) / 2
    assert figures["comprehensions"] == figures["tuple assignments"] == 50
    assert figures["conditional expressions"] == 50 and figures["lambdas"] == 0


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_no_file_is_dense(path):
    limits = {**LIMITS, "tokens a line": 12} if path.parent.name == "kernels" else LIMITS
    figures = density(path.read_text())
    too_dense = {name: figures[name] for name in limits if figures[name] > limits[name]}
    assert too_dense == {}


def test_the_amount_of_code_is_bounded():
    tokens = {relative(path): len(code_tokens(path.read_text())) for path in PRODUCT}
    assert sum(tokens.values()) <= MAX_TOKENS, tokens
