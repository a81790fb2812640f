"""A checkpoint of a run opens as the model that it began with, with its tokenizer and templates."""

import json
import shutil

import pytest
import torch

import vocabularies
from conftest import ROOT
from data import load_tokenizer
from model import load_model
from training import checkpoint

CARRIED = (
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "merges.txt",
    "qwen.tiktoken",
    "tekken.json",
    "tokenization_qwen.py",
    "chat_template.jinja",
    "additional_chat_templates/rag.jinja",
    "chat_template.json",
    "generation_config.json",
)
LEFT = ("README.md", "pytorch_model.bin", "model-00001-of-00002.safetensors", "trainer.json.old")


def test_a_checkpoint_carries_what_text_needs(tmp_path):
    """Every file, as it was; in transformers, chat prompts of both templates."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "toy" / "model", source)
    (source / "additional_chat_templates").mkdir()
    for name in CARRIED + LEFT:
        (source / name).write_text("{}")
    vocabularies.byte_level(tokenizers).save(str(source / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    vocabularies.write_json(source, tokenizer_config=settings)
    content = "{{ messages[0].content }}"
    (source / "chat_template.jinja").write_text("A" + content)
    (source / "additional_chat_templates" / "rag.jinja").write_text("B" + content)
    model = load_model(source)
    optimizer = torch.optim.AdamW(model.parameters())
    (tmp_path / "run").mkdir()
    saved = checkpoint.save(tmp_path / "run", 3, model, optimizer, source, {})
    for name in (*CARRIED, "tokenizer.json", "tokenizer_config.json"):
        assert (saved / name).read_bytes() == (source / name).read_bytes(), name
    assert not any((saved / name).exists() for name in LEFT)
    files = json.loads((saved / "trainer.json").read_text())["files"]
    assert set(CARRIED) < set(files)
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(saved)
    turn = [{"role": "user", "content": "hi"}]
    for letter, options in {"A": {}, "B": {"chat_template": "rag"}}.items():
        ids = reference.apply_chat_template(turn, return_dict=False, **options)
        assert ids == load_tokenizer(source).encode(letter + "hi")
    assert load_tokenizer(saved).chat_prompt("hi") == load_tokenizer(source).encode("Ahi")
