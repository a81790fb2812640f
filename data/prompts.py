"""What the model is asked, and how an IR is written as an answer."""

from judge.harnesses import chat_question, is_multipl_e
from judge.languages import LANGUAGES


def translation_prompt(problem: dict) -> str:
    source, target = LANGUAGES[problem["source_language"]], LANGUAGES[problem["target_language"]]
    prompt = (
        f"Translate this {source.display} program to {target.display}. Reply with one ```{target.name} block.\n"
        f"```{source.name}\n{problem['source'].rstrip(chr(10))}\n```"
    )
    return prompt + (f"\nSignature: {problem['declaration']}" if problem.get("declaration") else "")


def question(problem: dict) -> str:
    """What a chat model is asked."""
    return chat_question(problem) if is_multipl_e(problem) else translation_prompt(problem)


def ir_prompt(source: str) -> str:
    return f"Compile this C program to LLVM IR.\n```c\n{source.rstrip(chr(10))}\n```"


def ir_response(ir: str) -> str:
    return f"```llvm\n{ir.rstrip(chr(10))}\n```"
