"""Tokenizers and chat prompts."""

import json
import re
from pathlib import Path


class Tokenizer:
    """encode(str) -> ids without specials, decode(ids) -> str without specials, chat_prompt(str) -> ids; eos_ids: any of
    them ends a sample; end_id: the one that ends an answer we write.

    Reads `tokenizer.model` (SentencePiece) or `tokenizer.json` (byte-level BPE of Qwen, Llama 3, DeepSeek)."""

    def __init__(self, directory):
        directory = Path(directory)
        if not directory.is_dir():
            raise FileNotFoundError(
                f"{directory} does not exist; give the directory of a Hugging Face checkpoint"
            )
        if (directory / "tokenizer.json").exists():
            from tokenizers import Tokenizer as Backend

            backend = Backend.from_file(str(directory / "tokenizer.json"))
            backend.encode_special_tokens = (
                True  # a program that spells <|im_end|> does not end a turn
            )
            self.encode = lambda text: backend.encode(text, add_special_tokens=False).ids
            self.decode = lambda ids: backend.decode(list(ids), skip_special_tokens=True)
            self._special = backend.token_to_id
            self.vocab_size = backend.get_vocab_size()
        elif (directory / "tokenizer.model").exists():
            from sentencepiece import SentencePieceProcessor

            backend = SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
            self.encode = backend.encode
            self.decode = lambda ids: backend.decode(list(ids))
            self._special = lambda piece: (
                None if (i := backend.piece_to_id(piece)) == backend.unk_id() else i
            )
            self.vocab_size = backend.vocab_size()
        else:
            raise FileNotFoundError(
                f"{directory}: no tokenizer.json and no tokenizer.model; "
                "copy the model's tokenizer beside its weights"
            )
        config = json.loads((directory / "config.json").read_text())
        if self.vocab_size > config.get("vocab_size", self.vocab_size):
            raise ValueError(
                f"{directory}: the tokenizer has {self.vocab_size} ids, config.json only {config['vocab_size']}"
            )
        self._bos, self.eos_ids = config.get("bos_token_id"), _eos_ids(directory)
        ends = [self._special(piece) for piece in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")]
        self.end_id = next(
            (i for i in ends if i in self.eos_ids), min(self.eos_ids)
        )  # Qwen3's other EOS ends a document, not an answer
        self._parts, self._trims = _chat_parts(directory, self._special)

    def chat_prompt(self, text: str) -> list[int]:
        """One user turn, ready for the answer, as the checkpoint's own template writes it (Qwen3: with the empty think block,
        its non-thinking mode, which is the paper's); without any, ChatML where the vocabulary has its tokens, otherwise BOS,
        the plain text and a blank line. What the text spells never becomes a special token."""
        if self._parts is None:
            return self.plain_prompt(text + "\n\n")
        ids, words = [], ""
        for part in [*self._parts, ""]:
            special = (
                self._bos
                if part == BOS
                else self._special(part)
                if part.startswith(("<", "["))
                else None
            )
            if special is None and part:
                words += (
                    "" if part == BOS else part.replace("{}", text.strip() if self._trims else text)
                )
                continue
            ids += [*(self.encode(words) if words else []), *([special] if part else [])]
            words = ""
        return ids

    def plain_prompt(self, text: str) -> list[int]:
        """Text to be continued as it is: BOS, if there is one, and the text."""
        return ([] if self._bos is None else [self._bos]) + self.encode(text)


BOS = "<bos of config.json>"
SHAPES = {  # what a template holds -> the parts of one user turn; parts that the vocabulary has as one piece become that
    "<|im_start|>": [
        "<|im_start|>",
        "user\n{}",
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        "assistant\n",
    ],  # Qwen
    "<|start_header_id|>": [
        BOS,
        "<|start_header_id|>",
        "user",
        "<|end_header_id|>",
        "\n\n{}",
        "<|eot_id|>",
        "<|start_header_id|>",
        "assistant",
        "<|end_header_id|>",
        "\n\n",
    ],  # Llama 3
    "<start_of_turn>": [
        BOS,
        "<start_of_turn>",
        "user\n{}",
        "<end_of_turn>",
        "\n",
        "<start_of_turn>",
        "model\n",
    ],  # Gemma
    "[INST]": [BOS, "[INST]", " {} ", "[/INST]"],  # Llama 2, Mistral
    "### Instruction:": [BOS, "### Instruction:\n{}\n### Response:"],  # DeepSeek-Coder
}


def _chat_parts(directory: Path, special) -> tuple[list[str] | None, bool]:
    """(parts of a prompt, whether the user's text is stripped) from the chat template's text. No template engine: it is
    recognised by its markers, and its default system turn is read out of it. (None, False): a base model without one."""
    template, path = "", directory / "chat_template.jinja"
    if path.exists():
        template = path.read_text()
    elif (path := directory / "tokenizer_config.json").exists():
        template = json.loads(path.read_text()).get("chat_template") or ""
        if isinstance(template, list):  # several, by name
            template = next(
                (one["template"] for one in template if one.get("name") == "default"),
                template[0]["template"],
            )
    chatml = special("<|im_start|>") is not None and special("<|im_end|>") is not None
    mark = next(
        (mark for mark in SHAPES if mark in template),
        "<|im_start|>" if chatml and not template else None,
    )
    if mark is None and template:
        raise ValueError(
            f"{path}: its chat template is of no family known here (markers: {', '.join(SHAPES)}); "
            "remove it to prompt with plain text"
        )
    parts = list(SHAPES[mark]) if mark else None
    if mark == "<|im_start|>":
        if system := re.search(
            r"<\|im_start\|>system\\n(You are [^<{}']*)<\|im_end\|>", template
        ):  # Qwen2.5
            parts = ["<|im_start|>", "system\n" + system[1], "<|im_end|>", "\n", *parts]
        if special("<think>") is not None and ("<think>" in template or not template):
            parts += ["<think>", "\n\n", "</think>", "\n\n"]
    elif (
        mark == "<|start_header_id|>" and "Cutting Knowledge Date" in template
    ):  # Llama 3.1: its own default date, not today's
        date = re.search(r'date_string = "(\d[^"]*)"', template)
        parts[1:1] = [
            "<|start_header_id|>",
            "system",
            "<|end_header_id|>",
            f"\n\nCutting Knowledge Date: December 2023\nToday Date: {date[1] if date else '26 Jul 2024'}\n\n",
            "<|eot_id|>",
        ]
    elif mark == "[INST]" and not re.search(
        r"[\"'] \[/INST\]", template
    ):  # Mistral from 0.3 on has no space there
        parts[2] = " {}"
    elif mark == "### Instruction:":
        system, answer = (
            re.search(pattern, template)
            for pattern in (
                r"['\"](You are an AI [^'\"]*)['\"]",
                r"### Response:(\\n)?['\"]\s*\}\}(\n\{% )?",
            )
        )
        parts[1] = (
            (system[1].replace("\\n", "\n") if system else "")
            + parts[1]
            + "\n" * bool(answer and any(answer.groups()))
        )
    return parts, bool(re.search(r"\|\s*trim|\.strip\(\)", template)) and mark != "<|im_start|>"


def _eos_ids(directory: Path) -> set[int]:
    """EOS ids of generation_config.json and config.json together (Qwen3 has two). Sampling settings are not read."""
    ids = set()
    for name in ("generation_config.json", "config.json"):
        if (directory / name).exists():
            value = json.loads((directory / name).read_text()).get("eos_token_id")
            ids |= set(value if isinstance(value, list) else [] if value is None else [value])
    if not ids:
        raise ValueError(
            f'{directory}/config.json: no "eos_token_id"; add the id of the token that ends an answer'
        )
    return ids


def load_tokenizer(directory) -> Tokenizer:
    """The tokenizer in a Hugging Face model directory. Raises FileNotFoundError or ValueError naming the file."""
    return Tokenizer(directory)
