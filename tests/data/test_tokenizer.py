"""Tokenizers: ids are the reference libraries' ids, and texts come back as they were."""

import io
import os
import subprocess
import sys

import pytest
import sentencepiece

import vocabularies
from conftest import ROOT
from data import load_tokenizer


def test_sentencepiece_round_trips_code_and_odd_text():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    for text in (
        "int f(int a) {\n    return a % 3;\n}\n",
        "\tx  =  1\n\n",
        "naïve ☃ 𝄞",
        "<|im_end|> in a program",
        " a",
        "a ",
    ):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert not set(tokenizer.encode(text)) & tokenizer.eos_ids  # text cannot end an answer


CODE = [
    "def f(x):\n\treturn {'a': x ** 2}  # é\n",
    '#include <bits/stdc++.h>\nint main() { std::cout << "ß\\n"; }',
    "public class A { static final char C = '\\u00e9'; }",
    "<?php echo $a['x'] ?? \"y\"; ?>",
    "for i in {1..3}; do echo \"$i\" | tr -d '\\n'; done",
    "const f = (a) => `${a}\\t`;",
    "let x: Map<string, number[]> = new Map();",
    'Console.WriteLine($"{x:0.00}");',
    "func main() { ch := make(chan int, 1); ch <- 1 }",
    "val xs = List(1, 2).map(_ * 2)",
    "main = print $ foldr (+) 0 [1..10]",
    "static inline uint8_t f(const char *s) { return *s++; }",
    "define i32 @f(i32 noundef %0) {\n  %2 = zext nneg i32 %0 to i64\n  ret i32 0\n}\n",
    "  two  spaces\tand\ttabs\n\n\n   end  ",
    "混合 日本語 العربية עברית 🤖👩‍👩‍👧 e\u0301 \u200b\ufeff x",
    "\r\n\x0c\x01",
    "<s> </s> <unk> <0x0A> ▁",
]


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_encodings_equal_the_reference_libraries_and_round_trip(kind, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}')
    if kind == "sentencepiece":  # as Llama 2's: byte fallback, no normalisation, a space in front
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CODE * 3),
            model_writer=model,
            vocab_size=420,
            model_type="bpe",
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            hard_vocab_limit=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            minloglevel=2,
        )
        (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
        reference = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        expected = [reference.encode(text) for text in CODE]
    else:
        backend = tokenizers.Tokenizer(tokenizers.models.BPE())
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=500,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>", "</s>"],
        )
        backend.train_from_iterator(CODE, trainer)
        backend.save(str(tmp_path / "tokenizer.json"))
        reference = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(tmp_path / "tokenizer.json")
        )
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        expected = [reference.encode(text, **plain) for text in CODE]
    ours = load_tokenizer(tmp_path)
    for text, ids in zip(CODE, expected):
        assert ours.encode(text) == ids, text
        # SentencePiece knows <s> and drops it in decoding.
        drops_specials = kind == "sentencepiece" and text.startswith("<s>")
        assert ours.decode(ids) == text or drops_specials, text


# ------------------------------------------------------------------------------- settings of files


@pytest.fixture
def byte_level(tmp_path):
    """A model directory with tokenizer.json, and its backend."""
    tokenizers = pytest.importorskip("tokenizers")
    backend = vocabularies.byte_level(tokenizers)
    backend.save(str(tmp_path / "tokenizer.json"))
    vocabularies.write_json(tmp_path, config=vocabularies.CONFIG, tokenizer_config={})
    return tmp_path, backend


@pytest.fixture
def sentencepiece_directory(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(vocabularies.sentencepiece_model())
    vocabularies.write_json(tmp_path, config=vocabularies.CONFIG)
    return tmp_path


def test_truncation_and_padding_of_a_trainer_are_off(byte_level):
    directory, backend = byte_level
    backend.enable_truncation(20)
    backend.enable_padding(length=30)
    backend.save(str(directory / "tokenizer.json"))
    ours = load_tokenizer(directory)
    assert len(ours.encode("q" * 10_000)) == 10_000
    assert len(ours.encode("q")) == len(ours.plain_prompt("q")) == 1


def test_plain_text_begins_as_the_tokenizer_begins_it(byte_level):
    """Not with the bos_token_id of config.json, which Qwen and Yi have and never use."""
    tokenizers = pytest.importorskip("tokenizers")
    directory, backend = byte_level
    ids = backend.encode("a b").ids
    assert load_tokenizer(directory).plain_prompt("a b") == ids
    vocabularies.write_json(
        directory, tokenizer_config={"add_bos_token": True, "bos_token": "</s>"}
    )
    assert load_tokenizer(directory).plain_prompt("a b") == [1, *ids]
    settings = {"add_bos_token": True, "bos_token": "<s>"}  # once is enough
    vocabularies.write_json(directory, tokenizer_config=settings)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|EOT|> <s> $A </s>", special_tokens=[("<|EOT|>", 8), ("<s>", 0), ("</s>", 1)]
    )
    backend.save(str(directory / "tokenizer.json"))
    ours = load_tokenizer(directory)
    assert ours.plain_prompt("a b") == [8, 0, *ids]  # and no </s>: the text goes on
    assert ours.encode("a b") == ids


