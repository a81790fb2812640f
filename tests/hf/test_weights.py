"""Files of weights: shards, what an earlier save left, the errors of broken ones, and memory."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from checkpoints import checkpoint_by_transformers, long_tokens
from conftest import ROOT
from data import load_tokenizer
from model import ModelConfig, Transformer, load_model, save_model

INDEX = "model.safetensors.index.json"


@pytest.fixture
def toy_model(tmp_path):
    """A copy of the embedded world's model directory."""
    directory = tmp_path / "m"
    shutil.copytree(ROOT / "toy" / "model", directory)
    return directory


def test_saving_again_leaves_nothing_of_an_earlier_save(tmp_path):
    checkpoint_by_transformers("qwen3", tmp_path / "first")
    ours = load_model(tmp_path / "first")
    tokens = long_tokens()
    saved = tmp_path / "saved"
    for shard_bytes in (20_000, 10**9, 40_000):
        save_model(ours, saved, shard_bytes=shard_bytes)
        assert torch.equal(load_model(saved).logits(tokens), ours.logits(tokens))
    files = {path.name for path in saved.iterdir()} - {"config.json", INDEX}
    assert files == set(json.loads((saved / INDEX).read_text())["weight_map"].values())


def test_sharded_checkpoint(tmp_path):
    theirs = checkpoint_by_transformers("qwen3", tmp_path, 0, False)
    tokens = torch.randint(0, 97, (1, 9))
    directory = tmp_path / "shards"
    theirs.save_pretrained(directory, max_shard_size="20KB")
    assert (directory / INDEX).exists()
    ours = load_model(directory)
    torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4)
    shard = sorted(directory.glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load_model(directory)


def test_truncated_and_missing_files_are_named(toy_model, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing does not exist; give the directory"):
        load_model(tmp_path / "nothing")
    weights = toy_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="model.safetensors: not a whole safetensors file"):
        load_model(toy_model)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors does not exist"):
        load_model(toy_model)
    (toy_model / "tokenizer.model").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer.json and no tokenizer.model"):
        load_tokenizer(toy_model)


def test_weights_that_are_not_finite_are_named(toy_model):
    model = load_model(toy_model)
    name = "model.layers.2.mlp.up_proj.weight"
    for bad in (float("nan"), float("inf")):
        with torch.no_grad():
            model.model.layers[2].mlp.up_proj.weight[3, 4] = bad
        save_model(model, toy_model)
        message = f"model.safetensors: tensor {name} holds NaN or infinity"
        with pytest.raises(ValueError, match=message):
            load_model(toy_model)


@pytest.mark.parametrize("text", ["{", "[]", '{"metadata": {}}', '{"weight_map": []}'])
def test_a_broken_index_is_named(text, toy_model):
    (toy_model / "model.safetensors").unlink()
    (toy_model / INDEX).write_text(text)
    with pytest.raises(ValueError, match=f"{INDEX}: not an index of shards"):
        load_model(toy_model)


def test_one_file_goes_before_shards_as_in_transformers(toy_model):
    """Where both are there, as after a save that was killed before it cleaned up."""
    model = load_model(toy_model)
    save_model(model, toy_model, shard_bytes=1_000_000)
    with torch.no_grad():
        model.model.norm.weight.fill_(7.0)
    save_model(model, toy_model / "other")
    shutil.copy(toy_model / "other" / "model.safetensors", toy_model)
    assert (toy_model / INDEX).exists()
    assert (load_model(toy_model).model.norm.weight == 7.0).all()


def test_a_save_leaves_what_is_not_its_own(toy_model):
    for name in ("model_lora.safetensors", "model-00001-of-00009.safetensors", f"{INDEX}.tmp"):
        (toy_model / name).write_text("")
    save_model(load_model(toy_model), toy_model)
    names = {path.name for path in toy_model.glob("*.safetensors*")}
    assert names == {"model.safetensors", "model_lora.safetensors"}


LOAD_AND_PRINT_MEMORY = """
import resource, sys, torch
from model import load_model

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak_kib()
model = load_model(sys.argv[1], dtype=torch.bfloat16)
print(peak_kib() - before, sum(p.numel() * 2 for p in model.parameters()) // 1024)
"""


def test_loading_holds_one_tensor_beside_the_model(tmp_path):
    """Peak memory of a process that loads 200 MB of bfloat16 shards: the model and one tensor."""
    config = ModelConfig(
        vocab_size=20_000,
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    )
    save_model(Transformer(config).bfloat16(), tmp_path, shard_bytes=60_000_000)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_PRINT_MEMORY, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    grown_kib, size_kib = map(int, done.stdout.split())
    assert size_kib > 150_000 and grown_kib < size_kib + 60_000_000 / 1024 * 1.1
