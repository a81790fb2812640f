"""config.json -> ModelConfig, and back: what sets the families of decoders apart, as data.

`model_type` names a family. What its transformers class has built in, and what is therefore no key
of config.json, is a row of FAMILIES; everything else is a field of ModelConfig.

To add a family: give it a row in FAMILIES. If no field there says what is special about it, add one
and read it in model.py, as `config.family.<field>`; a new key of config.json goes to ModelConfig.
A new kind of chat template goes to data/chat.py:TURNS, and the token that ends its answers to
data/tokenizer.py:ANSWER_ENDS. Then add a variant to tests/checkpoints.py: the tests compare its
logits with those of transformers.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from hf.rope import ROPE_KEYS

FULL, SLIDING = "full_attention", "sliding_attention"  # the kinds of layers in "layer_types"
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
MULTIPLIERS = (
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
)
# What models here do not have, and is null or false where they do without it.
REFUSED = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")
EXPERT_SIZES = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")


@dataclass(frozen=True)
class Family:
    """What all models of one model_type have in common and config.json does not say."""

    architecture: str  # the class in transformers
    defaults: dict = field(default_factory=dict)  # keys that config.json may leave out
    activation: str = "silu"  # of the MLP's gate
    activation_aliases: tuple = ()  # what config.json may call it as well
    # The norms before attention, behind it, before the MLP and behind it; "": none.
    norms: tuple = ("input_layernorm", "", "post_attention_layernorm", "")
    qk_norm: str = ""  # q and k go through a norm before RoPE: by "heads", or the "whole" of them
    qkv_bias: bool = False  # q, k, v have a bias and o has none, whatever attention_bias says
    norm_plus_one: bool = False  # an RMSNorm multiplies by 1 + weight
    norm_rounded_last: bool = False  # and rounds after the weight, not before it
    layer_norm: bool = False  # LayerNorm with a bias, in place of RMSNorm
    fused: bool = False  # q, k and v are one matrix, gate and up of the MLP as well
    gated: bool = True  # the MLP has a gate
    names: dict = field(default_factory=dict)  # what config.json calls a key of ModelConfig
    scaled_embedding: bool = False  # embeddings are multiplied by sqrt(hidden_size)
    rope_types: tuple = tuple(ROPE_KEYS)
    rope_by_type: bool = False  # layers with a window have rotary positions of their own
    experts: bool = False  # the MLP of most layers is a mixture of experts
    # Which layers have the window: none; all; last, those from max_window_layers on; unrotated,
    # those without rotary positions; or all but those of full_layers.
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
        windowed="all but full_layers",
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
        {"sliding_window": 4096},
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
        windowed="all but full_layers",
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
        windowed="all but full_layers",
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


@dataclass
class ModelConfig:
    """The shape of a model, with the names of config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    model_type: str = "qwen3"
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = False
    rope: dict = field(default_factory=dict)  # scaling {"rope_type", ...}; empty: none
    attention_bias: bool = False  # of q, k and v
    attention_out_bias: bool = False  # of o
    mlp_bias: bool = False
    attention_multiplier: float = 0.0  # of the scores; 0: 1 / sqrt(head_dim)
    embedding_multiplier: float = 0.0  # of the embeddings; 0: the family's
    residual_multiplier: float = 1.0  # of what a block adds to the residual stream
    logits_scaling: float = 1.0  # the logits are divided by it
    windows: tuple = ()  # per layer: how many keys a query sees, itself included; 0 or none: all
    sliding_rope: dict = field(default_factory=dict)  # of layers with a window; empty: as the rest
    unrotated_layers: tuple = ()  # have no rotary positions
    # Mixtures of experts
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0  # of an expert
    norm_topk_prob: bool = False  # the weights of a token's experts are made to sum to 1
    mlp_only_layers: tuple = ()  # layers with an MLP of intermediate_size in place of experts
    raw: dict = field(default_factory=dict, repr=False)  # config.json as read, to be written back

    @classmethod
    def from_pretrained(cls, directory):
        """Reads directory/config.json. directory: str or Path -> ModelConfig.

        Raises FileNotFoundError, or ValueError that names the file, the key and what is known."""
        path = Path(directory) / "config.json"
        raw = _read_json_object(path)
        model_type = raw.get("model_type")
        if model_type not in FAMILIES:
            raise ValueError(
                f'{path}: "model_type" {model_type!r} is unknown; known are {", ".join(FAMILIES)}'
            )
        family = FAMILIES[model_type]
        keys = {**family.defaults, **raw}
        for key, name in family.names.items():
            keys[key] = keys[name]
        if "num_local_experts" in keys:
            keys["num_experts"] = keys["num_local_experts"]  # as transformers 5 writes it
        try:
            _check_values(path, keys, family)
            rope, sliding_rope = _ropes(path, keys, family)
            heads = keys["num_attention_heads"]
            attention_bias = family.qkv_bias or keys.get("attention_bias", False)
            out_bias = attention_bias and not family.qkv_bias
            config = cls(
                num_hidden_layers=keys["num_hidden_layers"],
                vocab_size=keys["vocab_size"],
                hidden_size=keys["hidden_size"],
                intermediate_size=keys["intermediate_size"],
                num_attention_heads=heads,
                num_key_value_heads=keys.get("num_key_value_heads") or heads,
                head_dim=keys.get("head_dim") or keys["hidden_size"] // heads,
                model_type=model_type,
                rms_norm_eps=keys.get("rms_norm_eps", 1e-6),
                rope_theta=rope["rope_theta"],
                tie_word_embeddings=keys.get("tie_word_embeddings", False),
                rope=rope if rope["rope_type"] != "default" else {},
                attention_bias=attention_bias,
                attention_out_bias=keys.get("attention_out_bias", out_bias),
                mlp_bias=keys.get("mlp_bias", False),
                windows=_windows(path, keys, family),
                sliding_rope=sliding_rope,
                unrotated_layers=_unrotated_layers(keys),
                raw=raw,
            )
            _set_multipliers(config, keys)
            if family.experts:
                _set_experts(config, keys)
            return config
        except KeyError as key:
            raise ValueError(
                f"{path}: {key} is missing; it is part of every {model_type} config"
            ) from None

    def __post_init__(self):
        if not self.attention_multiplier:
            self.attention_multiplier = self.head_dim**-0.5
        if not self.embedding_multiplier:
            scaled = self.family.scaled_embedding
            self.embedding_multiplier = self.hidden_size**0.5 if scaled else 1.0

    @property
    def family(self):
        """-> Family, the row of FAMILIES."""
        return FAMILIES[self.model_type]

    def window(self, layer):
        """How many keys a query of the layer sees, itself included; 0: all. layer: int -> int."""
        return self.windows[layer] if self.windows else 0

    def rope_of(self, layer):
        """The rotary positions of a layer -> (base, scaling), for rope_frequencies."""
        if layer in self.unrotated_layers:
            return self.rope_theta, {"rope_type": "none"}
        if self.sliding_rope and self.window(layer):
            return self.sliding_rope["rope_theta"], self.sliding_rope
        return self.rope_theta, self.rope

    def different_ropes(self):
        """What rope_of gives for all layers, each once."""
        ropes = []
        for layer in range(self.num_hidden_layers):
            if self.rope_of(layer) not in ropes:
                ropes.append(self.rope_of(layer))
        return ropes

    def has_experts(self, layer):
        """Whether the layer's MLP is a mixture of experts. layer: int -> bool."""
        return self.num_experts > 0 and layer not in self.mlp_only_layers

    def to_json(self, dtype):
        """config.json of weights in `dtype`, a torch.dtype -> dict.

        It has the keys as they were read, or for a model that was built here, those that
        transformers needs."""
        keys = self.raw
        if not keys:
            keys = {
                "architectures": [self.family.architecture],
                "hidden_act": self.family.activation,
                **vars(self),
            }
            for key in ("raw", "rope", "windows", "sliding_rope", "unrotated_layers"):
                del keys[key]
            if self.rope:
                keys["rope_scaling"] = self.rope
            if self.windows:
                keys["sliding_window"] = max(self.windows)
        # transformers 4 reads torch_dtype, 5 reads dtype.
        name = str(dtype).removeprefix("torch.")
        return {**keys, "torch_dtype": name, "dtype": name}


