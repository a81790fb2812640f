"""Chat prompts: ids of a user turn as the checkpoint's own template writes it."""

import json

import pytest

from conftest import ROOT
from data import load_tokenizer


def byte_level_bpe(tokenizers):
    """An untrained tokenizer of the library `tokenizers`."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    return backend


def test_chat_prompt_of_the_embedded_world():
    tokenizer = load_tokenizer(ROOT / "toy" / "model")
    prompt = tokenizer.chat_prompt("hi")
    assert tokenizer.decode(prompt) == "user\nhi\nassistant\n"
    assert sum(t in tokenizer.eos_ids for t in prompt) == 1


def test_byte_level_bpe_and_the_empty_think_block(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    backend = byte_level_bpe(tokenizers)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(["user assistant hello"], trainer)
    backend.add_tokens(["<think>", "</think>"])
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


# ---------------------------------------------------------------------------- templates of families

# As published with the checkpoints, minus what tools, several turns and reasoning add.
TEMPLATES = {
    "qwen2.5": (
        "{%- if messages[0]['role'] == 'system' %}"
        "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
        "{%- else %}"
        "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. "
        "You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
        "{% for message in messages %}"
        "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
        "{% endfor %}{%- if add_generation_prompt %}"
        "{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    ),
    "qwen3": (
        "{% for message in messages %}"
        "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
        "{% endfor %}{%- if add_generation_prompt %}"
        "{{- '<|im_start|>assistant\\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}"
        "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
    ),
    "llama3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "llama3.1": (
        "{{- bos_token }}{%- if not date_string is defined %}"
        '{%- set date_string = "26 Jul 2024" %}{%- endif %}'
        '{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}'
        '{{- "Cutting Knowledge Date: December 2023\\n" }}'
        '{{- "Today Date: " + date_string + "\\n\\n" }}{{- "<|eot_id|>" }}'
        "{% for message in messages %}"
        "{{- '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}{%- if add_generation_prompt %}"
        "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
        "{%- endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<start_of_turn>' + message['role'] + '\\n' + message['content'] | trim + "
        "'<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{'<start_of_turn>model\\n'}}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}"
    ),
    "mistral-0.3": (
        "{{- bos_token }}{% for message in messages %}"
        '{{- "[INST] " + message["content"] + "[/INST]" }}{% endfor %}'
    ),
    "deepseek": (
        "{{bos_token}}{%- if not messages[0]['role'] == 'system' -%}\n"
        "{{'You are an AI programming assistant, utilizing the Deepseek Coder model, "
        "and you only answer questions related to computer science.\\n'}}\n"
        "{%- endif %}{% for message in messages %}\n"
        "{{'### Instruction:\\n' + message['content'] + '\\n'}}\n{%- endfor %}\n"
        "{% if add_generation_prompt %}\n{{'### Response:'}}\n{% endif %}"
    ),
}
SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
SPECIALS += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SPECIALS += ["<start_of_turn>", "<end_of_turn>"]
MORE_SPECIALS = {"mistral-0.3": ["[INST]", "[/INST]"], "qwen3": ["<think>", "</think>"]}


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize(
    "text", ["Translate.\n```c\nint f;\n```", "spells <|im_end|>, <|eot_id|> and [/INST]\té ☃"]
)
def test_chat_prompts_are_those_of_the_template(family, text, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    backend = byte_level_bpe(tokenizers)
    specials = SPECIALS + MORE_SPECIALS.get(family, [])
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
        of_text = [i for i in ours.chat_prompt(text) if i < len(specials)]
        of_nothing = [i for i in ours.chat_prompt("") if i < len(specials)]
        assert of_text == of_nothing
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
