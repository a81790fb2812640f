"""What is asked, and the program that is taken out of an answer."""

import time
from dataclasses import replace

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


def test_the_prompt_asks_for_an_old_level_where_the_tools_are_old(monkeypatch):
    for level, wanted in (("C# 6", "C# 6"), ("", "C#")):
        language = replace(LANGUAGES["csharp"], old_level=level)
        monkeypatch.setitem(LANGUAGES, "csharp", language)
        assert translation_prompt(problem("csharp")).startswith(
            f"Translate this Java program to {wanted}. Reply with one ```csharp block."
        )


PY = "```python\na\n```"


@pytest.mark.parametrize(
    "text, code",
    [
        ("```python\na\n```", "a\n"),
        ("so:\n```py\na\n\x0c\n b\n```\nthere", "a\n\x0c\n b\n"),
        ("```Python\r\na\r\n```\r\n", "a\r\n"),
        ("```python\nprint('```')\n```", "print('```')\n"),
        # The tag is the first word of the info string.
        ("``` \tPy3 title=x.py\na\n```", "a\n"),
        ("```python`\na\n```", None),
        # Fences: tildes, longer ones, and what does not close them.
        ("~~~python ` ~\na\n```\n~~\n~~~", "a\n```\n~~\n"),
        ("````python\n```\na\n~~~~\n`````", "```\na\n~~~~\n"),
        ("```python\n```python\na\n```", "```python\na\n"),
        ("```python\na\n    ```\n  ```  ", "a\n    ```\n"),
        # Indentation is taken off, as far as there is some; a tab may be cut.
        ("   ```python\n   if a:\n      b\n c\n\td\n```", "if a:\n   b\nc\n d\n"),
        ("    ```python\n    a\n    ```", None),
        # List items.
        ("1. Code:\n\n   ```python\n   a\n\n    b\n   ```", "a\n\n b\n"),
        ("- ```python\n  a\n  ```\n- done", "a\n"),
        ("10) x\n    - y\n\n      ~~~py\n      a\n\tb\n      ~~~", None),
        ("10) x\n    - y\n\n      ~~~py\n      a\n\t\tb\n      ~~~", "a\n  b\n"),
        ("- x\n\n     ```python\n\ta\n  ```", "a\n"),
        ("- x\n\n      ```python\n      a\n      ```", None),
        ("- x\n\ny\n\n    ```python\n    a\n    ```", None),
        ("- ```\n  x\n\n" + PY, "a\n"),
        # Other blocks are text, closed or not.
        (PY + "\nInput:\n```text\n3\n```\n```\n4\n```", "a\n"),
        ("```sh\npython p.py\n```\n" + PY, "a\n"),
        ("```text\n" + PY, None),
        (PY + "\n```", "a\n"),
        # The end of the thoughts, and of the turn.
        ("<think>\n```python\nb\n```\n</think>\n\n" + PY, "a\n"),
        ("<think>\n```python\nb\n</think>\n" + PY, "a\n"),
        (PY + "</think>\nThat was it.", None),
        (PY + "<|im_end|>", "a\n"),
        (PY + "</s> <|end|>\n", "a\n"),
        ("```python\na\n```x", None),
        ("```python\na\n```<|im_end|> x", None),
        ("", None),
        ("a", None),
        ("```\na\n```", None),
        ("```python\na", None),
        ("```python\n\n```", None),
        ("```python\n```", None),
        ("```java\na\n```", None),
        (PY + "\n```python\nb\n```", None),
        (PY + "\n```python\nb", None),
        ("```python a```", None),
        ("```python\n" + "a" * 5_000_000 + "\n```", None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_extract_code(text, code):
    assert extract_code(text, "python") == code
    if code is None:
        verdict = judge(problem(), text)
        assert (verdict.status, verdict.reward) == ("NC", 0.0)
        assert "one closed block with the tag python" in verdict.detail


@pytest.mark.parametrize(
    "tag, language",
    [
        ("py3", "python"),
        ("CXX", "cpp"),
        ("C++", "cpp"),
        ("node", "javascript"),
        ("nodejs", "javascript"),
        ("golang", "go"),
        ("c#", "csharp"),
        ("scala3", "scala"),
    ],
)
def test_other_names_of_a_language(tag, language):
    assert extract_code(f"```{tag}\na\n```", language) == "a\n"


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 500_000,
        "- " * 250_000 + "```python\n" + "\n" * 500_000,
        "- " * 500_000,
        "`" * 500_000 + "x`",
        "```python\n" + "```<" * 100_000,
        "\t" * 100_000 + "```\n",
        "</think>" * 60_000,
    ],
    ids=lambda value: repr(value)[:12],
)
def test_extraction_is_linear(text):
    began = time.monotonic()
    assert extract_code(text, "python") is None
    assert time.monotonic() - began < 10
