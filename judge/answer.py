"""The program in the text of an answer: the format that Eq. 4 asks for.

In chat form, the answer holds exactly one fenced block of the target language. Blocks of other
languages or without a tag are text. Fences are those of CommonMark 0.31 (section 4.5), also within
list items. In completion form, which only MultiPL-E problems have, the answer continues the prompt
up to a stop token.

Left out of CommonMark: block quotes, HTML blocks, list items whose paragraph goes on without its
indentation, and what keeps a list marker from ending a paragraph.
"""

import re
from dataclasses import dataclass, field

from judge import harnesses
from judge.languages import LANGUAGES

SOURCE_BYTES = 64 << 10  # a longer program is no answer
THINK_END = "</think>"
# The fence and the tag. What follows backticks holds no backtick, or it would be inline code.
OPENING = re.compile(r"(`{3,}(?=[^`]*$)|~{3,}) *(\S*)")
# An end-of-turn text such as <|im_end|> may follow.
CLOSING = re.compile(r"(`{3,}|~{3,})\s*(?:<[^<>\s]+>\s*)*")
LIST_MARKER = re.compile(r"(?:[-+*]|[0-9]{1,9}[.)])(?: {1,4}(?=\S)| )")
INDENTED_CODE = 4  # what is indented by so many columns is neither a fence nor a list item


def code_in_answer(problem, completion, form):
    """The program in an answer, or None if there is none. form: "chat" or "completion"."""
    if form == "chat" or not harnesses.is_multipl_e(problem):
        return extract_code(completion, problem["target_language"])
    return harnesses.continuation(problem, completion, SOURCE_BYTES)


def extract_code(completion, language):
    """The program, if the answer holds one fenced block of the language, and that is closed.

    None if it does not, or if the program is blank or over SOURCE_BYTES. What stands before
    THINK_END is not the answer.
    """
    answer = completion.rpartition(THINK_END)[2]
    tags = LANGUAGES[language].tags
    blocks = [block for block in _fenced_blocks(answer) if block.tag in tags]
    if len(blocks) != 1 or not blocks[0].closed:
        return None
    code = "\n".join(blocks[0].lines) + "\n"
    if not code.strip() or len(code.encode(errors="replace")) > SOURCE_BYTES:
        return None
    return code


@dataclass
class Block:
    """A fenced block."""

    fence: str
    tag: str  # in lower case
    column: int  # the indentation of the fence, which its lines lose
    lines: list = field(default_factory=list)
    closed: bool = False


def _fenced_blocks(text):
    blocks = []
    block = None  # the one that is open
    margins = [0]  # the columns at which the contents of the open list items begin
    # Not splitlines: form feeds and other exotic line ends belong to the program.
    for line in text.split("\n"):
        expanded = line.expandtabs(4) + " "  # so that a space follows every list marker
        content = expanded.lstrip(" ")
        column = len(expanded) - len(content)
        is_blank = not content.strip()
        # A line with less indentation ends the list item, and with it a block that is not closed.
        if block and (is_blank or column >= margins[-1]):
            closing = CLOSING.fullmatch(content)
            is_indented = column >= margins[-1] + INDENTED_CODE
            if closing and closing[1].startswith(block.fence) and not is_indented:
                block.closed = True
                block = None
            else:
                block.lines.append(_unindent(line, block.column))
            continue
        block = None
        if is_blank:
            continue
        while column < margins[-1]:
            margins.pop()
        if column >= margins[-1] + INDENTED_CODE:
            continue
        while marker := LIST_MARKER.match(expanded, column):
            column = marker.end()
            margins.append(column)
        opening = OPENING.match(expanded, column)
        if opening:
            block = Block(opening[1], opening[2].lower(), column)
            blocks.append(block)
    return blocks


def _unindent(line, columns):
    """The line without `columns` columns of indentation, or as many as it has."""
    if not line[:columns].strip(" "):
        return line[columns:]
    text = line.lstrip(" \t")
    indentation = line[: len(line) - len(text)].expandtabs(4)
    return indentation[columns:] + text
