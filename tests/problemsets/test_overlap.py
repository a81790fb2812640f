"""Near-duplicates are found whatever the white space, and boilerplate alone makes none."""

import json

from problemsets import Case, Evaluation, Problem, clusters, features
from problemsets.overlap import grams

WORDS = [f"w{n}" for n in range(400)]
HEAD = " ".join(WORDS[300:350])  # every problem has it


def problem(first, statement="", tests=()):
    """The features of a problem with 40 words of its own, from WORDS[first] on."""
    made = Problem("", "", statement, tests=[Case(*test) for test in tests])
    return features(made, HEAD + "\n" + " ".join(WORDS[first : first + 40]))


def test_grams():
    assert grams("a  B\n c") == {("a", "b", "c")} and grams(" ") == set()
    assert len(grams(" ".join(WORDS[:13]))) == 1 and len(grams(" ".join(WORDS[:20]))) == 8
    assert grams("x=1 + y") == grams("x = 1+y")


def test_clusters():
    many = [problem(40 * k + 3, tests=[(f"{k}", "1")]) for k in range(7)] * 3
    far = [problem(0, "s"), problem(40, "t")]  # all but the head differs
    twins = [problem(3), problem(12, tests=[("a", "1"), ("b", "2")])]
    by_tests = [problem(200, tests=[("a ", "1\n"), ("b", "2"), ("c", "3"), ("d", "3")])]
    found = clusters(many[:1] + twins + by_tests)
    assert found[0] == found[1] == found[2] == found[3]
    alone = [problem(40 * k) for k in range(7)]
    for k, features_of in enumerate(alone):
        features_of["source"] |= {(k, n) for n in range(200)}
    assert len(set(clusters(alone))) == 7 and len(set(clusters(far))) == 2


def test_a_common_head_does_not_join():
    alone = [features(Problem("", ""), HEAD + f" x{k} y{k} z{k}") for k in range(30)]
    assert len(set(clusters(alone))) == 30
    assert len(set(clusters(alone + alone))) == 30  # but equal ones do,
    assert len(set(clusters(alone[:10] + alone[:1] * 25))) == 10  # however many there are


def test_evaluation_sets_of_any_form():
    source = " ".join(WORDS[:30])
    tests = [(f"{n}\n", f"{n * n}\n") for n in range(11, 20)]
    inputs, outputs = [t[0] for t in tests], [t[1] for t in tests]
    rows = [
        {"prompt": "other text"},
        {"deep": json.dumps({"inputs": inputs, "outputs": outputs})},
        {"solution": [{"code": source}]},
    ]
    evaluation = Evaluation(rows)
    own = " ".join(WORDS[100:130])

    def overlaps(source, statement="", tests=()):
        made = Problem("", "", statement, tests=[Case(*test) for test in tests])
        return evaluation.overlaps(features(made, source))

    assert overlaps(own, own) == "" and Evaluation([]).overlaps(problem(0)) == ""
    assert overlaps(source.replace(" ", "\n")) == "source"
    assert overlaps(own, " ".join(WORDS[5:40])) == "statement"
    assert overlaps(own, tests=tests[:5]) == "tests"
    assert overlaps(own, tests=[*tests[:1], ("a", "b"), ("c", "d")]) == ""