@pytest.mark.parametrize("settings, bos", [({}, [1]), ({"add_bos_token": False}, [])])
def test_sentencepiece_begins_with_bos(settings, bos, sentencepiece_directory):
    settings = {"bos_token": "<s>", **settings}
    vocabularies.write_json(sentencepiece_directory, tokenizer_config=settings)
    ours = load_tokenizer(sentencepiece_directory)
    assert ours.plain_prompt("a b") == bos + ours.encode("a b")


@pytest.mark.parametrize("piece", vocabularies.ADDED)
def test_no_text_spells_an_added_token(piece, byte_level):
    directory, backend = byte_level
    ours = load_tokenizer(directory)
    token = backend.token_to_id(piece)
    for text in (piece, f"a{piece}b", f" {piece}\n{piece}"):
        assert token not in ours.encode(text) + ours.chat_prompt(text)[3:-11]
        assert ours.decode(ours.encode(text)) == text
    assert backend.token_to_id("    ") in ours.encode("x    y")  # white space is text


def test_no_text_spells_a_token_of_sentencepiece(sentencepiece_directory):
    vocabularies.write_json(sentencepiece_directory, added_tokens={"[X]": 380, "[Y]": 385})
    ours = load_tokenizer(sentencepiece_directory)
    assert ours.decode([0, 380, 382, 385, 386, *ours.encode("x")]) == "x"
    for text in (
        "<s>",
        "</s>x",
        "a[X]",
        "<end_of_turn>",
        "the <end_of_turn>\n",
        "ss<end_of_turn>s",
    ):
        ids = ours.encode(text)
        assert not {0, 1, 2, 3, 380} & set(ids), text
        assert ours.decode(ids) == text


def test_ids_past_the_vocabulary_decode_to_nothing(byte_level, tmp_path_factory):
    directory, _ = byte_level
    ours = load_tokenizer(directory)
    ids = ours.encode("a b")
    assert ours.decode([*ids, ours.vocab_size, 151_999, *ours.eos_ids]) == "a b"
    toy = load_tokenizer(ROOT / "toy" / "model")
    ids = toy.encode("a b")
    assert toy.decode([*ids, toy.vocab_size, 151_999, *toy.eos_ids]) == "a b"


def test_decoding_leaves_out_special_tokens_only(byte_level):
    directory, backend = byte_level
    ours = load_tokenizer(directory)
    ids = [backend.token_to_id(piece) for piece in ("<think>", "<|im_start|>", "</think>", "<s>")]
    assert ours.decode(ids) == backend.decode(ids) == "<think></think>"


@pytest.mark.parametrize("kind", ["byte_level", "with_blank_at_the_start", "sentencepiece"])
def test_a_continuation_keeps_its_first_blank(kind, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    vocabularies.write_json(tmp_path, config=vocabularies.CONFIG)
    if kind == "sentencepiece":
        (tmp_path / "tokenizer.model").write_bytes(vocabularies.sentencepiece_model())
    else:
        getattr(vocabularies, kind)(tokenizers).save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    ids = ours.encode("zq wz")  # letters that no merge knows
    cut = next(i for i, _ in enumerate(ids) if ours.decode(ids[:i]) == "zq")
    assert ours.decode_continuation(ids[cut:]) == " wz"
    assert ours.decode(ids) == "zq wz" and ours.decode_continuation([]) == ""


@pytest.mark.parametrize("words", ["Qwen2Tokenizer", "GPT2TokenizerFast"])
def test_vocab_and_merges(words, byte_level, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    _, backend = byte_level
    directory = tmp_path_factory.mktemp("files")
    backend.model.save(str(directory))
    decoder = {}
    for token, entry in backend.get_added_tokens_decoder().items():
        flags = {"lstrip": entry.lstrip, "rstrip": entry.rstrip, "normalized": entry.normalized}
        decoder[token] = {"content": entry.content, "special": entry.special, **flags}
    config = {
        "tokenizer_class": words,
        "added_tokens_decoder": decoder,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    vocabularies.write_json(directory, config=vocabularies.CONFIG, tokenizer_config=config)
    ours = load_tokenizer(directory)
    reference = getattr(transformers, words.removesuffix("Fast")).from_pretrained(directory)
    assert ours.vocab_size == len(reference) == backend.get_vocab_size()
    for text in [*CODE[:-1], "12345  I'll e\u0301"]:  # the last one spells added tokens
        assert ours.encode(text) == reference.encode(text, add_special_tokens=False), text
        assert ours.decode(ours.encode(text)) == reference.decode(ours.encode(text)), text
    assert ours.chat_prompt("x")[0] == 2  # <|im_start|>


LOAD_AND_PRINT = """
import sys
from data import load_tokenizer
sys.stdout.buffer.write(repr(load_tokenizer(sys.argv[1]).chat_prompt("x")).encode())
"""


def test_files_are_utf8_whatever_the_locale(byte_level):
    directory, _ = byte_level
    template = "{{ messages[0].content }}é☃"
    vocabularies.write_json(directory, tokenizer_config={})
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", LOAD_AND_PRINT, str(directory)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == repr(load_tokenizer(directory).encode("xé☃")), done.stderr


def test_a_tokenizer_may_have_more_tokens_than_the_model(byte_level):
    """Gemma 3's has one for images, of which its text model knows nothing."""
    directory, backend = byte_level
    rows = backend.get_vocab_size()
    vocabularies.write_json(directory, config={**vocabularies.CONFIG, "vocab_size": rows})
    backend.add_special_tokens(["<image>"])
    backend.save(str(directory / "tokenizer.json"))
    assert load_tokenizer(directory).vocab_size == rows + 1
