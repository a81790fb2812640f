"""What the trainer reads: tokenizers with their chat prompt, and the two JSONL formats.

    problems.jsonl    {"id", "source_language", "target_language", "source", "tests": [{"stdin", "stdout"}, ...]};
                      for evaluation only "harness" instead of "tests", or rows of MultiPL-E: see harness.py
    ir_groups.jsonl   {"id", "language": "c", "source", "winners": [ir, ...], "losers": [ir, ...], "meta": {...}}

Every row is checked before any work starts; a bad one is named by file, line and field, with the mend. This file
imports no torch, so that the judge's workers start quickly. Left out: tokenizer training (toy/make.py does it).
"""
import json
from pathlib import Path

from harness import MULTIPL_E, is_harness, is_multipl_e, normal
from languages import LANGUAGES


# ---------------------------------------------------------------------------------------------- JSONL

def read_jsonl(path, required: dict[str, type]) -> list[tuple[int, dict]]:
    """Rows of a JSONL file with their line numbers (from 1); blank lines are passed over.

    required: field -> type that it must have. Raises ValueError naming file, line, field and mend."""
    rows = []
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as e:
        raise ValueError(f"{path}: cannot be read ({e.strerror}); give the path of a JSONL file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as e:                      # UnicodeDecodeError is one too
            raise ValueError(f"{path}:{number}: not a JSON row ({e}); write one JSON object a line, UTF-8") from None
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as e:
            raise ValueError(f"{path}:{number}: holds half of a surrogate pair ({e.object[e.start]!a}); no program has one") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}:{number}: the row is a {type(row).__name__}; it must be a JSON object")
        require(f"{path}:{number}", row, required)
        rows.append((number, row))
    return rows


def read_table(path) -> list[tuple[int, dict]]:
    """Rows of a JSONL or parquet file with their numbers. Raises ValueError."""
    if Path(path).suffix != ".parquet":
        return read_jsonl(path, {})
    try:
        from pyarrow import parquet              # not among our requirements
        return list(enumerate(parquet.read_table(path).to_pylist(), 1))
    except (ImportError, OSError, ValueError) as e:
        raise ValueError(f"{path}: {e}; pip install pyarrow to read parquet, or export it as JSONL") from None


def require(where, row, required):
    for field, kind in required.items():
        if field not in row:
            raise ValueError(f'{where}: "{field}" is missing; add it ({kind.__name__})')
        if not isinstance(row[field], kind):
            raise ValueError(f'{where}: "{field}" is a {type(row[field]).__name__}; it must be a {kind.__name__}')


def _unique_ids(path, rows):
    first = {}
    for number, row in rows:
        if row["id"] in first:
            raise ValueError(f'{path}:{number}: "id" {row["id"]!r} is already on line {first[row["id"]]}; '
                             "ids must be unique" + '; give "id" beside "name"' * ("name" in row))
        first[row["id"]] = number
    return [row for _, row in rows]


def read_problems(path, harness=False) -> list[dict]:
    """The problems of a file, checked; harness: also those that harness.py runs. Raises ValueError (file:line, field, mend)."""
    rows = [(number, normal(row) if _check_harness(f"{path}:{number}", row, harness) else row) for number, row in read_jsonl(path, {})]
    for number, row in rows:
        where = f"{path}:{number}"
        if is_multipl_e(row):
            continue
        tests = {"harness": str} if "harness" in row else {"tests": list}
        require(where, row, {"id": str, "source_language": str, "target_language": str, "source": str, **tests})
        for field in ("source_language", "target_language"):
            if row[field] not in LANGUAGES:
                raise ValueError(f'{where}: "{field}" is {row[field]!r}; known are {", ".join(LANGUAGES)}')
        if not row["source"].strip():
            raise ValueError(f'{where}: "source" is empty; give the program to translate')
        if row.get("tests") == []:
            raise ValueError(f'{where}: "tests" is empty; give at least one {{"stdin", "stdout"}}')
        for k, test in enumerate(row.get("tests", [])):
            for field in ("stdin", "stdout"):
                if not isinstance(test, dict) or not isinstance(test.get(field), str):
                    raise ValueError(f'{where}: "tests"[{k}] needs a string "{field}"')
        if not isinstance(row.get("declaration", ""), str):
            raise ValueError(f'{where}: "declaration" must be a string')
    if not rows:
        raise ValueError(f"{path}: holds no problem; give at least one row")
    return _unique_ids(path, rows)


def _check_harness(where, row, allowed):
    """Whether it is a harness problem; ValueError if it is a bad one, or none is allowed."""
    if not is_harness(row):
        return False
    if not allowed:
        field = "harness" if "harness" in row else "tests"
        raise ValueError(f'{where}: "{field}" is code to append; training problems are stdin -> stdout, give "tests": '
                         '[{"stdin", "stdout"}, ...]. evaluate.py and reward.py read this row')
    if "harness" in row:
        if "tests" in row or "prompt" in row:
            raise ValueError(f'{where}: "harness" and "{"tests" if "tests" in row else "prompt"}" are both given; keep one')
        if not isinstance(row["harness"], str) or not row["harness"].strip():
            raise ValueError(f'{where}: "harness" must be a string, the code to append to the solution')
        return True
    require(where, row, {**MULTIPL_E, **{field: str for field in ("id", "source_language", "target_language") if field in row}})
    for field in ("name", "language", "prompt", "tests"):
        if not row[field].strip():
            raise ValueError(f'{where}: "{field}" is empty; a MultiPL-E row has {", ".join(MULTIPL_E)}')
    if not all(isinstance(stop, str) and stop for stop in row["stop_tokens"]):
        raise ValueError(f'{where}: "stop_tokens" must be a list of strings, none of them empty')
    return True


