"""The chat template of a checkpoint: a Jinja program that writes a conversation.

In: a model directory and the names of its special tokens. Out: a ChatTemplate, or None for a model
without one. It is rendered as transformers renders it, once, with MARK as the user's text; the
tokenizer (tokenizer.py) cuts the result at the added tokens. A template that refuses MARK, or does
not show it exactly once, is an error and never a guess.

Where a template can think or not, it does not, as in the paper. Where it writes today's date, it
is DATE, so that a run can be repeated.

Left out: several turns, system turns other than the template's default, tools. What a template
makes of the words of the user's text is not seen, except white space that it strips.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from data.files import read_text

# The user's text while the template is rendered: nobody writes it, and every escape changes it.
MARK = "\ufdd0 <&\"'\\\n\ufdd1"
BLANKS = "\t \n"  # around MARK: gone if the user's text is stripped
DATE = datetime(2024, 7, 26)  # Llama 3's default

# How templates are asked not to think: Qwen3, SmolLM3 and GLM; DeepSeek V3.1 and Granite; Seed-OSS.
NON_THINKING = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}

# For vocabularies with the tokens of ChatML and no template.
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ thoughts }}{% endif %}"
)
EMPTY_THOUGHTS = "<think>\n\n</think>\n\n"  # Qwen3's non-thinking mode


@dataclass
class ChatTemplate:
    """A template, and what it knows beside the messages."""

    path: Path  # named in errors
    source: str
    variables: dict

    def user_turn(self) -> str:
        """A turn of the user, BLANKS + MARK + BLANKS, up to the beginning of the answer.

        Raises ValueError naming the file."""
        messages = [{"role": "user", "content": BLANKS + MARK + BLANKS}]
        try:
            return self._render(messages, add_generation_prompt=True)
        except Exception as error:  # whatever a foreign program raises
            raise ValueError(
                f"{self.path}: its chat template refuses one turn of a user ({error}); "
                "mend it, or remove it to prompt with plain text"
            ) from None

    def answered_turn(self) -> str:
        """A turn of the user and MARK as its answer; empty if the template refuses it."""
        user = {"role": "user", "content": "?"}
        answer = {"role": "assistant", "content": MARK}
        try:
            return self._render([user, answer], add_generation_prompt=False)
        except Exception:  # the answer's end is then among the EOS ids of config.json only
            return ""

    def _render(self, messages, add_generation_prompt):
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = DATE.strftime
        return environment.from_string(self.source).render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            **NON_THINKING,
            **self.variables,
        )


def read_chat_template(directory: Path, settings, special_tokens, has_piece) -> ChatTemplate | None:
    """The template of a model directory, ChatML if only its vocabulary has it, or None.

    settings: tokenizer_config.json. special_tokens: {"bos_token": piece, ...}. has_piece: whether
    the vocabulary has a piece. Raises ValueError naming the file."""
    path = directory / "chat_template.jinja"
    if path.exists():
        return ChatTemplate(path, read_text(path), special_tokens)
    path = directory / "tokenizer_config.json"
    template = settings.get("chat_template")
    if template is not None:
        return ChatTemplate(path, _default_template(path, template), special_tokens)
    if not (has_piece("<|im_start|>") and has_piece("<|im_end|>")):
        return None
    thoughts = EMPTY_THOUGHTS if has_piece("<think>") else ""
    return ChatTemplate(path, CHATML, {"thoughts": thoughts})


def _default_template(path, template):
    """A string, or the default of several: [{"name": ..., "template": ...}] or {name: template}."""
    try:
        if isinstance(template, list):
            template = {entry["name"]: entry["template"] for entry in template}
        if isinstance(template, dict):
            template = template["default"]
    except (KeyError, TypeError):
        template = None
    if not isinstance(template, str):
        raise ValueError(
            f'{path}: "chat_template" is neither a text nor holds one named "default"; '
            "name the one to use so"
        )
    return template


# ------------------------------------------------- what transformers gives templates beside Jinja


class _Generation(Extension):
    """{% generation %} ... {% endgeneration %} marks answers for other trainers: its text stays."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def _to_json(value, ensure_ascii=False, **options):
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message):
    raise jinja2.TemplateError(message)
