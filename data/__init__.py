"""What the trainer reads."""

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
