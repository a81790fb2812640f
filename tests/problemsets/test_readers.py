"""Every format gives the same problems; what cannot be used or read is named."""

import gzip
import json
import sys
import types

import pytest

import problem_rows
from data import read_table
from problem_rows import PROBLEMS, RIGHT, TESTS, write, write_package
from problemsets import read_problem_sets
from problemsets.record import TESTS as MOST_TESTS
from problemsets.record import Case, Problem, Solution, language_of

ONE_FILE = ["apps", "taco", "code_contests", "synthetic_1", "xcodeeval", "plain"]
ONE_SOLUTION = ("synthetic_1", "plain")


def by_name(paths, form="auto"):
    return {problem.id.split("/")[-1]: problem for problem in read_problem_sets(paths, form)}


def expected(name, solutions=None):
    listed, tests = PROBLEMS[name]
    problem = Problem(name, "")
    for solution in listed[:solutions]:
        problem.add_solution("python", solution)
    problem.tests = [Case(*test) for test in tests]
    problem.tidy()
    return problem


def same(found, solutions=None):
    assert list(found) == list(PROBLEMS)
    for name, problem in found.items():
        wanted = expected(name, solutions)
        assert problem.solutions == wanted.solutions, name
        assert [test.stdin.strip() for test in problem.tests] == [
            test.stdin.strip() for test in wanted.tests
        ], name
        assert not problem.refused


@pytest.mark.parametrize("form", ONE_FILE)
def test_each_format_reads_the_same_problems(tmp_path, form):
    path = write(tmp_path / "set.jsonl", getattr(problem_rows, form))
    same(by_name([path]), 1 if form in ONE_SOLUTION else None)
    packed = tmp_path / "set.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert len(by_name([tmp_path], form)) == len(PROBLEMS)  # a folder, and a format by name


def test_codeforces_problems_and_submissions_are_joined(tmp_path):
    paths = [write(tmp_path / "p.jsonl", problem_rows.codeforces)]
    paths.append(write(tmp_path / "s.jsonl", problem_rows.submissions))
    same(by_name(paths))


def test_packages(tmp_path):
    for name, (solutions, tests) in PROBLEMS.items():
        unique = list(dict(tests).items())
        write_package(tmp_path / name, solutions, unique)
    found = by_name([tmp_path])
    assert sorted(found) == sorted(PROBLEMS)
    assert found["right"].solutions == expected("right").solutions
    assert found["right"].tests == expected("right").tests
    assert found["right"].dropped == {"a solution is not UTF-8": 1}
    assert "\r" not in found["crlf"].tests[0].stdin


def test_numbers_and_lists_of_lines_are_texts(tmp_path):
    row = problem_rows.apps("a", [RIGHT], TESTS)
    digits = "9" * 5000
    row["input_output"] = f'{{"inputs": [["1", 2], "3\\n"], "outputs": [4, [{digits}]]}}'
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert read_problem_sets([path])[0].tests == [Case("1\n2", "4"), Case("3\n", digits)]


def test_tests_that_are_of_no_use_go(tmp_path):
    found = by_name([write(tmp_path / "set.jsonl", problem_rows.apps)])
    assert found["two-outputs"].dropped == {"two outputs for one input": 2}
    problem = found["odd-tests"]
    assert problem.dropped == {"no output": 1, "over 64 KB": 1, "duplicate": 2}
    assert len(problem.tests) == len(TESTS) + 1
    sizes = [test.size() for test in problem.tests]
    assert sizes == sorted(sizes)
    many = {"many": ([RIGHT] * 3, [(f"{n}\n", "1\n") for n in range(100)])}
    problem = by_name([write(tmp_path / "set.jsonl", problem_rows.apps, many)])["many"]
    assert len(problem.tests) == MOST_TESTS and len(problem.solutions) == 1
    assert problem.dropped == {"more than enough": 100 - MOST_TESTS}


