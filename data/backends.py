"""The vocabularies of checkpoints: tokenizer.json, tokenizer.model, or vocab.json and merges.txt.

In: a model directory. Out: a backend, which is one of two classes with the same methods:

    encode(text, continues)  ids of ordinary text; continues: other tokens precede it, so that it
                             does not get the blank with which SentencePiece begins a text
    split(text)              [text, id, text, ..., id, text]: cut at the added tokens it spells
    decode(ids)              their text, without special tokens
    id_of, piece_of          one piece of the vocabulary; None if it is not there

An added token is one that stands for a piece of its own and not for what a merge makes of text.
split knows one more than the vocabulary, chat.MARK. Left out: Mistral's tekken.json.
"""

import re

from data.chat import MARK
from data.files import read_json_object, read_text, require_file

# The words that Qwen2's merges stay within.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def load_backend(directory, settings):
    """The backend of a model directory. settings: tokenizer_config.json.

    Raises FileNotFoundError or ValueError, which name the file."""
    added = _added_tokens(directory, settings)
    if (directory / "tokenizer.json").exists():
        return _Tokenizers(_read_tokenizer_json(directory / "tokenizer.json"), added, directory)
    if (directory / "tokenizer.model").exists():
        return _SentencePiece(directory / "tokenizer.model", added, settings)
    if (directory / "vocab.json").exists():
        return _Tokenizers(_read_vocab_and_merges(directory, settings), added, directory)
    if (directory / "tekken.json").exists():
        raise ValueError(
            f"{directory}/tekken.json: Mistral's own format is not read; "
            "copy the model's tokenizer.json beside it"
        )
    raise FileNotFoundError(
        f"{directory}: no tokenizer.json and no tokenizer.model; "
        "copy the model's tokenizer beside its weights"
    )


