"""What sets the families of decoders apart, as data.

`model_type` of config.json names a family. What its transformers class has built in, and what is
therefore no key of config.json, is a row of FAMILIES; everything else is a field of ModelConfig.

To add a family: give it a row in FAMILIES. If no field there says what is special about it, add one
and read it in model.py, as `config.family.<field>`; a new key of config.json goes to ModelConfig.
Then add a variant to tests/checkpoints.py: the tests compare its logits with those of transformers.
"""

from dataclasses import dataclass, field

from hf.rope import ROPE_KEYS


@dataclass(frozen=True)
class Family:
    """What all models of one model_type have in common and config.json does not say."""

    architecture: str  # the class in transformers
    defaults: dict = field(default_factory=dict)  # keys that config.json may leave out
    activation: str = "silu"  # of the MLP's gate
    activation_aliases: tuple = ()  # what config.json may call it as well
    names: dict = field(default_factory=dict)  # what config.json calls a key of ModelConfig
    # The norms before attention, behind it, before the MLP and behind it; "": none.
    norms: tuple = ("input_layernorm", "", "post_attention_layernorm", "")
    qk_norm: str = ""  # q and k go through a norm before RoPE: by "heads", or the "whole" of them
    qkv_bias: bool = False  # q, k, v have a bias and o has none, whatever attention_bias says
    norm_plus_one: bool = False  # an RMSNorm multiplies by 1 + weight
    norm_rounded_last: bool = False  # and rounds after the weight, not before it
    layer_norm: bool = False  # LayerNorm with a bias, in place of RMSNorm
    fused: bool = False  # q, k and v are one matrix, gate and up of the MLP as well
    gated: bool = True  # the MLP has a gate
    scaled_embedding: bool = False  # embeddings are multiplied by sqrt(hidden_size)
    rope_types: tuple = tuple(ROPE_KEYS)
    rope_by_type: bool = False  # layers with a window have rotary positions of their own
    experts: bool = False  # the MLP of most layers is a mixture of experts
    # Which layers have the window: none; all, but for full_layers; last, those from
    # max_window_layers on; or unrotated, those without rotary positions.
    windowed: str = "none"
    full_layers: tuple = ()  # (n, i): layer i of every n has no window
    window_switch: bool = False  # only if use_sliding_window is true
    layer_types: bool = False  # config.json may say it layer by layer, in "layer_types"


OUTPUT_NORMS = ("", "post_attention_layernorm", "", "post_feedforward_layernorm")
FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
QWEN_WINDOW = {"windowed": "last", "window_switch": True, "layer_types": True}

FAMILIES = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM", {"sliding_window": 4096}, windowed="all"),
    "ministral": Family(
        "MinistralForCausalLM", {"sliding_window": 4096}, windowed="all", layer_types=True
    ),
    "cwm": Family(
        "CwmForCausalLM",
        {
            "rms_norm_eps": 1e-5,
            "sliding_window": 8192,
            "rope_theta": 1_000_000.0,
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 16.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        windowed="all",
        full_layers=(4, 0),
        layer_types=True,
    ),
    "seed_oss": Family("SeedOssForCausalLM", {"attention_bias": True, "attention_out_bias": False}),
    "qwen2": Family(
        "Qwen2ForCausalLM",
        {"sliding_window": 4096, "max_window_layers": 28},
        qkv_bias=True,
        **QWEN_WINDOW,
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        {"sliding_window": 4096, "max_window_layers": 28, "head_dim": 128},
        qk_norm="heads",
        **QWEN_WINDOW,
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        {"sliding_window": 4096, "decoder_sparse_step": 1},
        qk_norm="heads",
        experts=True,
        windowed="all",
        window_switch=True,
    ),
    "olmo2": Family(
        "Olmo2ForCausalLM",
        {"rms_norm_eps": 1e-5},
        norms=OUTPUT_NORMS,
        norm_rounded_last=True,
        qk_norm="whole",
    ),
    "olmo3": Family(
        "Olmo3ForCausalLM",
        {
            "rms_norm_eps": 1e-5,
            "sliding_window": 4096,
            "rope_theta": 500_000.0,
            "rope_local_base_freq": 500_000.0,
        },
        norms=OUTPUT_NORMS,
        norm_rounded_last=True,
        qk_norm="whole",
        windowed="all",
        full_layers=(4, -1),
        layer_types=True,
        rope_by_type=True,
    ),
    "smollm3": Family(
        "SmolLM3ForCausalLM",
        {"tie_word_embeddings": True, "rope_theta": 2_000_000.0, "no_rope_layer_interval": 4},
        windowed="unrotated",
        window_switch=True,
        layer_types=True,
    ),
    "granite": Family(
        "GraniteForCausalLM",
        {
            "attention_multiplier": 1.0,
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
    ),
    "gemma": Family(
        "GemmaForCausalLM",
        {"tie_word_embeddings": True},
        activation="gelu_pytorch_tanh",
        activation_aliases=("gelu",),
        norm_plus_one=True,
        norm_rounded_last=True,
        scaled_embedding=True,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {
            "tie_word_embeddings": True,
            "sliding_window": 4096,
            "sliding_window_pattern": 6,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "query_pre_attn_scalar": 256,
        },
        activation="gelu_pytorch_tanh",
        norms=FOUR_NORMS,
        norm_plus_one=True,
        norm_rounded_last=True,
        qk_norm="heads",
        scaled_embedding=True,
        windowed="all",
        full_layers=(6, -1),
        layer_types=True,
        rope_by_type=True,
    ),
    "phi3": Family(
        "Phi3ForCausalLM",
        {"rms_norm_eps": 1e-5},
        fused=True,
        rope_types=("default",),
        windowed="all",
    ),
    "starcoder2": Family(
        "Starcoder2ForCausalLM",
        {"tie_word_embeddings": True, "use_bias": True, "norm_epsilon": 1e-5},
        activation="gelu_pytorch_tanh",
        layer_norm=True,
        gated=False,
        names={
            "rms_norm_eps": "norm_epsilon",
            "attention_bias": "use_bias",
            "attention_out_bias": "use_bias",
            "mlp_bias": "use_bias",
        },
        windowed="all",
    ),
}
