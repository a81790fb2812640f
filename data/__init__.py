"""Data: problems, IR groups, prompts and tokenizers.

In: files. Out: checked rows (dicts), the text of prompts, and token ids (lists of int).

Rows (rows.py): reads problems.jsonl (translation problems with tests) and ir_groups.jsonl
(equivalent and inequivalent IRs of one C source); every row is checked before any work starts.
Also keeps the problems whose language can be judged here, and appends rows to files.
Prompts (prompts.py): from a row to the text that the model is asked, and an IR as an answer.
Tokenizers (tokenizer.py, backends.py, chat.py): from text to token ids and back, as the
checkpoint's own tokenizer and chat template have it.
Files (files.py): text and JSON of a checkpoint, with errors that name the file.

Nothing here imports torch: the command reward.py, which has no use for it, imports this room (only
when it reads its files: the judge's worker processes, which must start quickly, do without).
"""

from data.prompts import (
    group_prompt,
    group_response,
    ir_prompt,
    ir_response,
    question,
    translation_prompt,
)
from data.rows import (
    append_rows,
    check_fields,
    check_surrogates,
    end_last_row,
    read_groups,
    read_jsonl,
    read_problems,
    read_table,
    runnable,
    write_atomically,
)
from data.tokenizer import load_tokenizer

__all__ = [
    "append_rows",
    "check_fields",
    "check_surrogates",
    "end_last_row",
    "group_prompt",
    "group_response",
    "ir_prompt",
    "ir_response",
    "question",
    "translation_prompt",
    "load_tokenizer",
    "read_groups",
    "read_jsonl",
    "read_problems",
    "read_table",
    "runnable",
    "write_atomically",
]
