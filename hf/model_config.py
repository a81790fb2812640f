"""config.json -> ModelConfig, and back.

Missing keys have the values of the family's class in transformers. What is not implemented, or
contradicts itself, is an error that names the file, the key and what to do.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from data.files import read_json_object, require_checkpoint
from distributed import ranks
from hf.families import FAMILIES
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
EXPERT_SIZES = (
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "decoder_sparse_step",
)


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
    embedding_multiplier: float = 1.0  # of the embeddings
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
        require_checkpoint(Path(directory))
        path = Path(directory) / "config.json"
        raw = read_json_object(path)
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
            unrotated = _unrotated_layers(path, keys, family)
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
                windows=_windows(path, keys, family, unrotated),
                sliding_rope=sliding_rope,
                unrotated_layers=unrotated,
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

    @property
    def family(self):
        """-> Family, the row of FAMILIES."""
        return FAMILIES[self.model_type]

    @property
    def embedding_scale(self):
        """What embeddings are multiplied by -> float."""
        if self.family.scaled_embedding:
            return self.hidden_size**0.5
        return self.embedding_multiplier

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

    def has_experts(self, layer):
        """Whether the layer's MLP is a mixture of experts. layer: int -> bool."""
        return self.num_experts > 0 and layer not in self.mlp_only_layers

    def check_length(self, tokens):
        """Warns, once, of a prompt and answer that are longer than the model was made for."""
        limit = self.raw.get("max_position_embeddings") or tokens
        if self.rope:
            original_limit = self.rope.get("original_max_position_embeddings", 0)
            limit = max(limit, self.rope["factor"] * original_limit)
        if tokens > limit and ranks.rank() == 0:
            warnings.warn(
                f"prompt and answer may be longer than the {limit:g} tokens that config.json has "
                "for max_position_embeddings; lower --max-length and --max-new-tokens",
                stacklevel=1,
            )

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


def _check_values(path, keys, family):
    sizes = SIZES + EXPERT_SIZES if family.experts else SIZES
    for key in sizes:
        if type(keys[key]) is not int or keys[key] < 1:
            raise ValueError(f'{path}: "{key}" is {keys[key]!r}; it must be a whole number above 0')
    if not _is_positive(keys.get("rms_norm_eps", 1.0)):
        raise ValueError(f'{path}: "rms_norm_eps" must be a number above 0; copy the file again')
    for key in REFUSED:
        if keys.get(key):
            raise ValueError(
                f'{path}: "{key}" is {keys[key]!r}, which no model here has; take another model'
            )
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


def _is_positive(value):
    return isinstance(value, int | float) and value > 0


def _ropes(path, keys, family):
    """The parameters of the rotary positions, of layers without a window and with one. The second
    is empty where they are the same."""
    # transformers 5 writes rope_parameters; older ones rope_theta and rope_scaling, whose type is
    # named "type" or "rope_type". Where both stand, it takes rope_scaling, and so do we.
    scaling = keys.get("rope_scaling") or {}
    rope = keys.get("rope_parameters") or family.defaults.get("rope_parameters", {})
    if not isinstance(scaling, dict) or not isinstance(rope, dict):
        raise ValueError(f'{path}: "rope_scaling" or "rope_parameters" is no object; copy it again')
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
    for key in ("rope_theta", *ROPE_KEYS[rope_type]):
        if key == "original_max_position_embeddings" and not rope.get(key):
            rope[key] = keys.get("max_position_embeddings")  # as transformers does
        if not _is_positive(rope.get(key)):
            raise ValueError(
                f'{path}: rope type {rope_type!r} needs "{key}", a number above 0, beside it'
            )
    if rope.get("partial_rotary_factor", keys.get("partial_rotary_factor", 1)) != 1:
        raise ValueError(
            f'{path}: "partial_rotary_factor" is not 1, which this model does not have'
        )
    return rope


def _unrotated_layers(path, keys, family):
    """The layers without rotary positions."""
    if family.windowed != "unrotated":
        return ()
    layers = range(keys["num_hidden_layers"])
    rotated = keys.get("no_rope_layers")  # 1 where a layer has them, whatever the name says
    if rotated is None:
        rotated = [(layer + 1) % keys["no_rope_layer_interval"] for layer in layers]
    if len(rotated) < len(layers):
        raise ValueError(
            f'{path}: "no_rope_layers" needs a number for each of {len(layers)} layers'
        )
    return tuple(layer for layer in layers if not rotated[layer])


def _windows(path, keys, family, unrotated):
    """The window of each layer in keys, 0 where the layer sees all; () if all layers see all."""
    window = keys.get("sliding_window")
    if family.windowed == "none" or family.window_switch and not keys.get("use_sliding_window"):
        window = None
    layers = range(keys["num_hidden_layers"])
    by_class = []
    for layer in layers:
        by_class.append(FULL if _is_full(keys, family, window, unrotated, layer) else SLIDING)
    windows = []
    for kind in _layer_types(path, keys, family, window, by_class):
        windows.append(window if kind == SLIDING else 0)
    return tuple(windows) if any(windows) else ()


def _is_full(keys, family, window, unrotated, layer):
    """Whether the layer sees all, where config.json has no "layer_types"."""
    if family.full_layers:
        every, first = family.full_layers
        if "sliding_window_pattern" in family.defaults:
            every = keys["sliding_window_pattern"]
        return layer % every == first % every
    if family.windowed == "last" and layer < keys["max_window_layers"]:
        return True
    if family.windowed == "unrotated" and layer not in unrotated:
        return True
    return not window


def _layer_types(path, keys, family, window, by_class):
    """The kind of each layer, FULL or SLIDING: "layer_types" of config.json, or by_class."""
    n_layers = len(by_class)
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
    for layer in range(config.num_hidden_layers):
        if (layer + 1) % keys["decoder_sparse_step"]:
            dense.add(layer)
    config.mlp_only_layers = tuple(sorted(dense))
