"""Small tokenizers of each kind, as files of a model directory."""

import io
import json

import pytest

CORPUS = [
    "user assistant model system\n\n",
    "int main() {\n    return 0;\n}\n### Instruction: Response: Today Date",
    "You are an answer to the question: def f(x):\n\treturn x\n",
    "  a\n\n\n  b    c\t\td",
]

# As checkpoints have them: those that are flagged special, and those that are not.
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
SPECIAL += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|EOT|>"]
SPECIAL += [
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<｜User｜>",
    "<｜Assistant｜>",
]
SPECIAL += ["<｜end▁of▁sentence｜>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"]
SPECIAL += ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
NOT_SPECIAL = ["<think>", "</think>", "<tool_call>", "<|fim_prefix|>"]
TAKES_BLANKS = ["<|user|>", "<|end|>", "<|assistant|>"]  # the white space that follows them
BLANKS = ["\n\n\n", "    "]
ADDED = SPECIAL + NOT_SPECIAL + TAKES_BLANKS

CONFIG = {"model_type": "llama", "bos_token_id": 0, "eos_token_id": 4}


def byte_level(tokenizers):
    """Byte-level BPE, as Qwen's and Llama 3's."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    return _trained(tokenizers, backend, initial_alphabet=alphabet)


def with_blank_at_the_start(tokenizers):
    """Llama 2's: a blank before a text, and not before what follows an added token."""
    backend = _bytes_fall_back(tokenizers)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _trained(tokenizers, backend)


def with_blank_at_every_piece(tokenizers):
    """Llama 2's before that: a blank before what follows an added token, too."""
    backend = _bytes_fall_back(tokenizers)
    normalizers = tokenizers.normalizers
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return _trained(tokenizers, backend)


def _bytes_fall_back(tokenizers):
    decoders = tokenizers.decoders
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return backend


def _trained(tokenizers, backend, initial_alphabet=()):
    bytes_too = [f"<0x{byte:02X}>" for byte in range(256)] if not initial_alphabet else []
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 500,
        special_tokens=SPECIAL + bytes_too,
        initial_alphabet=list(initial_alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    if bytes_too:  # ordinary pieces, which the trainer took for special tokens
        content = json.loads(backend.to_str())
        content["added_tokens"] = content["added_tokens"][: len(SPECIAL)]
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    added = tokenizers.AddedToken
    backend.add_tokens([added(piece, normalized=False) for piece in NOT_SPECIAL + BLANKS])
    backend.add_tokens([added(piece, rstrip=True, normalized=False) for piece in TAKES_BLANKS])
    return backend


def sentencepiece_model():
    """A model as Llama 2's: bytes for what is unknown, no normalisation, a blank at the start."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3),
        model_writer=model,
        vocab_size=380,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        user_defined_symbols=["<end_of_turn>"],
        minloglevel=2,
    )
    return model.getvalue()


def write_json(directory, **files):
    """Files such as config={...}, each a JSON object."""
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
