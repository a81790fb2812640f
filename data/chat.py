"""The chat template of a checkpoint, as one user turn.

In: a model directory and its vocabulary. Out: a ChatTemplate, or None for a base model without one.
No template engine runs. The family of a template is recognised by a marker in its text (TURNS);
what families leave to the checkpoint (default system turn, date, spaces) is read out of the text.
A template of an unknown family is an error, never a guess. To add a family: add its marker and its
turn to TURNS, and the token that ends its answers to ANSWER_ENDS in tokenizer.py.

A turn is first a list of parts: "{}" in a part stands for the user's text, BOS for bos_token_id of
config.json, a part that begins with "<" or "[" for one special token if the vocabulary has it;
everything else is ordinary text.

Left out: several turns, system turns other than the template's default, tools, reasoning.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

BOS = "<bos of config.json>"

# Markers of the families.
CHATML = "<|im_start|>"  # Qwen
LLAMA_3 = "<|start_header_id|>"
GEMMA = "<start_of_turn>"
LLAMA_2 = "[INST]"  # Mistral too
DEEPSEEK = "### Instruction:"  # DeepSeek-Coder

# marker -> one user turn and the head of the answer. The first marker found in a template decides.
TURNS = {
    CHATML: "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    LLAMA_3: BOS
    + "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    + "<|start_header_id|>assistant<|end_header_id|>\n\n",
    GEMMA: BOS + "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    LLAMA_2: BOS + "[INST] {} [/INST]",
    DEEPSEEK: BOS + "### Instruction:\n{}\n### Response:",
}


@dataclass
class ChatTemplate:
    """How a checkpoint writes one user turn up to the beginning of the answer."""

    # Ids of special tokens, and the text between them, in which "{}" stands for the user's text.
    turn: list[int | str]
    strips_text: bool  # whether the user's text loses the white space around it


def read_chat_template(directory: Path, special_id, bos_id) -> ChatTemplate | None:
    """The template of a model directory, or None if it has none and its vocabulary is not ChatML's.

    special_id: a function from a piece to its id, or None if the vocabulary has no such piece.
    Raises ValueError naming the file if the template is of no known family."""
    path = _template_file(directory)
    template = _template_text(path)
    marker = _family(template, special_id)
    if marker is None and template:
        raise ValueError(
            f"{path}: its chat template is of no family known here "
            f"(markers: {', '.join(TURNS)}); remove it to prompt with plain text"
        )
    if marker is None:
        return None
    turn = _with_ids(_parts(marker, template, special_id), special_id, bos_id)
    strips_text = marker != CHATML and re.search(r"\|\s*trim|\.strip\(\)", template) is not None
    return ChatTemplate(turn, strips_text)


# ------------------------------------------------------------------------------ the template's text


def _template_file(directory):
    own_file = directory / "chat_template.jinja"
    return own_file if own_file.exists() else directory / "tokenizer_config.json"


def _template_text(path):
    """The text of the template; empty if the checkpoint has none."""
    if not path.exists():
        return ""
    if path.name == "chat_template.jinja":
        return path.read_text()
    template = json.loads(path.read_text()).get("chat_template") or ""
    if not isinstance(template, list):
        return template
    for named_template in template:
        if named_template.get("name") == "default":
            return named_template["template"]
    return template[0]["template"]


def _family(template, special_id):
    """The marker of the template's family; without a template, ChatML's if its tokens are there."""
    for marker in TURNS:
        if marker in template:
            return marker
    if template or special_id("<|im_start|>") is None or special_id("<|im_end|>") is None:
        return None
    return CHATML


# ----------------------------------------------------------------------- from a family to its parts


def _parts(marker, template, special_id):
    if marker == CHATML:
        return _chatml_parts(template, special_id)
    if marker == LLAMA_3 and "Cutting Knowledge Date" in template:
        return _llama_3_1_parts(template)
    if marker == DEEPSEEK:
        return _deepseek_parts(template)
    turn = TURNS[marker]
    if marker == LLAMA_2 and not re.search(r"[\"'] \[/INST\]", template):
        turn = turn.replace(" [/INST]", "[/INST]")  # Mistral from 0.3 on
    return _split(turn)


def _chatml_parts(template, special_id):
    parts = _split(TURNS[CHATML])
    # Qwen2.5 has a default system turn.
    system = re.search(r"<\|im_start\|>system\\n(You are [^<{}']*)<\|im_end\|>", template)
    if system:
        parts = ["<|im_start|>", "system\n" + system[1], "<|im_end|>", "\n", *parts]
    # Qwen3's non-thinking mode is an empty think block before the answer.
    if special_id("<think>") is not None and ("<think>" in template or not template):
        parts += _split("<think>\n\n</think>\n\n")
    return parts


def _llama_3_1_parts(template):
    """The turn with the system turn before it. Its date is the template's default, not today's."""
    date = re.search(r'date_string = "(\d[^"]*)"', template)
    today = date[1] if date else "26 Jul 2024"
    dates = f"\n\nCutting Knowledge Date: December 2023\nToday Date: {today}\n\n"
    system = ["<|start_header_id|>", "system", "<|end_header_id|>", dates, "<|eot_id|>"]
    return [BOS, *system, *_split(TURNS[LLAMA_3].removeprefix(BOS))]


def _deepseek_parts(template):
    turn = TURNS[DEEPSEEK].removeprefix(BOS)
    system = re.search(r"['\"](You are an AI [^'\"]*)['\"]", template)
    if system:
        turn = system[1].replace("\\n", "\n") + turn
    # The answer begins on a new line if the template has the line break in its string,
    #
    #     {{'### Response:\n'}}
    #
    # or after the expression, where Jinja keeps it unless the next tag begins with "{%-":
    #
    #     {{'### Response:'}}
    #     {% endif %}
    response = re.search(
        r"### Response:(?P<break_in_string>\\n)?['\"]\s*\}\}(?P<break_after_expression>\n\{% )?",
        template,
    )
    if response and (response["break_in_string"] or response["break_after_expression"]):
        turn += "\n"
    return [BOS, turn]


def _split(turn):
    """A turn cut at its special tokens, which are parts of their own."""
    return re.split(r"(<[^<>]+>|\[/?INST\])", turn)


def _with_ids(parts, special_id, bos_id):
    """The parts with special tokens as ids and the text between two of them in one piece.

    One piece, because tokens of ordinary text may reach from one part into the next."""
    turn = [""]
    for part in parts:
        if part == BOS:
            token = bos_id
        else:
            token = special_id(part) if part.startswith(("<", "[")) else None
        if token is not None:
            turn += [token, ""]
        elif part != BOS:
            turn[-1] += part
    return turn