def _read_json_object(path):
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give the directory of a Hugging Face checkpoint"
        )
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a JSON object ({error}); copy it again") from None


def _check_values(path, keys, family):
    sizes = [*SIZES, *(EXPERT_SIZES if family.experts else ())]
    for key in sizes:
        if type(keys[key]) is not int or keys[key] < 1:
            raise ValueError(f'{path}: "{key}" is {keys[key]!r}; it must be a whole number above 0')
    for key in REFUSED:
        if keys.get(key):
            raise ValueError(f'{path}: "{key}" is {keys[key]!r}, which no model here has')
    heads, kv_heads = keys["num_attention_heads"], keys.get("num_key_value_heads") or 1
    if heads % kv_heads:
        raise ValueError(
            f'{path}: "num_attention_heads" {heads} is no multiple of "num_key_value_heads" '
            f"{kv_heads}; copy the file again"
        )
    activation = keys.get("hidden_activation") or keys.get("hidden_act")  # Gemma has both
    if activation not in (None, family.activation, *family.activation_aliases):
        raise ValueError(
            f'{path}: "hidden_act" {activation!r} is unknown; '
            f"known of {keys['model_type']} is {family.activation}"
        )


def _ropes(path, keys, family):
    """The parameters of the rotary positions, of layers without a window and with one. The second
    is empty where they are the same."""
    # transformers 5 writes rope_parameters; older ones rope_theta and rope_scaling, whose type is
    # named "type" or "rope_type". Where both stand, it takes rope_scaling, and so do we.
    scaling = keys.get("rope_scaling") or {}
    rope = keys.get("rope_parameters") or family.defaults.get("rope_parameters", {})
    is_nested = FULL in rope or SLIDING in rope
    if is_nested != family.rope_by_type and rope:
        has = "has" if family.rope_by_type else "does not have"
        raise ValueError(
            f'{path}: a {keys["model_type"]} {has} "rope_parameters" for each of {FULL} and '
            f"{SLIDING}; write them so, or copy the file again"
        )
    if not family.rope_by_type:
        return _rope_parameters(path, keys, family, scaling or rope, "rope_theta"), {}
    full = {**(rope.get(FULL) or {}), **scaling}
    sliding = rope.get(SLIDING) or {}
    return (
        _rope_parameters(path, keys, family, full, "rope_theta"),
        _rope_parameters(path, keys, family, sliding, "rope_local_base_freq"),
    )


