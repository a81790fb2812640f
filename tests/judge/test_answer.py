"""What is asked, and the program that is taken out of an answer."""

import pytest

from data import translation_prompt
from judge.answer import extract_code
from judge.languages import LANGUAGES
from judging import missing_tools, problem, skip_without_tool
from reward import judge

MISSING = missing_tools(LANGUAGES)


@pytest.fixture(autouse=True)
def skip(request):
    skip_without_tool(request, MISSING)


def test_prompt_to_the_letter():
    asked = {**problem("cpp"), "source": "class A {}\n\n"}
    assert translation_prompt(asked) == (
        "Translate this Java program to C++. Reply with one ```cpp block.\n```java\nclass A {}\n```"
    )
    assert translation_prompt({**asked, "declaration": "int f()"}).endswith(
        "\n```\nSignature: int f()"
    )


@pytest.mark.parametrize(
    "text, code",
    [
        ("```python\na\n```", "a\n"),
        ("so:\n```py\na\n\x0c\n b\n```\nthere", "a\n\x0c\n b\n"),
        ("```Python\r\na\r\n```\r\n", "a\r\n"),
        ("```python\nprint('```')\n```", "print('```')\n"),
        ("", None),
        ("a", None),
        ("```\na\n```", None),
        ("```python\na", None),
        ("```python\n\n```", None),
        ("```java\na\n```", None),
        ("```python\na\n```\n```python\nb\n```", None),
        ("```python\na\n```\n```", None),
        ("```python\n```python\na\n```", None),
        ("```python a```", None),
        ("```python\na\n```x", None),
        ("```python\n" + "a" * 5_000_000 + "\n```", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_extract_code(text, code):
    assert extract_code(text, "python") == code
    if code is None:
        verdict = judge(problem(), text)
        assert (verdict.status, verdict.reward) == (
            "NC",
            0.0,
        ) and "one closed block with the tag python" in verdict.detail
