"""config.json: old spellings are read, and what contradicts the weights is named."""

import json
import shutil

import pytest
import torch

from checkpoints import checkpoint_by_transformers, long_tokens
from conftest import ROOT
from model import load_model


@pytest.mark.parametrize(
    "old",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 5000.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 5000.0},
    ],
)
def test_old_spellings_of_a_config(old, tmp_path):
    theirs = checkpoint_by_transformers("llama-linear", tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    del raw["rope_parameters"]
    raw.update(old, head_dim=None, torch_dtype=raw.pop("dtype", "float32"))
    path.write_text(json.dumps(raw))
    ours = load_model(tmp_path)
    tokens = long_tokens()
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


def change_config(directory, **more):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.mark.parametrize(
    "more, message",
    [
        ({"model_type": "gpt2"}, "model_type.*gpt2.*known are llama, mistral, "),
        (
            {"rope_parameters": {"rope_type": "longrope"}},
            "rope type .longrope. is unknown; known are default, linear, yarn, llama3",
        ),
        ({"rope_parameters": {"rope_type": "yarn"}}, 'rope type .yarn. needs "factor"'),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"attention_bias": True}, "tensors are missing, the first is .*bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"intermediate_size": 60}, "mlp.*is .*config.json asks for"),
        ({"num_hidden_layers": 3}, "layers.3.*does not belong"),
        ({"num_hidden_layers": 5}, "tensors are missing, the first is model.layers.4"),
    ],
)
def test_contradicting_config_is_named(more, message, tmp_path):
    directory = tmp_path / "m"
    shutil.copytree(ROOT / "toy" / "model", directory)
    change_config(directory, **more)
    with pytest.raises(ValueError, match=message):
        load_model(directory)


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_a_config_that_is_no_json_object_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json: not a JSON object"):
        load_model(tmp_path)
