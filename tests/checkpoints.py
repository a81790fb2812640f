"""Random checkpoints of every family, written by transformers: what ours is compared with."""

import pytest
import torch

SCALINGS = {
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


FULL, SLIDING = "full_attention", "sliding_attention"


def window(size, first_layer):
    return {
        "use_sliding_window": True,
        "sliding_window": size,
        "max_window_layers": first_layer,
    }


EXPERTS = {
    "head_dim": 16,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 4,
}


def by_type(scaling):
    """Rotary positions of layers with a window, which are never scaled, and of the others."""
    full = {"rope_type": scaling or "default", "rope_theta": 70_000.0, **SCALINGS.get(scaling, {})}
    sliding = {"rope_type": "default", "rope_theta": 900.0}
    return {"rope_parameters": {FULL: full, SLIDING: sliding}}


# name: (family, scaling of the rotary positions, more keys of its config)
VARIANTS = {
    "qwen3": ("qwen3", None, {"head_dim": 16}),
    "qwen3-bias": ("qwen3", None, {"head_dim": 16, "attention_bias": True}),
    "qwen3-yarn": ("qwen3", "yarn", {"head_dim": 16}),
    "qwen3-window": ("qwen3", None, window(7, 1)),
    "qwen3_moe": ("qwen3_moe", None, {**EXPERTS, "norm_topk_prob": True}),
    "qwen3_moe-some": (
        "qwen3_moe",
        "yarn",
        {**EXPERTS, **window(9, 0), "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    ),
    "qwen2": ("qwen2", None, {}),
    "qwen2-yarn": ("qwen2", "yarn-mscale", {}),
    "qwen2-mha": ("qwen2", None, {"num_key_value_heads": 4}),
    "qwen2-window": ("qwen2", None, window(9, 2)),
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
    "ministral": (
        "ministral",
        None,
        {"head_dim": 16, "sliding_window": 9, "layer_types": [FULL, SLIDING, FULL]},
    ),
    "ministral-all": ("ministral", "yarn", {"sliding_window": 13, "head_dim": 24}),
    "cwm": ("cwm", "llama3", {"sliding_window": 7, "num_hidden_layers": 5, "head_dim": 16}),
    "seed_oss": ("seed_oss", None, {"attention_bias": True, "head_dim": 24}),
    "seed_oss-o": ("seed_oss", "linear", {"attention_out_bias": True, "mlp_bias": True}),
    "gemma": ("gemma", None, {"head_dim": 256}),
    "olmo2": ("olmo2", None, {}),
    "olmo2-yarn": ("olmo2", "yarn", {"num_key_value_heads": 1}),
    "olmo3": ("olmo3", None, {"sliding_window": 7, "num_hidden_layers": 5, **by_type("yarn")}),
    "olmo3-types": (
        "olmo3",
        None,
        {"sliding_window": 9, "layer_types": [FULL, SLIDING, FULL], **by_type(None)},
    ),
    "smollm3": ("smollm3", "yarn", {"num_hidden_layers": 5}),
    "smollm3-window": (
        "smollm3",
        None,
        {"use_sliding_window": True, "sliding_window": 9, "no_rope_layers": [1, 0, 1]},
    ),
    "granite": (
        "granite",
        None,
        {
            "attention_multiplier": 0.11,
            "embedding_multiplier": 5.0,
            "residual_multiplier": 0.3,
            "logits_scaling": 2.5,
        },
    ),
    "granite-plain": ("granite", "linear", {"mlp_bias": True}),
    "gemma3": (
        "gemma3_text",
        None,
        {"head_dim": 24, "sliding_window": 9, "num_hidden_layers": 7, **by_type("linear")},
    ),
    "gemma3-types": (
        "gemma3_text",
        None,
        {
            "sliding_window": 7,
            "layer_types": [SLIDING, FULL, SLIDING],
            "query_pre_attn_scalar": 24,
            "head_dim": 16,
            **by_type(None),
        },
    ),
    "phi3": ("phi3", None, {}),
    "phi3-window": ("phi3", None, {"sliding_window": 11}),
    "starcoder2": ("starcoder2", None, {"norm_epsilon": 1e-5}),
    "starcoder2-window": ("starcoder2", None, {"sliding_window": 11, "use_bias": False}),
    "gemma-mqa": ("gemma", None, {"head_dim": 24, "num_key_value_heads": 1}),
}
# What packing, FSDP and copies in another dtype could miss: experts, two kinds of rotary positions,
# layers without any, factors, fused matrices, LayerNorm.
ONE_OF_EACH_NEW_KIND = (
    "qwen3_moe",
    "cwm",
    "olmo3",
    "smollm3",
    "granite",
    "gemma3",
    "phi3",
    "starcoder2",
)
CLASSES = {
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "qwen2": "Qwen2",
    "llama": "Llama",
    "mistral": "Mistral",
    "ministral": "Ministral",
    "cwm": "Cwm",
    "seed_oss": "SeedOss",
    "olmo2": "Olmo2",
    "olmo3": "Olmo3",
    "smollm3": "SmolLM3",
    "granite": "Granite",
    "gemma3_text": "Gemma3Text",
    "phi3": "Phi3",
    "starcoder2": "Starcoder2",
    "gemma": "Gemma",
}


def checkpoint_by_transformers(variant, directory, seed=0, tied=False, dtype=torch.float32):
    """Saves a random model of the variant in the directory; returns it as read back, in float32."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    family, scaling, more = VARIANTS[variant]
    config_class = getattr(transformers, f"{CLASSES[family]}Config")
    model_class = getattr(transformers, f"{CLASSES[family].removesuffix('Text')}ForCausalLM")
    keys = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tied,
        "eos_token_id": [3, 5],
        "attention_bias": False,
        "max_position_embeddings": 512,
        "pad_token_id": None,
        "rope_parameters": {
            "rope_type": (scaling or "default").split("-")[0],
            "rope_theta": 5000.0,
            **SCALINGS.get(scaling, {}),
        },
    }
    model = model_class(config_class(**{**keys, **more})).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)  # norms too: a weight of 1 would hide a missing one
    model.to(dtype).save_pretrained(directory)
    return model_class.from_pretrained(directory, dtype=torch.float32).eval()


def long_tokens(seed=0):
    """[2, 300] int64: longer than the original length of every scaling."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(6, 97, (2, 300), generator=generator)
