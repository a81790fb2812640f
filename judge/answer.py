"""The program in the text of an answer: the format that Eq. 4 asks for.

In chat form, the answer holds exactly one fenced block of the target language. In completion form,
which only MultiPL-E problems have, the answer continues the prompt up to a stop token.
"""

import re

from judge import harnesses
from judge.languages import LANGUAGES

SOURCE_BYTES = 64 << 10  # a longer program is no answer
FENCE = re.compile(" {0,3}```")  # CommonMark allows three spaces before it


def code_in_answer(problem, completion, form):
    """The program in an answer, or None if there is none. form: "chat" or "completion"."""
    if form == "chat" or not harnesses.is_multipl_e(problem):
        return extract_code(completion, problem["target_language"])
    return harnesses.continuation(problem, completion, SOURCE_BYTES)


def extract_code(completion, language):
    """The program, if the text holds one fenced block, closed and tagged with the language.

    None if it does not, or if the program is blank or over SOURCE_BYTES.
    """
    # Not splitlines: form feeds and other exotic line ends belong to the program.
    lines = completion.split("\n")
    fences = [number for number, line in enumerate(lines) if FENCE.match(line)]
    if len(fences) != 2:
        return None
    opening, closing = fences
    tag = lines[opening].strip().removeprefix("```").strip().lower()
    if tag not in LANGUAGES[language].tags or lines[closing].strip() != "```":
        return None
    code = "\n".join(lines[opening + 1 : closing]) + "\n"
    if not code.strip() or len(code.encode(errors="replace")) > SOURCE_BYTES:
        return None
    return code
