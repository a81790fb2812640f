"""Text to token ids and back, with the tokenizer of a Hugging Face checkpoint.

In: a model directory with config.json, the files of its tokenizer (backends.py) and its chat
template (chat.py). Out: a Tokenizer; ids are Python lists of int.

What a text spells never becomes a special or added token: a program that holds "<|im_end|>" does
not end its turn. Those tokens come from the chat template and from the trainer only. Added tokens
of white space are text.
Left out: training a tokenizer (toy/make.py does it), padding, truncation.
"""

from dataclasses import dataclass
from pathlib import Path

from data.backends import load_backend
from data.chat import BLANKS, read_chat_template
from data.files import read_json_object, require_checkpoint


def load_tokenizer(directory) -> "Tokenizer":
    """The tokenizer of a Hugging Face model directory.

    Raises FileNotFoundError or ValueError, which name the file."""
    return Tokenizer(directory)


@dataclass
class ChatTurn:
    """How a checkpoint writes one user turn up to the beginning of the answer."""

    before: list[int]
    prefix: str  # ordinary text before the user's, of one piece with it
    suffix: str
    after: list[int]
    strips_left: bool  # whether the user's text loses the white space before it
    strips_right: bool


class Tokenizer:
    """A checkpoint's vocabulary, chat template and ends of text.

    vocab_size: number of ids of the tokenizer; the model may have more rows.
    eos_ids: any of them ends a sample.
    end_id: the one that ends an answer we write, the end of the template's turn if it has one."""

    def __init__(self, directory):
        directory = Path(directory)
        require_checkpoint(directory)
        settings = _read_settings(directory)
        self._backend = load_backend(directory, settings)
        config = read_json_object(directory / "config.json")
        self.vocab_size = self._backend.vocab_size
        special_tokens = self._special_tokens(settings, config)
        self._bos_ids = self._backend.bos_ids
        if not self._bos_ids and settings.get("add_bos_token", self._backend.adds_bos):
            self._bos_ids = self._ids_of(special_tokens.get("bos_token", ""))
        self.eos_ids = _eos_ids(directory, config)
        template = read_chat_template(directory, settings, special_tokens, self._ids_of)
        self._turn = None
        turn_end = []
        if template:
            self._turn = self._chat_turn(template)
            turn_end = self._turn_end(template)
        self.eos_ids.update(turn_end)
        if not self.eos_ids:
            raise ValueError(
                f'{directory}/config.json: no "eos_token_id"; '
                "add the id of the token that ends an answer"
            )
        self.end_id = min(turn_end or self.eos_ids)
        self._check_ids(directory, config)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without special tokens."""
        return self._backend.encode(text)

    def decode(self, ids) -> str:
        """The text of the ids, of which encode may have made them.

        Special tokens, ends of answers and ids past the vocabulary are left out."""
        known = [token for token in ids if token < self.vocab_size and token not in self.eos_ids]
        return self._backend.decode(known)

    def decode_continuation(self, ids) -> str:
        """The text of ids that continue a text, with its first blank.

        SentencePiece puts a blank before a text; decode takes it away again, if it was one or
        not."""
        prompt = self.encode("x")
        return self.decode(prompt + list(ids)).removeprefix(self.decode(prompt))

    def chat_prompt(self, text: str) -> list[int]:
        """Ids of one user turn, ready for the answer.

        The turn is written as the checkpoint's own template writes it, not thinking where it leaves
        the choice. Without a template: ChatML where the vocabulary has its tokens, otherwise the
        plain text and a blank line."""
        turn = self._turn
        if turn is None:
            return self.plain_prompt(text + "\n\n")
        if turn.strips_left:
            text = text.lstrip()
        if turn.strips_right:
            text = text.rstrip()
        text = turn.prefix + text + turn.suffix
        return turn.before + self._backend.encode(text, continues=bool(turn.before)) + turn.after

    def plain_prompt(self, text: str) -> list[int]:
        """Ids of a text to be continued as it is: BOS, if the tokenizer adds one, and the text."""
        return self._bos_ids + self.encode(text)

    # ------------------------------------------------------------------------------ while loading

    def _ids_of(self, piece):
        """[id] of a piece; empty if the vocabulary has no such piece."""
        token = self._backend.id_of(piece)
        return [] if token is None else [token]

    def _special_tokens(self, settings, config):
        """{"bos_token": piece, ...}, what templates know them by; config.json's where not named."""
        pieces = {}
        for name in ("bos_token", "eos_token"):
            token = config.get(f"{name}_id")
            if isinstance(token, int):
                pieces[name] = self._backend.piece_of(token)
        for name, value in settings.items():
            if name.endswith("_token") and not isinstance(value, bool):
                pieces[name] = value["content"] if isinstance(value, dict) else value
        return {name: piece for name, piece in pieces.items() if piece is not None}

    def _chat_turn(self, template):
        parts = self._backend.split(template.user_turn())
        if parts.count(self._backend.mark_id) != 1:
            raise ValueError(
                f"{template.path}: its chat template does not show the user's text exactly once, "
                "as it is; mend it, or remove it to prompt with plain text"
            )
        position = parts.index(self._backend.mark_id)
        prefix, suffix = parts[position - 1], parts[position + 1]
        return ChatTurn(
            before=self._encode_parts(parts[: position - 1]),
            prefix=prefix.removesuffix(BLANKS),
            suffix=suffix.removeprefix(BLANKS),
            after=self._encode_parts(parts[position + 2 :]),
            strips_left=not prefix.endswith(BLANKS),
            strips_right=not suffix.startswith(BLANKS),
        )

    def _encode_parts(self, parts):
        """Ids of texts and ids, as split gives them."""
        ids = []
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._backend.encode(part, continues=bool(ids))
        return ids

    def _turn_end(self, template):
        """[id] of the token that the template writes after an answer; empty if there is none."""
        parts = self._backend.split(template.answered_turn())
        if self._backend.mark_id not in parts:
            return []
        text, *rest = parts[parts.index(self._backend.mark_id) + 1 :]
        return [] if text.strip() else rest[:1]

    def _check_ids(self, directory, config):
        """Raises ValueError if a prompt or an answer can have more ids than the model."""
        rows = config.get("vocab_size", self.vocab_size)
        ids = [self._backend.text_vocab_size - 1, *self._bos_ids, *self.eos_ids]
        ids += self.chat_prompt("")
        if max(ids) >= rows:
            raise ValueError(
                f'{directory}/config.json: "vocab_size" is {rows}, the tokenizer has id '
                f"{max(ids)}; take the tokenizer that came with these weights"
            )


def _read_settings(directory):
    """tokenizer_config.json, and special_tokens_map.json where it is silent; {} without them."""
    settings = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).exists():
            settings |= read_json_object(directory / name)
    return settings


def _eos_ids(directory, config):
    """EOS ids of generation_config.json and config.json together (Qwen3 has two).

    The sampling settings of generation_config.json are not read."""
    ids = set()
    path = directory / "generation_config.json"
    for source in (config, read_json_object(path) if path.exists() else {}):
        value = source.get("eos_token_id")
        ids.update(value if isinstance(value, list) else [value])
    ids.discard(None)
    if not all(isinstance(token, int) for token in ids):
        raise ValueError(f'{directory}/config.json: "eos_token_id" {ids} must be ids of tokens')
    return ids
