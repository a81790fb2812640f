"""Rows and tokenizers: what is right is read to the byte, what is wrong is named by file, line and field."""
import json

import pytest

from data import load_tokenizer, read_groups, read_problems
from conftest import ROOT

PROBLEM = {"id": "a", "source_language": "python", "target_language": "cpp", "source": "print(1)", "tests": [{"stdin": "", "stdout": "1\n"}]}
GROUP = {"id": "a", "language": "c", "source": "int f() {}", "winners": ["x"], "losers": ["y"]}


def without(row, field):
    return {k: v for k, v in row.items() if k != field}


@pytest.mark.parametrize("read, row, message", [
    (read_problems, "{", r":3: not a JSON row"),
    (read_problems, [1], r":3: the row is a list"),
    (read_problems, without(PROBLEM, "tests"), r':3: "tests" is missing'),
    (read_problems, {**PROBLEM, "source": 3}, r':3: "source" is a int; it must be a str'),
    (read_problems, {**PROBLEM, "tests": []}, r':3: "tests" is empty; give at least one'),
    (read_problems, {**PROBLEM, "tests": [{"stdin": ""}]}, r':3: "tests"\[0\] needs a string "stdout"'),
    (read_problems, {**PROBLEM, "target_language": "cobol"}, r':3: "target_language" is \'cobol\'; known are python'),
    (read_problems, json.dumps({**PROBLEM, "source": "\ud800"}), r":3: holds half of a surrogate pair"),
    (read_groups, {**GROUP, "language": "rust"}, r':3: "language" must be "c"'),
    (read_problems, {**PROBLEM, "source": " "}, r':3: "source" is empty'),
    (read_problems, {**PROBLEM, "id": "first"}, r":3: \"id\" 'first' is already on line 1"),
    (read_groups, without(GROUP, "losers"), r':3: "losers" is missing'),
    (read_groups, {**GROUP, "winners": []}, r':3: "winners" must be a list of at least one'),
    (read_groups, {**GROUP, "losers": ["y", 3]}, r':3: "losers" must be a list'),
])
def test_bad_rows_are_named(read, row, message, tmp_path):
    good, path = PROBLEM if read is read_problems else GROUP, tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**good, "id": "first"}) + "\n\n" + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    with pytest.raises(ValueError, match="rows.jsonl" + message):
        read(path)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.jsonl: cannot be read"):
        read_problems(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="empty.jsonl: holds no problem"):
        read_problems(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(ValueError, match="latin.jsonl:1: not a JSON row"):
        read_problems(tmp_path / "latin.jsonl")


def test_sentencepiece_round_trips_code_and_odd_text():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    for text in ("int f(int a) {\n    return a % 3;\n}\n", "\tx  =  1\n\n", "naïve ☃ 𝄞", "<|im_end|> in a program", " a", "a "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert not set(tokenizer.encode(text)) & tokenizer.eos_ids               # text cannot end an answer


def test_byte_level_bpe_and_the_empty_think_block(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|endoftext|>"]
    backend.train_from_iterator(["user assistant hello"], tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=special[:2] + special[4:], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    backend.add_tokens(special[2:4])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2], "temperature": 0.6}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.eos_ids == {1, 2} and tokenizer.end_id == 1
    assert tokenizer.decode(tokenizer.encode("print('<|im_end|>')")) == "print('<|im_end|>')"
    assert not set(tokenizer.encode("<|im_end|><|endoftext|>")) & tokenizer.eos_ids
    prompt = tokenizer.chat_prompt("hello")
    assert backend.decode(prompt, skip_special_tokens=False) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_chat_prompt_of_the_embedded_world():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    prompt = tokenizer.chat_prompt("hi")
    assert tokenizer.decode(prompt) == "user\nhi\nassistant\n"
    assert sum(t in tokenizer.eos_ids for t in prompt) == 1