def _rope_parameters(path, keys, family, rope, base):
    """A copy of `rope` with "rope_type" and "rope_theta". base: the key that has it otherwise."""
    rope = dict(rope)
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    rope["rope_type"] = rope_type
    rope.setdefault("rope_theta", keys.get(base, 10_000.0))
    if rope_type not in family.rope_types:
        raise ValueError(
            f"{path}: rope type {rope_type!r} is unknown; known are {', '.join(family.rope_types)}"
        )
    for key in ROPE_KEYS[rope_type]:
        if key == "original_max_position_embeddings" and not rope.get(key):
            rope[key] = keys.get("max_position_embeddings")  # as transformers does
        if rope.get(key) is None:
            raise ValueError(f'{path}: rope type {rope_type!r} needs "{key}" beside it')
    if rope.get("partial_rotary_factor", keys.get("partial_rotary_factor", 1)) != 1:
        raise ValueError(
            f'{path}: "partial_rotary_factor" is not 1, which this model does not have'
        )
    return rope


def _unrotated_layers(keys):
    """The layers without rotary positions, of SmolLM3."""
    layers = range(keys["num_hidden_layers"])
    rotated = keys.get("no_rope_layers")  # 1 where a layer has them, whatever the name says
    every = keys.get("no_rope_layer_interval")
    if keys["model_type"] != "smollm3":
        return ()
    if rotated is None:
        rotated = [(layer + 1) % every for layer in layers]
    return tuple(layer for layer in layers if not rotated[layer])


def _windows(path, keys, family):
    """The window of each layer in keys, 0 where the layer sees all; () if all layers see all."""
    window = keys.get("sliding_window")
    if family.windowed == "none" or family.window_switch and not keys.get("use_sliding_window"):
        window = None
    windows = []
    for kind in _layer_types(path, keys, family, window):
        windows.append(window if kind == SLIDING else 0)
    return tuple(windows) if any(windows) else ()


def _layer_types(path, keys, family, window):
    """The kind of each layer, FULL or SLIDING: "layer_types" of config.json, or what the class
    makes of the other keys."""
    n_layers = keys["num_hidden_layers"]
    by_class = [_type_by_class(keys, family, window, layer) for layer in range(n_layers)]
    kinds = list(keys.get("layer_types") or by_class)
    if len(kinds) != n_layers or not {FULL, SLIDING}.issuperset(kinds):
        raise ValueError(
            f'{path}: "layer_types" {kinds} must have one of {FULL}, {SLIDING} for each of '
            f"{n_layers} layers"
        )
    if kinds != by_class and not family.layer_types:
        raise ValueError(
            f'{path}: "layer_types" differ by layer, which a {keys["model_type"]} does not have; '
            "give another model_type, or remove them"
        )
    if SLIDING in kinds and not window:
        raise ValueError(
            f'{path}: "layer_types" has {SLIDING}, and no window is set; give "sliding_window" '
            'and, where the model has it, "use_sliding_window": true'
        )
    return kinds


def _type_by_class(keys, family, window, layer):
    """The kind of a layer where config.json has no "layer_types"."""
    if family.full_layers:
        every, first = family.full_layers
        if "sliding_window_pattern" in family.defaults:
            every = keys["sliding_window_pattern"]
        return FULL if layer % every == first % every else SLIDING
    if not window or family.windowed == "last" and layer < keys["max_window_layers"]:
        return FULL
    if family.windowed == "unrotated" and layer not in _unrotated_layers(keys):
        return FULL
    return SLIDING


def _set_multipliers(config, keys):
    """Sets the factors of Granite, and that of Gemma 3."""
    for key in MULTIPLIERS:
        if key in config.family.defaults:
            setattr(config, key, keys[key])
    if "query_pre_attn_scalar" in config.family.defaults:
        config.attention_multiplier = keys["query_pre_attn_scalar"] ** -0.5


def _set_experts(config, keys):
    """Sets the fields of a mixture of experts."""
    config.num_experts = keys["num_experts"]
    config.num_experts_per_tok = keys["num_experts_per_tok"]
    config.moe_intermediate_size = keys["moe_intermediate_size"]
    config.norm_topk_prob = keys.get("norm_topk_prob", False)
    dense = set(keys.get("mlp_only_layers") or [])
    step = keys.get("decoder_sparse_step", 1)  # every so many layers have experts
    dense.update(layer for layer in range(config.num_hidden_layers) if (layer + 1) % step)
    config.mlp_only_layers = tuple(sorted(dense))
