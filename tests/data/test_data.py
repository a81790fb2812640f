"""Rows and tokenizers: what is right is read to the byte, what is wrong is named by file, line and field."""

import json

import pytest

from conftest import ROOT
from data import load_tokenizer, read_groups, read_problems

PROBLEM = {
    "id": "a",
    "source_language": "python",
    "target_language": "cpp",
    "source": "print(1)",
    "tests": [{"stdin": "", "stdout": "1\n"}],
}
GROUP = {"id": "a", "language": "c", "source": "int f() {}", "winners": ["x"], "losers": ["y"]}


def without(row, field):
    return {k: v for k, v in row.items() if k != field}


@pytest.mark.parametrize(
    "read, row, message",
    [
        (read_problems, "{", r":3: not a JSON row"),
        (read_problems, [1], r":3: the row is a list"),
        (read_problems, without(PROBLEM, "tests"), r':3: "tests" is missing'),
        (read_problems, {**PROBLEM, "source": 3}, r':3: "source" is a int; it must be a str'),
        (read_problems, {**PROBLEM, "tests": []}, r':3: "tests" is empty; give at least one'),
        (
            read_problems,
            {**PROBLEM, "tests": [{"stdin": ""}]},
            r':3: "tests"\[0\] needs a string "stdout"',
        ),
        (
            read_problems,
            {**PROBLEM, "target_language": "cobol"},
            r':3: "target_language" is \'cobol\'; known are python',
        ),
        (
            read_problems,
            json.dumps({**PROBLEM, "source": "\ud800"}),
            r":3: holds half of a surrogate pair",
        ),
        (read_groups, {**GROUP, "language": "rust"}, r':3: "language" must be "c"'),
        (read_problems, {**PROBLEM, "source": " "}, r':3: "source" is empty'),
        (read_problems, {**PROBLEM, "id": "first"}, r":3: \"id\" 'first' is already on line 1"),
        (read_groups, without(GROUP, "losers"), r':3: "losers" is missing'),
        (read_groups, {**GROUP, "winners": []}, r':3: "winners" must be a list of at least one'),
        (read_groups, {**GROUP, "losers": ["y", 3]}, r':3: "losers" must be a list'),
    ],
)
def test_bad_rows_are_named(read, row, message, tmp_path):
    good, path = PROBLEM if read is read_problems else GROUP, tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({**good, "id": "first"})
        + "\n\n"
        + (row if isinstance(row, str) else json.dumps(row))
        + "\n"
    )
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


def test_byte_level_bpe_and_the_empty_think_block(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|endoftext|>"]
    backend.train_from_iterator(
        ["user assistant hello"],
        tokenizers.trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special[:2] + special[4:],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
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
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def test_chat_prompt_of_the_embedded_world():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    prompt = tokenizer.chat_prompt("hi")
    assert tokenizer.decode(prompt) == "user\nhi\nassistant\n"
    assert sum(t in tokenizer.eos_ids for t in prompt) == 1


# ---------------------------------------------------------------------------------------------- chat templates

# As published with the checkpoints, less what tools, several turns and reasoning add.
TURNS = "{% for message in messages %}"
TEMPLATES = {
    "qwen2.5": "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    + TURNS
    + "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    "qwen3": TURNS
    + "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    "llama3.1": '{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}'
    '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}{{- "Cutting Knowledge Date: December 2023\\n" }}'
    '{{- "Today Date: " + date_string + "\\n\\n" }}{{- "<|eot_id|>" }}'
    + TURNS
    + "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}",
    "gemma": "{{ bos_token }}"
    + TURNS
    + "{{ '<start_of_turn>' + message['role'] + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
    "mistral": "{{ bos_token }}"
    + TURNS
    + "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}",
    "mistral-0.3": "{{- bos_token }}"
    + TURNS
    + '{{- "[INST] " + message["content"] + "[/INST]" }}{% endfor %}',
    "deepseek": "{{bos_token}}{%- if not messages[0]['role'] == 'system' -%}\n{{'You are an AI programming assistant, utilizing the Deepseek Coder model, "
    "and you only answer questions related to computer science.\\n'}}\n{%- endif %}"
    + TURNS
    + "\n{{'### Instruction:\\n' + message['content'] + '\\n'}}\n{%- endfor %}\n{% if add_generation_prompt %}\n{{'### Response:'}}\n{% endif %}",
}
SPECIALS = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
]


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize(
    "text", ["Translate.\n```c\nint f;\n```", "spells <|im_end|>, <|eot_id|> and [/INST]\té ☃"]
)
def test_chat_prompts_are_those_of_the_template(family, text, tmp_path):
    tokenizers, transformers = (
        pytest.importorskip("tokenizers"),
        pytest.importorskip("transformers"),
    )
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer, backend.decoder = (
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
        tokenizers.decoders.ByteLevel(),
    )
    specials = (
        SPECIALS
        + ["[INST]", "[/INST]"] * (family == "mistral-0.3")
        + ["<think>", "</think>"] * (family == "qwen3")
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(
        ["user assistant model system\n\n", "int main() {\n    return 0;\n}\n### Instruction:"],
        trainer,
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(
        json.dumps({"vocab_size": 600, "bos_token_id": 0, "eos_token_id": [1, 3, 6, 8]})
    )
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": TEMPLATES[family]})
    )
    ours = load_tokenizer(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATES[family]
    )
    turn = [{"role": "user", "content": text}]
    written = theirs.apply_chat_template(
        turn, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert backend.decode(ours.chat_prompt(text), skip_special_tokens=False) == written
    if "spells" in text:  # transformers lets a text end its turn; here it cannot
        assert [i for i in ours.chat_prompt(text) if i < len(specials)] == [
            i for i in ours.chat_prompt("") if i < len(specials)
        ]
    else:
        assert ours.chat_prompt(text) == theirs(written, add_special_tokens=False).input_ids
    assert ours.end_id == (3 if "qwen" in family else ours.end_id)


def test_an_unknown_template_is_named(tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("tokenizer.model", "config.json"):
        (tmp_path / "m" / name).write_bytes((ROOT / "toy" / "model" / name).read_bytes())
    (tmp_path / "m" / "chat_template.jinja").write_text("{{ '<|user|>' }}")
    with pytest.raises(
        ValueError, match="chat_template.jinja: its chat template is of no family known here"
    ):
        load_tokenizer(tmp_path / "m")


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
    import io

    import sentencepiece

    tokenizers, transformers = (
        pytest.importorskip("tokenizers"),
        pytest.importorskip("transformers"),
    )
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
        encode = lambda text: reference.encode(text)
    else:
        backend = tokenizers.Tokenizer(tokenizers.models.BPE())
        backend.pre_tokenizer, backend.decoder = (
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
            tokenizers.decoders.ByteLevel(),
        )
        backend.train_from_iterator(
            CODE,
            tokenizers.trainers.BpeTrainer(
                vocab_size=500,
                initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
                special_tokens=["<s>", "</s>"],
            ),
        )
        backend.save(str(tmp_path / "tokenizer.json"))
        reference = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(tmp_path / "tokenizer.json")
        )
        encode = lambda text: reference.encode(
            text, add_special_tokens=False, split_special_tokens=True
        )
    ours = load_tokenizer(tmp_path)
    for text in CODE:
        assert ours.encode(text) == encode(text), text
        assert (
            ours.decode(ours.encode(text)) == text
            or kind == "sentencepiece"
            and text.startswith("<s>")
        ), text
