"""Data: problems, IR groups, prompts and tokenizers. What comes in is files, what goes out is text.

Rows (rows.py): reads problems.jsonl (translation problems with tests) and ir_groups.jsonl
(equivalent and inequivalent IRs of one C source); every row is checked before any work starts.
Prompts (prompts.py): from a row to the text that the model is asked, and an IR as an answer.
Tokenizers (tokenizer.py, chat.py): from text to token ids and back, as the checkpoint's own
tokenizer and chat template have it.

Nothing here imports torch: the judge's workers import this room and must start quickly.
"""

from data.prompts import ir_prompt, ir_response, question, translation_prompt
from data.rows import check_fields, read_groups, read_jsonl, read_problems, read_table
from data.tokenizer import load_tokenizer

__all__ = [
    "check_fields",
    "ir_prompt",
    "ir_response",
    "question",
    "translation_prompt",
    "load_tokenizer",
    "read_groups",
    "read_jsonl",
    "read_problems",
    "read_table",
]
