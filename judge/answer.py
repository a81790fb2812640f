"""The code in an answer: the format of Eq. 4."""

import re

from judge import harnesses
from judge.languages import LANGUAGES

SOURCE_BYTES = 64 << 10  # a longer program is no answer


def extract_code(completion: str, language: str) -> str | None:
    """The program, if the text holds one fenced block, closed and with a tag of the language; else None."""
    lines = completion.split(
        "\n"
    )  # not splitlines: form feeds and their like belong to the program
    fences = [(i, line.strip()) for i, line in enumerate(lines) if re.match(" {0,3}```", line)]
    if (
        len(fences) != 2
        or fences[0][1][3:].strip().lower() not in LANGUAGES[language].tags
        or fences[1][1] != "```"
    ):
        return None
    code = "\n".join(lines[fences[0][0] + 1 : fences[1][0]]) + "\n"
    return code if code.strip() and len(code.encode(errors="replace")) <= SOURCE_BYTES else None


def code_in_answer(problem, completion, form) -> str | None:
    """The code in an answer; None: there is none. Completion form is that of rows with a prompt to continue."""
    if form == "chat" or not harnesses.is_multipl_e(problem):
        return extract_code(completion, problem["target_language"])
    return harnesses.continuation(problem, completion, SOURCE_BYTES)
