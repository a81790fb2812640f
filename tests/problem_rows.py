"""One set of problems with traps, and how each published format writes it."""

import json

# Each counts the numbers from 1 to n that 3 divides, or does so wrongly.
RIGHT = "n = int(input())\nprint(sum(1 for i in range(1, n + 1) if i % 3 == 0))\n"
ALSO_RIGHT = "n = int(input())\ns = 0\nfor i in range(1, n + 1):\n    s += i % 3 == 0\nprint(s)\n"
ONE_LESS = RIGHT.replace("n + 1", "n")
PYTHON_2 = "print sum(1 for i in range(input()))\n"
ZONE = "import time\nn = int(input())\nprint(n // 3)\nassert time.tzname[0] == 'UTC'\n"
SLOW = "for i in range(10**9): pass\nprint(int(input()) // 3)\n"
LARGE = "n = int(input())\nprint(n // 3 if n < 99 else 0)\n"
INPUTS = [3, 5, 6, 9, 13, 101]
TESTS = [(f"{n}\n", f"{n // 3}\n") for n in INPUTS]
WEAK = [("0\n", "0\n")]
OTHER = "a, b = input().split()\nprint(b[1:] + a * len(b), end='.' if a > b else '!\\n')\n"
WORDS = [("ab c", "ab!"), ("x yz", "zxx!"), ("z ya", "azz."), ("q qq", "qqq!"), ("q q", "q!")]

# name: (solutions in Python, tests)
PROBLEMS = {
    "right": ([RIGHT, ALSO_RIGHT], TESTS),
    "wrong": ([ONE_LESS], TESTS),
    "python2": ([PYTHON_2], TESTS),
    "wrong-and-right": ([LARGE, RIGHT], TESTS),  # they disagree on 101
    "two-answers": ([ONE_LESS, RIGHT], TESTS[:4]),
    "flaky": ([ZONE], TESTS),
    "slow": ([SLOW], TESTS),
    "weak": ([RIGHT], WEAK),
    "other": ([OTHER], WORDS),  # the only one that is no near-duplicate of the rest
    "crlf": ([RIGHT.replace("\n", "\r\n")], [(i.replace("\n", "\r\n"), o) for i, o in TESTS]),
    "odd-tests": (
        [RIGHT],
        [*TESTS, ("1\n", ""), ("2\n", "0\n"), ("2\n", "0"), ("9" * 70_000, "1\n"), TESTS[0]],
    ),
    "two-outputs": ([RIGHT], [*TESTS, ("4\n", "1\n"), ("4\n", "2\n")]),
}


def texts(pairs):
    return [i for i, _ in pairs], [o for _, o in pairs]


def apps(name, solutions, tests):
    inputs, outputs = texts(tests)
    cases = json.dumps({"inputs": inputs, "outputs": outputs})
    return {
        "problem_id": name,
        "question": name,
        "solutions": json.dumps(solutions),
        "input_output": cases,
    }


def taco(name, solutions, tests):
    row = apps(name, solutions, tests) | {"skill_types": "[]"}
    cases = json.loads(row["input_output"])
    cases["inputs"] = [text.split("\n") for text in cases["inputs"]]  # lists of lines
    return row | {"input_output": json.dumps(cases)}


def code_contests(name, solutions, tests):
    public, private = texts(tests[:1]), texts(tests[1:])
    return {
        "name": name,
        "description": name,
        "solutions": {"language": [1] + [3] * len(solutions), "solution": [PYTHON_2, *solutions]},
        "public_tests": {"input": public[0], "output": public[1]},
        "private_tests": {"input": private[0], "output": private[1]},
        "generated_tests": {"input": [], "output": []},
        "input_file": "",
    }


def synthetic_1(name, solutions, tests):
    cases = [{"type": "stdin_stdout", "input": i, "output": o} for i, o in tests]
    info = {"language": "python", "test_cases": cases}
    return {
        "problem_id": name,
        "task_type": "verifiable_code",
        "prompt": name,
        "gold_standard_solution": f"So:\n```python\n{solutions[0]}```\n",
        "verification_info": repr(info) if name == "right" else json.dumps(info),
    }


def xcodeeval(name, solutions, tests):
    cases = [{"input": i, "output": [o]} for i, o in tests]
    row = {"src_uid": name, "hidden_unit_tests": json.dumps(cases), "exec_outcome": "PASSED"}
    rows = [row | {"lang": "PyPy 3", "source_code": solution} for solution in solutions]
    rows.append(row | {"lang": "Kotlin", "source_code": "fun main() {}"})
    rows.append(row | {"lang": "Python 3", "source_code": "no", "exec_outcome": "WRONG_ANSWER"})
    return rows


def codeforces(name, solutions, tests):
    cases = [{"input": i, "output": o} for i, o in tests]
    rows = [{"id": name, "examples": cases[:1], "official_tests": cases, "input_mode": "stdio"}]
    return rows


def submissions(name, solutions, tests):
    row = {"problem_id": name, "programmingLanguage": "Python 3", "verdict": "OK"}
    rows = [row | {"source": solution} for solution in solutions]
    return [*rows, row | {"source": "no", "verdict": "WRONG_ANSWER"}]


def plain(name, solutions, tests):
    cases = [{"stdin": i, "stdout": o} for i, o in tests]
    return {"id": name, "language": "py3", "source": solutions[0], "tests": cases}


def write(path, form, problems=None):
    """The problems as JSONL of a format; form: one of the functions above."""
    rows = []
    for name, (solutions, tests) in (problems or PROBLEMS).items():
        made = form(name, solutions, tests)
        rows += made if isinstance(made, list) else [made]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_package(folder, solutions, tests, settings="name: A\n"):
    """A problem package with an unknown language and a wrong solution beside the right ones."""
    for name in ("data/sample", "data/secret/group", "submissions/accepted", "submissions/wrong"):
        (folder / name).mkdir(parents=True)
    (folder / "problem.yaml").write_text(settings)
    for k, (stdin, stdout) in enumerate(tests):
        data = folder / ("data/secret/group" if k else "data/sample")
        (data / f"{k}.in").write_bytes(stdin.encode())
        (data / f"{k}.ans").write_bytes(stdout.encode())
    accepted = folder / "submissions" / "accepted"
    for k, solution in enumerate(solutions):
        (accepted / f"s{k}.py").write_bytes(solution.encode())
    (accepted / "s.rb").write_text("puts 1")
    (accepted / "old.cpp").write_bytes(b"// \xe9\n")
    (accepted / "several").mkdir()
    (folder / "submissions" / "wrong" / "w.py").write_text("no")
