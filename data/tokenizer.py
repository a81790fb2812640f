"""Text to token ids and back, with the tokenizer of a Hugging Face checkpoint.

In: a model directory with tokenizer.json (byte-level BPE: Qwen, Llama 3, DeepSeek) or
tokenizer.model (SentencePiece), and config.json. Out: a Tokenizer; ids are Python lists of int.

What a text spells never becomes a special token: a program that holds "<|im_end|>" does not end
its turn. Special tokens come from the chat template (chat.py) and from the trainer only.
Left out: training a tokenizer (toy/make.py does it), padding, truncation.
"""

import json
from pathlib import Path

from data.chat import read_chat_template

# Tokens that end an answer, by family: ChatML (Qwen), Llama 3, Gemma.
ANSWER_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")


def load_tokenizer(directory) -> "Tokenizer":
    """The tokenizer of a Hugging Face model directory.

    Raises FileNotFoundError or ValueError, which name the file."""
    return Tokenizer(directory)


class Tokenizer:
    """A checkpoint's vocabulary, chat template and ends of text.

    vocab_size: number of ids of the tokenizer; the model may have more rows.
    eos_ids: any of them ends a sample.
    end_id: the one that ends an answer we write."""

    def __init__(self, directory):
        directory = Path(directory)
        self._backend = _load_backend(directory)
        self.vocab_size = self._backend.vocab_size
        config = json.loads((directory / "config.json").read_text())
        if self.vocab_size > config.get("vocab_size", self.vocab_size):
            raise ValueError(
                f"{directory}: the tokenizer has {self.vocab_size} ids, "
                f"config.json only {config['vocab_size']}"
            )
        self._bos_id = config.get("bos_token_id")
        self.eos_ids = _eos_ids(directory)
        self.end_id = self._answer_end()
        self._template = read_chat_template(directory, self._backend.special_id, self._bos_id)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without special tokens."""
        return self._backend.encode(text)

    def decode(self, ids) -> str:
        """The text of the ids; special tokens are left out."""
        return self._backend.decode(list(ids))

    def chat_prompt(self, text: str) -> list[int]:
        """Ids of one user turn, ready for the answer.

        The turn is written as the checkpoint's own template writes it; Qwen3's with the empty think
        block, its non-thinking mode, which is the paper's. Without a template: ChatML where the
        vocabulary has its tokens, otherwise BOS, the plain text and a blank line."""
        if self._template is None:
            return self.plain_prompt(text + "\n\n")
        if self._template.strips_text:
            text = text.strip()
        ids = []
        for part in self._template.turn:
            if not isinstance(part, str):
                ids.append(part)
            elif part.replace("{}", text):
                ids += self.encode(part.replace("{}", text))
        return ids

    def plain_prompt(self, text: str) -> list[int]:
        """Ids of a text to be continued as it is: BOS, if the model has one, and the text."""
        if self._bos_id is None:
            return self.encode(text)
        return [self._bos_id] + self.encode(text)

    def _answer_end(self):
        # Qwen3's other EOS id, the smaller one, ends a document and not an answer.
        for piece in ANSWER_ENDS:
            token = self._backend.special_id(piece)
            if token in self.eos_ids:
                return token
        return min(self.eos_ids)


# ---------------------------------------------------------------------------------------- backends


def _load_backend(directory):
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{directory} does not exist; give the directory of a Hugging Face checkpoint"
        )
    if (directory / "tokenizer.json").exists():
        return _TokenizerJson(directory / "tokenizer.json")
    if (directory / "tokenizer.model").exists():
        return _SentencePiece(directory / "tokenizer.model")
    raise FileNotFoundError(
        f"{directory}: no tokenizer.json and no tokenizer.model; "
        "copy the model's tokenizer beside its weights"
    )


class _TokenizerJson:
    """tokenizer.json, read by the library `tokenizers`."""

    def __init__(self, path):
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        # A special token that a text spells is split like any other text.
        self._tokenizer.encode_special_tokens = True
        self.vocab_size = self._tokenizer.get_vocab_size()

    def encode(self, text):
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def special_id(self, piece):
        return self._tokenizer.token_to_id(piece)


class _SentencePiece:
    """tokenizer.model, read by the library `sentencepiece`."""

    def __init__(self, path):
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.vocab_size = self._processor.vocab_size()

    def encode(self, text):
        return self._processor.encode(text)

    def decode(self, ids):
        return self._processor.decode(ids)

    def special_id(self, piece):
        token = self._processor.piece_to_id(piece)
        return None if token == self._processor.unk_id() else token


def _eos_ids(directory):
    """EOS ids of generation_config.json and config.json together (Qwen3 has two).

    The sampling settings of generation_config.json are not read."""
    ids = set()
    for name in ("generation_config.json", "config.json"):
        if (directory / name).exists():
            value = json.loads((directory / name).read_text()).get("eos_token_id")
            if isinstance(value, list):
                ids.update(value)
            elif value is not None:
                ids.add(value)
    if not ids:
        raise ValueError(
            f'{directory}/config.json: no "eos_token_id"; '
            "add the id of the token that ends an answer"
        )
    return ids