def _added_tokens(directory, settings):
    """{id: {"content": piece, "special": bool, ...}} of the files beside the vocabulary."""
    path = directory / "added_tokens.json"
    pieces = read_json_object(path) if path.exists() else {}
    added = {}
    try:
        for piece, token in pieces.items():
            added[int(token)] = {"content": piece, "special": True, "normalized": False}
        path = directory / "tokenizer_config.json"
        for token, entry in settings.get("added_tokens_decoder", {}).items():
            added[int(token)] = {**entry, "content": str(entry["content"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a list of added tokens ({error!r}); copy it again") from None
    return dict(sorted(added.items()))


def _is_blank(piece):
    return piece.replace("▁", " ").isspace()


# -------------------------------------------------------------------------- the library tokenizers


def _read_tokenizer_json(path):
    import tokenizers

    text = read_text(path)
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises no class of its own
        raise ValueError(
            f"{path}: the library tokenizers {tokenizers.__version__} cannot read it ({error}); "
            "copy it again, or install a newer one"
        ) from None


def _read_vocab_and_merges(directory, settings):
    """vocab.json and merges.txt, cut into words as the class in tokenizer_config.json cuts them."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    files = [directory / "vocab.json", directory / "merges.txt"]
    for path in files:
        require_file(path)
    try:
        tokenizer = Tokenizer(models.BPE.from_file(*map(str, files)))
    except Exception as error:  # the library raises no class of its own
        raise ValueError(f"{files[0]}, merges.txt: {error}; copy them again") from None
    tokenizer.decoder = decoders.ByteLevel()
    words = str(settings.get("tokenizer_class")).removesuffix("Fast")
    if words == "GPT2Tokenizer":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif words == "Qwen2Tokenizer":
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    else:
        raise ValueError(
            f'{directory}/tokenizer_config.json: "tokenizer_class" {words!r} does not say how '
            "vocab.json cuts text into words; known are GPT2Tokenizer and Qwen2Tokenizer, "
            "others need tokenizer.json"
        )
    return tokenizer


class _Tokenizers:
    """A vocabulary of the library tokenizers."""

    adds_bos = False  # unless tokenizer_config.json says so

    def __init__(self, tokenizer, added, directory):
        from tokenizers import AddedToken

        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.add_tokens([AddedToken(**entry) for entry in added.values()])
        for token, entry in added.items():
            if tokenizer.token_to_id(entry["content"]) != token:
                raise ValueError(
                    f"{directory}: the added token {entry['content']!r} does not have the "
                    f"id {token} in the vocabulary; take all files of the tokenizer from one model"
                )
        self._tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.text_vocab_size = tokenizer.get_vocab_size(with_added_tokens=False)
        entries = tokenizer.get_added_tokens_decoder()
        self._special_ids = {token for token, entry in entries.items() if entry.special}
        entries = {token: entry for token, entry in entries.items() if not _is_blank(entry.content)}
        # The library can be told to take special tokens for text, so all become special.
        tokenizer.add_special_tokens(list(entries.values()))
        tokenizer.add_tokens([AddedToken(MARK, normalized=False)])
        self.mark_id = tokenizer.token_to_id(MARK)
        self._added_ids = {*entries, self.mark_id}
        with_bos = tokenizer.encode("x")
        self.bos_ids = with_bos.ids[: [*with_bos.special_tokens_mask, 0].index(0)]

    def encode(self, text, continues=False):
        self._tokenizer.encode_special_tokens = True
        if not continues:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        return self._tokenizer.encode(MARK + text, add_special_tokens=False).ids[1:]

    def split(self, text):
        self._tokenizer.encode_special_tokens = False
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        parts = []
        position = 0
        for token, (start, end) in zip(encoding.ids, encoding.offsets):
            if token in self._added_ids:
                parts += [text[position:start], token]
                position = end
        return [*parts, text[position:]]

    def decode(self, ids):
        text_ids = [token for token in ids if token not in self._special_ids]
        return self._tokenizer.decode(text_ids, skip_special_tokens=False)

    def id_of(self, piece):
        return self._tokenizer.token_to_id(piece)

    def piece_of(self, token):
        return self._tokenizer.id_to_token(token)


# ------------------------------------------------------------------------------------ SentencePiece


class _SentencePiece:
    """tokenizer.model, read by the library sentencepiece, and the tokens added to it."""

    adds_bos = True  # unless tokenizer_config.json says no
    bos_ids = []

    def __init__(self, path, added, settings):
        import sentencepiece

        require_file(path)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"{path}: not a SentencePiece model ({error}); copy it again"
            ) from None
        self.text_vocab_size = self._processor.vocab_size()
        self.vocab_size = max([self.text_vocab_size - 1, *added]) + 1
        self.mark_id = self.vocab_size
        self._left_out = set()
        self._user_defined = {}
        self._added_ids = {MARK: self.mark_id}
        for token in range(self.text_vocab_size):
            self._note_kind(token, self._processor.id_to_piece(token))
        for token, entry in added.items():
            self._added_ids[entry["content"]] = token
        longest_first = sorted(self._added_ids, key=len, reverse=True)
        self._added = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        # Older models put a blank before every text between added tokens, newer ones at the start.
        self._always_blank = settings.get("legacy", False)

    def _note_kind(self, token, piece):
        processor = self._processor
        if processor.is_control(token) or processor.is_unknown(token):
            self._left_out.add(token)
            self._added_ids[piece] = token
        # SentencePiece does not tell which pieces are user-defined. Their score is 0, like that of
        # bytes and of the first merge, which has two letters.
        elif processor.get_score(token) == 0 and len(piece) > 2 and not processor.is_byte(token):
            if not _is_blank(piece):
                self._user_defined[token] = piece
                self._added_ids[piece] = token

    def encode(self, text, continues=False):
        # A letter that is part of no piece keeps the blank at the start away from the text.
        guard = MARK[0] if continues and not self._always_blank else ""
        ids = []
        for token in self._processor.encode(guard + text)[len(self._processor.encode(guard)) :]:
            if token in self._user_defined:
                for letter in self._user_defined[token]:
                    ids += self.encode(letter, continues=True)
            else:
                ids.append(token)
        return ids

    def split(self, text):
        parts = self._added.split(text)
        parts[1::2] = [self._added_ids[piece] for piece in parts[1::2]]
        return parts

    def decode(self, ids):
        left_out = self._left_out
        text_ids = [i for i in ids if i < self.text_vocab_size and i not in left_out]
        return self._processor.decode(text_ids)

    def id_of(self, piece):
        if piece in self._added_ids:
            return self._added_ids[piece]
        token = self._processor.piece_to_id(piece)
        return None if token == self._processor.unk_id() else token

    def piece_of(self, token):
        return self._processor.id_to_piece(token) if token < self.text_vocab_size else None