REFUSED = {
    "apps": ({"input_output": '{"fn_name": "f", "inputs": [[1]], "outputs": [2]}'}, "fn_name"),
    "code_contests": ({"input_file": "in.txt"}, "files"),
    "synthetic_1": (
        {"verification_info": '{"test_cases": [{"type": "function_call"}]}'},
        "a function is called",
    ),
    "xcodeeval": ({"prob_desc_input_from": "input.txt"}, "files"),
    "codeforces": ({"interaction_format": "ask"}, "interactive"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_kinds_that_cannot_be_used_are_recognised(tmp_path, form):
    changes, reason = REFUSED[form]
    made = getattr(problem_rows, form)("a", [RIGHT], TESTS)
    row = (made if isinstance(made, dict) else made[0]) | changes
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert reason in read_problem_sets([path])[0].refused


def test_other_kinds_by_their_field(tmp_path):
    path = tmp_path / "set.jsonl"
    row = problem_rows.codeforces("a", [RIGHT], TESTS)[0]
    for change, reason in (
        ({"generated_checker": "def check"}, "a checker"),
        ({"input_mode": "file"}, "files"),
    ):
        path.write_text(json.dumps(row | change) + "\n")
        assert reason in read_problem_sets([path])[0].refused
    row = problem_rows.synthetic_1("a", [RIGHT], TESTS) | {"task_type": "verifiable_math"}
    path.write_text(json.dumps(row) + "\n")
    assert read_problem_sets([path])[0].refused == "another task, verifiable_math"
    row = problem_rows.xcodeeval("a", [RIGHT], TESTS)[0]
    row["hidden_unit_tests"] = json.dumps([{"input": "1", "output": ["1", "2"]}])
    path.write_text(json.dumps(row) + "\n")
    problem = read_problem_sets([path])[0]
    assert not problem.tests and problem.dropped == {"several right outputs": 1}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("validation: custom\n", "a checker judges the output"),
        ("validation: 'custom interactive'\n", "interactive"),
        ("validator_flags: float_tolerance 1e-6\n", "a tolerance judges the output"),
        ("problem_format_version: 2023-07\ntype: interactive\n", "interactive"),
        ("name: custom validation: custom\n", ""),
    ],
)
def test_packages_tell_their_kind(tmp_path, settings, reason):
    write_package(tmp_path / "a", [RIGHT], TESTS, settings)
    assert by_name([tmp_path])["a"].refused == reason


def test_a_new_package_with_a_validator(tmp_path):
    write_package(tmp_path / "a", [RIGHT], TESTS, "problem_format_version: 2023-07-draft\n")
    assert not by_name([tmp_path])["a"].refused
    (tmp_path / "a" / "output_validator").mkdir()
    assert by_name([tmp_path])["a"].refused == "a checker judges the output"


# ------------------------------------------------------------------------------------ bad input

BAD = {
    "apps": [
        ({"solutions": 5}, '"solutions" is a int'),
        ({"solutions": "[1"}, '"solutions" is not JSON'),
        ({"input_output": '{"inputs": ["1"], "outputs": []}'}, "1 inputs and 0 outputs"),
        ({"input_output": r'{"inputs": ["\ud800"], "outputs": [""]}'}, "holds half of a surrogate"),
        ({"input_output": '{"inputs": [{}], "outputs": ["1"]}'}, r'"input_output\[0\]" is a dict'),
    ],
    "code_contests": [
        ({"solutions": {"language": [3], "solution": []}}, "1 languages, not 0"),
        ({"solutions": {"language": [9], "solution": ["x"]}}, "is 9; known are 0 to 4"),
        ({"private_tests": {"input": 5}}, '"private_tests.input" is a int'),
    ],
    "synthetic_1": [
        ({"verification_info": "{"}, '"verification_info" is not JSON'),
        ({"verification_info": '{"test_cases": 5}'}, '"verification_info.test_cases" is a int'),
    ],
    "xcodeeval": [({"hidden_unit_tests": '[{"input": "1"}]'}, r'"hidden_unit_tests.0.".* needs')],
    "codeforces": [({"official_tests": [{"input": "1"}]}, r'"official_tests"\[0\] needs "output"')],
    "plain": [
        ({"language": "cobol"}, "\"language\" is 'cobol'"),
        ({"tests": [5]}, r'"tests\[0\]" is a int'),
    ],
}


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [(form, *case) for form, cases in BAD.items() for case in cases],
)
def test_a_bad_row_is_named_by_file_row_and_field(tmp_path, form, changes, message):
    made = getattr(problem_rows, form)("a", [RIGHT], TESTS)
    row = made if isinstance(made, dict) else made[0]
    path = tmp_path / "set.jsonl"
    first = json.dumps(row).replace('"a"', '"first"')
    path.write_text(first + "\n" + json.dumps(row | changes) + "\n")
    with pytest.raises(ValueError, match=f"set.jsonl:2: .*{message}"):
        read_problem_sets([path])


