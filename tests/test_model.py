"""The loader against transformers, and the errors a broken checkpoint gets."""
import json
import shutil

import pytest
import torch

from data import load_tokenizer
from model import load_model, save_model
from conftest import ROOT


def checkpoint_by_transformers(family, directory, seed, tied):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    Config, Model = {"qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
                     "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM)}[family]
    config = Config(vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
                    tie_word_embeddings=tied, eos_token_id=[3, 5], attention_bias=False)
    model = Model(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)                # norms too: a weight of 1 would hide a missing one
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_equal_transformers(family, tied, tmp_path):
    theirs = checkpoint_by_transformers(family, tmp_path, 0, tied)
    change(tmp_path, dtype="bfloat16")                       # as published: the weights say what they are when saved again
    ours, tokens = load_model(tmp_path), torch.randint(0, 97, (3, 50))
    want = theirs(tokens).logits
    torch.testing.assert_close(ours.logits(tokens), want, atol=1e-4, rtol=1e-4)
    save_model(ours, tmp_path / "saved")                     # and back
    again = type(theirs).from_pretrained(tmp_path / "saved").eval()
    assert again.dtype == torch.float32
    torch.testing.assert_close(again(tokens).logits, want, atol=0, rtol=0)


def test_logits_are_float32_from_bfloat16_weights(tmp_path):
    checkpoint_by_transformers("qwen3", tmp_path, 0, False)
    ours, tokens = load_model(tmp_path, dtype=torch.bfloat16), torch.randint(0, 97, (3, 50))
    logits = ours.logits(tokens)
    assert logits.dtype == torch.float32 and not torch.equal(logits, logits.bfloat16().float())


def test_transformers_loads_the_warm_start():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "toy" / "model")
    ours, tokens = load_model(ROOT / "toy" / "model"), torch.randint(0, 900, (2, 40))
    assert 0.5e6 < sum(p.numel() for p in ours.parameters()) < 2e6
    torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, atol=1e-3, rtol=1e-4)


def test_sharded_checkpoint(tmp_path):
    theirs = checkpoint_by_transformers("qwen3", tmp_path, 0, False)
    tokens = torch.randint(0, 97, (1, 9))
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    torch.testing.assert_close(load_model(tmp_path / "shards").logits(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4)
    shard = sorted((tmp_path / "shards").glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load_model(tmp_path / "shards")


def change(directory, **more):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.mark.parametrize("more, message", [
    ({"model_type": "gpt2"}, "model_type.*gpt2.*known are llama, qwen3"),
    ({"rope_parameters": {"rope_type": "yarn"}}, "rope type 'yarn' is unknown"),
    ({"attention_bias": True}, "attention_bias"),
    ({"hidden_act": "gelu"}, "hidden_act"),
    ({"intermediate_size": 60}, "mlp.*is .*config.json asks for"),
    ({"num_hidden_layers": 3}, "layers.3.*does not belong"),
    ({"num_hidden_layers": 5}, "tensors are missing, the first is model.layers.4"),
])
def test_contradicting_config_is_named(more, message, tmp_path):
    shutil.copytree(ROOT / "toy" / "model", tmp_path / "m")
    change(tmp_path / "m", **more)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_a_config_that_is_no_json_object_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json: not a JSON object"):
        load_model(tmp_path)


def test_truncated_and_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json does not exist"):
        load_model(tmp_path / "nothing")
    shutil.copytree(ROOT / "toy" / "model", tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="model.safetensors: not a whole safetensors file"):
        load_model(tmp_path / "m")
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors does not exist"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "tokenizer.model").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer.json and no tokenizer.model"):
        load_tokenizer(tmp_path / "m")
