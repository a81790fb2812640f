"""The loader against transformers, and the errors a broken checkpoint gets."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from data import load_tokenizer
from groups import Group, token_logprobs
from model import ModelConfig, Transformer, load_model, save_model
from rollout import generate

SCALED = {
    "linear": {"factor": 4.0},
    "yarn": {"factor": 8.0, "original_max_position_embeddings": 32},
    "yarn-mscale": {
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "mscale": 0.7,
        "mscale_all_dim": 1.0,
        "truncate": False,
        "beta_fast": 8,
        "beta_slow": 2,
    },
    "yarn-factor": {"factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.3},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
VARIANTS = {  # family, rope, more of its config
    "qwen3": ("qwen3", None, {"head_dim": 16}),
    "qwen3-bias": ("qwen3", None, {"head_dim": 16, "attention_bias": True}),
    "qwen3-yarn": ("qwen3", "yarn", {"head_dim": 16}),
    "qwen3-window": (
        "qwen3",
        None,
        {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    ),
    "qwen2": ("qwen2", None, {}),
    "qwen2-yarn": ("qwen2", "yarn-mscale", {}),
    "qwen2-mha": ("qwen2", None, {"num_key_value_heads": 4}),
    "qwen2-window": (
        "qwen2",
        None,
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
    ),
    "llama": ("llama", None, {}),
    "llama-mha-bias": (
        "llama",
        None,
        {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-linear": ("llama", "linear", {}),
    "llama-llama3": ("llama", "llama3", {"head_dim": 64}),
    "llama-yarn": ("llama", "yarn-factor", {}),
    "mistral": ("mistral", None, {"sliding_window": 11}),
    "mistral-all": ("mistral", None, {"sliding_window": None, "head_dim": None}),
    "mistral-two": ("mistral", None, {"sliding_window": 2}),
    "gemma": ("gemma", None, {"head_dim": 256}),
    "gemma-mqa": ("gemma", None, {"head_dim": 24, "num_key_value_heads": 1}),
}
CLASSES = {
    "qwen3": "Qwen3",
    "qwen2": "Qwen2",
    "llama": "Llama",
    "mistral": "Mistral",
    "gemma": "Gemma",
}


def checkpoint_by_transformers(variant, directory, seed=0, tied=False, dtype=torch.float32):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    family, rope, more = VARIANTS[variant]
    Config, Model = (
        getattr(transformers, CLASSES[family] + kind) for kind in ("Config", "ForCausalLM")
    )
    config = Config(
        **{
            **dict(
                vocab_size=97,
                hidden_size=32,
                intermediate_size=56,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                rms_norm_eps=1e-6,
                tie_word_embeddings=tied,
                eos_token_id=[3, 5],
                attention_bias=False,
                max_position_embeddings=512,
                rope_parameters={
                    "rope_type": (rope or "default").split("-")[0],
                    "rope_theta": 5000.0,
                    **SCALED.get(rope, {}),
                },
            ),
            **more,
        }
    )
    model = Model(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)  # norms too: a weight of 1 would hide a missing one
    model.to(dtype).save_pretrained(directory)
    return Model.from_pretrained(
        directory, dtype=torch.float32
    ).eval()  # what was saved, in float32


def long_tokens(seed=0):
    return torch.randint(
        6, 97, (2, 300), generator=torch.Generator().manual_seed(seed)
    )  # past every scaling's original length


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "seed, tied, dtype", [(0, False, torch.float32), (1, True, torch.bfloat16)]
)
def test_logits_and_greedy_decode_equal_transformers_and_back(
    variant, seed, tied, dtype, tmp_path, recwarn
):
    theirs = checkpoint_by_transformers(variant, tmp_path, seed, tied, dtype)
    ours, tokens = load_model(tmp_path), long_tokens(seed)
    with torch.no_grad():
        want = theirs(tokens).logits
        torch.testing.assert_close(ours.logits(tokens), want, atol=1e-4, rtol=1e-4)
    prompts = [tokens[0, :40].tolist(), tokens[1, :23].tolist()]
    for group, prompt in zip(generate(ours, prompts, 1, 60, 0.0, set(), 0), prompts):
        ids = torch.tensor([prompt])
        decoded = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=60,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert group.responses[0].tolist() == decoded[0, len(prompt) :].tolist()
    save_model(ours, tmp_path / "saved", shard_bytes=20_000)  # and back, in shards
    again = type(theirs).from_pretrained(tmp_path / "saved").eval()
    assert again.dtype == torch.float32 and len(list((tmp_path / "saved").glob("model-*"))) > 2
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, want, atol=0, rtol=0)
    assert not [w for w in recwarn if "saved" in str(w.message) or "weights" in str(w.message)]


@pytest.mark.parametrize(
    "variant", ["mistral", "mistral-two", "qwen2-window", "llama-llama3", "gemma"]
)
def test_packed_groups_see_what_transformers_sees(variant, tmp_path):
    """The window and the scaling hold on the packed path too: positions restart behind the prompt."""
    theirs = checkpoint_by_transformers(variant, tmp_path)
    ours, tokens = load_model(tmp_path), long_tokens()
    prompt, responses = tokens[0, :30], [tokens[0, 30:75], tokens[1, :3], tokens[1, 3:60]]
    (packed,) = token_logprobs(ours, [Group(prompt, responses)])
    for y, logp in zip(responses, packed):
        with torch.no_grad():
            logits = theirs(torch.cat([prompt, y])[None]).logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(
            logp, logits.log_softmax(-1).gather(1, y[:, None])[:, 0], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    "old",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 5000.0},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 5000.0},
    ],
)
def test_old_spellings_of_a_config(old, tmp_path):
    theirs = checkpoint_by_transformers("llama-linear", tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["rope_parameters"]
    raw.update(old, head_dim=None, torch_dtype=raw.pop("dtype", "float32"))
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(tmp_path).logits(long_tokens()),
            theirs(long_tokens()).logits,
            atol=1e-4,
            rtol=1e-4,
        )


def test_saving_again_leaves_nothing_of_an_earlier_save(tmp_path):
    checkpoint_by_transformers("qwen3", tmp_path / "first")
    ours = load_model(tmp_path / "first")
    for size in (20_000, 10**9, 40_000):
        save_model(ours, tmp_path / "saved", shard_bytes=size)
        assert torch.equal(
            load_model(tmp_path / "saved").logits(long_tokens()), ours.logits(long_tokens())
        )
    files = {path.name for path in (tmp_path / "saved").iterdir()} - {
        "config.json",
        "model.safetensors.index.json",
    }
    assert files == set(
        json.loads((tmp_path / "saved" / "model.safetensors.index.json").read_text())[
            "weight_map"
        ].values()
    )


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
    torch.testing.assert_close(
        load_model(tmp_path / "shards").logits(tokens), theirs(tokens).logits, atol=1e-4, rtol=1e-4
    )
    shard = sorted((tmp_path / "shards").glob("model-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load_model(tmp_path / "shards")


def change(directory, **more):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


@pytest.mark.parametrize(
    "more, message",
    [
        ({"model_type": "gpt2"}, "model_type.*gpt2.*known are llama, mistral, qwen2, qwen3, gemma"),
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


def test_weights_that_are_not_finite_are_named(tmp_path):
    shutil.copytree(ROOT / "toy" / "model", tmp_path / "m")
    model = load_model(tmp_path / "m")
    for bad in (float("nan"), float("inf")):
        with torch.no_grad():
            model.model.layers[2].mlp.up_proj.weight[3, 4] = bad
        save_model(model, tmp_path / "m")
        with pytest.raises(
            ValueError,
            match="model.safetensors: tensor model.layers.2.mlp.up_proj.weight holds NaN or infinity",
        ):
            load_model(tmp_path / "m")


@pytest.mark.parametrize("text", ["{", "[]", '{"metadata": {}}', '{"weight_map": []}'])
def test_a_broken_index_is_named(text, tmp_path):
    shutil.copytree(ROOT / "toy" / "model", tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="model.safetensors.index.json: not an index of shards"):
        load_model(tmp_path / "m")


def test_loading_holds_one_tensor_beside_the_model(tmp_path):
    """Peak memory of a process that loads 200 MB of bfloat16 shards: the model, a tensor, and what importing torch takes."""
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
    code = """if True:
        import resource, sys, torch
        from model import load_model
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        model = load_model(sys.argv[1], dtype=torch.bfloat16)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, sum(p.numel() * 2 for p in model.parameters()) // 1024)"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    grown, size = map(int, done.stdout.split())
    assert size > 150_000 and grown < size + 60_000_000 / 1024 * 1.1