def read_groups(path) -> list[dict]:
    """The IR groups of a file, checked; n >= 1 winners, m >= 1 losers. Raises ValueError (file:line, field, mend)."""
    rows = read_jsonl(path, {"id": str, "language": str, "source": str, "winners": list, "losers": list})
    for number, row in rows:
        if row["language"] != "c" or not row["source"].strip():
            raise ValueError(f'{path}:{number}: "language" must be "c" and "source" a C function')
        for field in ("winners", "losers"):
            if not row[field] or not all(isinstance(ir, str) and ir.strip() for ir in row[field]):
                raise ValueError(f'{path}:{number}: "{field}" must be a list of at least one non-empty IR text')
    if not rows:
        raise ValueError(f"{path}: holds no group; give at least one row")
    return _unique_ids(path, rows)


# ---------------------------------------------------------------------------------------------- tokenizers

class Tokenizer:
    """encode(str) -> ids without specials, decode(ids) -> str without specials, chat_prompt(str) -> ids; eos_ids: any of
    them ends a sample; end_id: the one that ends an answer we write.

    Reads `tokenizer.model` (SentencePiece) or `tokenizer.json` (byte-level BPE of Qwen, Llama 3, DeepSeek)."""

    def __init__(self, directory):
        directory = Path(directory)
        if not directory.is_dir():
            raise FileNotFoundError(f"{directory} does not exist; give the directory of a Hugging Face checkpoint")
        if (directory / "tokenizer.json").exists():
            from tokenizers import Tokenizer as Backend
            backend = Backend.from_file(str(directory / "tokenizer.json"))
            backend.encode_special_tokens = True             # a program that spells <|im_end|> does not end a turn
            self.encode = lambda text: backend.encode(text, add_special_tokens=False).ids
            self.decode = lambda ids: backend.decode(list(ids), skip_special_tokens=True)
            self._special = backend.token_to_id
            self.vocab_size = backend.get_vocab_size()
        elif (directory / "tokenizer.model").exists():
            from sentencepiece import SentencePieceProcessor
            backend = SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
            self.encode = backend.encode
            self.decode = lambda ids: backend.decode(list(ids))
            self._special = lambda piece: None if (i := backend.piece_to_id(piece)) == backend.unk_id() else i
            self.vocab_size = backend.vocab_size()
        else:
            raise FileNotFoundError(f"{directory}: no tokenizer.json and no tokenizer.model; "
                                    "copy the model's tokenizer beside its weights")
        config = json.loads((directory / "config.json").read_text())
        if self.vocab_size > config.get("vocab_size", self.vocab_size):
            raise ValueError(f"{directory}: the tokenizer has {self.vocab_size} ids, config.json only {config['vocab_size']}")
        self._bos, self.eos_ids = config.get("bos_token_id"), _eos_ids(directory)
        turn = self._special("<|im_end|>")                   # Qwen3's other EOS ends a document, not an answer
        self.end_id = turn if turn in self.eos_ids else min(self.eos_ids)

    def chat_prompt(self, text: str) -> list[int]:
        """One user turn, ready for the answer: ChatML where the vocabulary has it (with the empty think block where
        it knows <think>: Qwen3's non-thinking mode, the paper's), otherwise BOS, the plain text and a blank line."""
        start, end = self._special("<|im_start|>"), self._special("<|im_end|>")
        if start is None or end is None:
            return self.plain_prompt(text + "\n\n")
        ids = [start, *self.encode("user\n" + text), end, *self.encode("\n"), start, *self.encode("assistant\n")]
        if self._special("<think>") is not None:
            ids += [self._special("<think>"), *self.encode("\n\n"), self._special("</think>"), *self.encode("\n\n")]
        return ids

    def plain_prompt(self, text: str) -> list[int]:
        """Text to be continued as it is: BOS, if there is one, and the text."""
        return ([] if self._bos is None else [self._bos]) + self.encode(text)


def _eos_ids(directory: Path) -> set[int]:
    """EOS ids of generation_config.json and config.json together (Qwen3 has two). Sampling settings are not read."""
    ids = set()
    for name in ("generation_config.json", "config.json"):
        if (directory / name).exists():
            value = json.loads((directory / name).read_text()).get("eos_token_id")
            ids |= set(value if isinstance(value, list) else [] if value is None else [value])
    if not ids:
        raise ValueError(f'{directory}/config.json: no "eos_token_id"; add the id of the token that ends an answer')
    return ids


def load_tokenizer(directory) -> Tokenizer:
    """The tokenizer in a Hugging Face model directory. Raises FileNotFoundError or ValueError naming the file."""
    return Tokenizer(directory)
