"""config.json: old spellings are read, and what contradicts the weights is named."""

import json
import shutil
import warnings

import pytest
import torch

from checkpoints import checkpoint_by_transformers, long_tokens
from conftest import ROOT
from groups import Group, token_logprobs
from model import ModelConfig, load_model
from rollout import generate


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
    """Sets keys of config.json, or removes those that are None."""
    path = directory / "config.json"
    keys = {**json.loads(path.read_text()), **more}
    for key, value in more.items():
        if value is None:
            del keys[key]
    path.write_text(json.dumps(keys))


# name: (keys to change in the toy's config.json, None to remove one; what the error must say)
BROKEN = {
    "an unknown family": ({"model_type": "gpt2"}, "model_type.*gpt2.*known are llama, mistral, "),
    "no family": ({"model_type": None}, "model_type.*None.*known are"),
    "a missing size": ({"hidden_size": None}, "config.json: 'hidden_size' is missing"),
    "a size as text": ({"num_hidden_layers": "4"}, "num_hidden_layers. is .4.; .* whole number"),
    "a size of 0": ({"num_attention_heads": 0}, "num_attention_heads. is 0; .* above 0"),
    "heads that do not divide": ({"num_key_value_heads": 3}, "no multiple of .num_key_value_heads"),
    "an epsilon as text": ({"rms_norm_eps": "1e-6"}, "rms_norm_eps. must be a number"),
    "a base of 0": ({"rope_theta": 0}, "needs .rope_theta., a number above 0"),
    "longrope": (
        {"rope_parameters": {"rope_type": "longrope"}},
        "rope type .longrope. is unknown; known are default, linear, yarn, llama3",
    ),
    "half a yarn": ({"rope_parameters": {"rope_type": "yarn"}}, "rope type .yarn. needs .factor"),
    "a scaling as text": ({"rope_scaling": "linear"}, "rope_scaling.* is no object"),
    "rotary positions by layer": (
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
        "qwen3 does not have .rope_parameters. for each",
    ),
    "partial rotary positions": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act. .gelu. is unknown; known of qwen3"),
    "soft caps": ({"final_logit_softcapping": 30.0}, "final_logit_softcapping. is 30.0, which no"),
    "an unknown kind of layer": (
        {"layer_types": ["chunked_attention"] * 4},
        "layer_types.*must have one of full_attention, sliding_attention for each of 4",
    ),
    "too few kinds of layers": ({"layer_types": ["full_attention"]}, "layer_types.*each of 4"),
    "windows without a window": (
        {"layer_types": ["sliding_attention"] * 4, "sliding_window": 9},
        "layer_types.*no window is set; give .sliding_window. and.*use_sliding_window",
    ),
    "windows of a family that has none": (
        {"model_type": "llama", "layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
        "layer_types. differ by layer, which a llama does not have; give another model_type",
    ),
    "experts without their number": ({"model_type": "qwen3_moe"}, "'num_experts' is missing"),
    "a step of 0 between experts": (
        {
            "model_type": "qwen3_moe",
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 8,
            "decoder_sparse_step": 0,
        },
        "decoder_sparse_step. is 0; .* above 0",
    ),
    "biases that are not there": (
        {"attention_bias": True},
        "tensors are missing, the first is .*bias; is config.json that of another model",
    ),
    "another size of the MLP": ({"intermediate_size": 60}, "mlp.*is .*config.json asks for"),
    "fewer layers": ({"num_hidden_layers": 3}, "layers.3.*does not belong.*that of another model"),
    "more layers": ({"num_hidden_layers": 5}, "tensors are missing, the first is model.layers.4"),
}


@pytest.mark.parametrize("more, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_config_is_named_with_its_field(more, message, tmp_path):
    directory = tmp_path / "m"
    shutil.copytree(ROOT / "toy" / "model", directory)
    change_config(directory, **more)
    with pytest.raises(ValueError, match=message) as error:
        load_model(directory)
    assert str(directory) in str(error.value)


# Where keys are missing or stand beside others: (variant, keys to change, None to remove one)
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}
UNUSUAL = {
    "rope_scaling beside rope_parameters": (
        "llama",
        {"rope_scaling": YARN, "rope_theta": 700.0, "rope_parameters": {"rope_type": "default"}},
    ),
    "no max_window_layers": (
        "qwen2-window",
        {"max_window_layers": None, "layer_types": None},
    ),
    "one rope_scaling for two kinds": (
        "gemma3",
        {"rope_scaling": YARN, "rope_theta": 3000.0, "rope_parameters": None},
    ),
    "Gemma 3 as it was first saved": (
        "gemma3",
        {
            "rope_parameters": None,
            "layer_types": None,
            "rope_theta": 3000.0,
            "rope_local_base_freq": 200.0,
            "sliding_window_pattern": 3,
        },
    ),
    "Olmo 3 as it was first saved": (
        "olmo3",
        {"rope_parameters": None, "layer_types": None, "rope_scaling": YARN, "rope_theta": 9000.0},
    ),
    "CWM without rotary parameters": ("cwm", {"rope_parameters": None, "layer_types": None}),
    "SmolLM3 without its layers": ("smollm3", {"no_rope_layers": None, "layer_types": None}),
    "no factors": (
        "granite",
        {"attention_multiplier": None, "residual_multiplier": None, "logits_scaling": None},
    ),
    "no scale of the scores": ("gemma3-types", {"query_pre_attn_scalar": None}),
    "no epsilon": ("olmo2", {"rms_norm_eps": None}),
    "no norm_topk_prob": ("qwen3_moe", {"norm_topk_prob": None}),
}


@pytest.mark.parametrize("variant, more", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_configs_are_read_as_transformers_reads_them(variant, more, tmp_path):
    theirs = checkpoint_by_transformers(variant, tmp_path)
    change_config(tmp_path, **more)
    theirs = type(theirs).from_pretrained(tmp_path).eval()
    tokens = long_tokens()[:1]
    with torch.no_grad():
        ours = load_model(tmp_path).logits(tokens)
        torch.testing.assert_close(ours, theirs(tokens).logits, atol=1e-4, rtol=1e-4)


def test_a_mistral_without_sliding_window_has_that_of_its_class(tmp_path):
    theirs = checkpoint_by_transformers("mistral", tmp_path)
    change_config(tmp_path, sliding_window=None)
    window = type(theirs.config).from_pretrained(tmp_path).sliding_window
    assert ModelConfig.from_pretrained(tmp_path).windows == (window,) * 3 == (4096,) * 3


def test_another_head_beside_tied_embeddings_is_named(tmp_path):
    checkpoint_by_transformers("llama", tmp_path)
    change_config(tmp_path, tie_word_embeddings=True)
    with pytest.raises(ValueError, match="lm_head.weight is not.*set .tie_word_embeddings. to fal"):
        load_model(tmp_path)


def test_a_prompt_and_answer_past_the_models_length_are_said_once(tmp_path):
    checkpoint_by_transformers("llama", tmp_path)
    model = load_model(tmp_path)
    with pytest.warns(UserWarning, match="longer than the 512 tokens.*--max-new-tokens") as said:
        generate(model, [[7] * 511], 1, 2, 0.0, set(), 0)
    assert len(said) == 1
    with pytest.warns(UserWarning, match="longer than the 512 tokens"):
        token_logprobs(model, [Group(torch.full((511,), 7), [torch.tensor([8, 9])])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model, [[7] * 511], 1, 1, 0.0, set(), 0)
        model.config.rope = {"factor": 4.0, "original_max_position_embeddings": 256}
        model.config.check_length(1024)


@pytest.mark.parametrize("text", ["{", "[1]", "3"])
def test_a_config_that_is_no_json_object_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json: not a JSON object"):
        load_model(tmp_path)