def test_bad_files(tmp_path):
    path = write(tmp_path / "set.jsonl", problem_rows.apps)
    lines = path.read_text().splitlines(keepends=True)
    rows = len(PROBLEMS)
    path.write_text("".join(lines)[:-40])
    with pytest.raises(ValueError, match=f"set.jsonl:{rows}: not a JSON row"):
        read_problem_sets([path])
    path.write_text(lines[0] + lines[0])
    with pytest.raises(ValueError, match="set.jsonl:2: .*already that of .*set.jsonl:1"):
        read_problem_sets([path])
    path.write_text(lines[0] + '{"solutions": "[]"}\n')
    with pytest.raises(ValueError, match='set.jsonl:2: "input_output" is missing'):
        read_problem_sets([path])
    path.write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match="set.jsonl:1: no known format has the fields a;"):
        read_problem_sets([path])
    path.write_text("")
    with pytest.raises(ValueError, match="no problem there"):
        read_problem_sets([path])
    path.unlink()
    packed = tmp_path / "set.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(lines).encode())[:-20])
    with pytest.raises(ValueError, match="set.jsonl.gz: cannot be read"):
        read_problem_sets([packed])
    with pytest.raises(ValueError, match="nothing.jsonl: cannot be read"):
        read_problem_sets([tmp_path / "nothing.jsonl"])


def test_a_package_without_an_input(tmp_path):
    write_package(tmp_path / "a", [RIGHT], TESTS)
    (tmp_path / "a" / "data" / "sample" / "0.in").unlink()
    with pytest.raises(ValueError, match=r"data/sample/0.ans: there is no 0.in"):
        read_problem_sets([tmp_path])


def test_parquet(tmp_path, monkeypatch):
    """As pyarrow gives its rows: dicts, with bytes in them."""
    path = tmp_path / "set.parquet"
    with pytest.raises(ValueError, match="set.parquet: "):
        read_table(path)
    row = problem_rows.codeforces("a", [RIGHT], TESTS)[0]
    row["official_tests"] = [
        {"input": b"1\n", "output": b"2\n"},
        {"input": b"2", "output": b"\xff"},
    ]
    table = types.SimpleNamespace(to_pylist=lambda: [row])
    parquet = types.SimpleNamespace(read_table=lambda path: table)
    monkeypatch.setitem(sys.modules, "pyarrow", types.SimpleNamespace(parquet=parquet))
    with pytest.raises(ValueError, match=r'parquet:1: "official_tests\[1\].output" is not UTF-8'):
        read_problem_sets([path])
    row["official_tests"].pop()
    assert Case("1\n", "2\n") in read_problem_sets([path])[0].tests


def test_names_of_languages():
    names = {
        "GNU C++17 7.3.0": "cpp",
        "GNU G++17": "cpp",
        "MS C++": "cpp",
        "C++20 (GCC 13-64)": "cpp",
        "GNU C": "",
        "PyPy 3-64": "python",
        "Python 3": "python",
        "Python 2": "",
        "PyPy 2": "",
        "Java 8": "java",
        "JavaScript": "javascript",
        "Node.js": "javascript",
        "Mono C#": "csharp",
        ".NET Core C#": "csharp",
        "Go": "go",
        "Haskell": "haskell",
        "Delphi": "",
        "D": "",
    }
    assert {name: language_of(name) for name in names} == names
    problem = Problem("a", "")
    problem.add_solution("GNU C++", "int main() {}\r\n")
    problem.add_solution("Kotlin", "fun main() {}")
    assert problem.solutions == [Solution("cpp", "int main() {}\n")]
