"""The text that the model is asked, and an IR written as an answer.

In: a checked problem (rows.py), a C source or an IR. Out: plain text. Tokenizer.chat_prompt
(tokenizer.py) makes a chat turn of a question.
"""

from judge.harnesses import chat_question, is_multipl_e
from judge.languages import LANGUAGES


def question(problem: dict) -> str:
    """What a chat model is asked for any problem that evaluate.py reads."""
    if is_multipl_e(problem):
        return chat_question(problem)
    return translation_prompt(problem)


def translation_prompt(problem: dict) -> str:
    """The question to translate a program; it asks for one fenced block of the target language, the
    format of Eq. 4, and for its level where the installed tools are old."""
    source = LANGUAGES[problem["source_language"]]
    target = LANGUAGES[problem["target_language"]]
    prompt = (
        f"Translate this {source.display} program to {target.old_level or target.display}. "
        f"Reply with one ```{target.name} block.\n" + _fenced_block(source.name, problem["source"])
    )
    if problem.get("declaration"):
        prompt += f"\nSignature: {problem['declaration']}"
    return prompt


def ir_prompt(source: str, language="c") -> str:
    """The prompt that all IRs of one source share. language: "c" or "cpp"."""
    display = {"c": "C", "cpp": "C++"}[language]
    return f"Compile this {display} program to LLVM IR.\n" + _fenced_block(language, source)


def ir_response(ir: str) -> str:
    """One IR as an answer to ir_prompt."""
    return _fenced_block("llvm", ir)


def group_prompt(row: dict) -> str:
    """The prompt that all texts of a group share: a row of read_groups."""
    if "target_language" in row:
        return translation_prompt({**row, "source_language": row["language"]})
    return ir_prompt(row["source"], row["language"])


def group_response(row: dict, text: str) -> str:
    """A winner or loser of a group as an answer to group_prompt."""
    return _fenced_block(row.get("target_language", "llvm"), text)


def _fenced_block(tag, text):
    text = text.rstrip("\n")
    return f"```{tag}\n{text}\n```"
