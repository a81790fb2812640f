"""llvm/audit.py: it finds what tells losers, and nothing where nothing does."""

import numpy as np
import pytest

from llvm import audit

TEXT = "define i32 @f(i32 %0) {\n  %2 = add i32 %0, 1\n  %3 = mul i32 %2, 3\n  ret i32 %2\n}\n"


def made_up_groups(tell, count=60):
    """Groups of random bodies. tell: what a loser has besides: {classifier: text}"""
    rng = np.random.default_rng(0)
    groups = []
    for _ in range(count):
        texts = []
        for number in range(4):
            words = rng.choice(["add", "sub", "mul", "xor"], 6)
            lines = [f"  %{place + 2} = {word} i32 %0, 7" for place, word in enumerate(words)]
            if number >= 2:
                lines = tell(lines)
            texts.append("define i32 @f(i32 %0) {\n" + "\n".join(lines) + "\n}\n")
        meta = {"levels": ["O1", "Oz"], "losers": [{"level": "O1"}, {"level": "Oz"}]}
        groups.append({"winners": texts[:2], "losers": texts[2:], "meta": meta})
    return groups


def shares(groups):
    """{classifier: {what is counted: %}}"""
    plain = []
    for group in groups:
        texts = group["winners"] + group["losers"]
        plain.append([audit.plain_features(text, text) for text in texts])
    result = audit.audit(groups, plain)
    return {name: {what: mean for what, mean, _ in counts} for name, counts in result.items()}


def test_plain_features_count_what_they_say():
    assert audit.plain_features(TEXT, TEXT.replace("%2, 3", "%2, 5")) == {
        "tokens": 26,
        "lines": 3,
        "dead values": 1,  # %3
        "repeated values": 0,
        "blocks": 0,
        "changed by the optimiser": 1,
    }


def test_nothing_is_told_where_nothing_tells():
    for name, counts in shares(made_up_groups(lambda lines: lines)).items():
        assert 35 < counts["groups"] < 65, name
        assert counts["pairs"] == pytest.approx(50, abs=10), name


def test_each_classifier_finds_its_leak():
    shorter = shares(made_up_groups(lambda lines: lines[1:]))
    assert shorter["length"]["groups"] == shorter["six features"]["groups"] == 100
    assert set(shorter["length"]) == {"pairs", "at one level", "across levels", "groups"}
    other_word = shares(made_up_groups(lambda lines: [*lines[:-1], lines[-1].replace("7", "9")]))
    assert other_word["tokens"]["pairs"] == 100 and other_word["length"]["pairs"] == 50

    def in_order(lines):
        return sorted(lines, key=lambda line: line.split()[2])

    sequence = shares(made_up_groups(in_order))
    assert sequence["n-grams"]["groups"] > 80 > sequence["tokens"]["groups"]
