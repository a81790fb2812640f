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


@dataclass(frozen=True)
class Family:
    """What all models of one model_type have in common and config.json does not say."""

    architecture: str  # the class in transformers
    activation: str = "silu"  # of the MLP's gate
    activation_aliases: tuple = ()  # what config.json may call it as well
    qk_norm: bool = False  # q and k go through an RMSNorm before RoPE
    qkv_bias: bool = False  # q, k, v have a bias and o has none, whatever attention_bias says
    norm_plus_one: bool = False  # an RMSNorm multiplies by 1 + weight
    scaled_embedding: bool = False  # embeddings are multiplied by sqrt(hidden_size)
    tied_by_default: bool = False  # where tie_word_embeddings is missing
    sliding_window: str = "never"  # or "always", or "optional": if use_sliding_window is true


FAMILIES = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM", sliding_window="always"),
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True, sliding_window="optional"),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, sliding_window="optional"),
    "gemma": Family(
        "GemmaForCausalLM",
        activation="gelu_pytorch_tanh",
        activation_aliases=("gelu",),
        norm_plus_one=True,
        scaled_embedding=True,
        tied_by_default=True,
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
    attention_bias: bool = False  # of q, k, v and o
    mlp_bias: bool = False
    windows: tuple = ()  # per layer: how many keys a query sees, itself included; 0 or none: all
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
        rope = _rope_parameters(path, raw)
        _check_activation(path, raw, family)
        try:
            heads = raw["num_attention_heads"]
            return cls(
                num_hidden_layers=raw["num_hidden_layers"],
                vocab_size=raw["vocab_size"],
                hidden_size=raw["hidden_size"],
                intermediate_size=raw["intermediate_size"],
                num_attention_heads=heads,
                num_key_value_heads=raw.get("num_key_value_heads") or heads,
                head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
                model_type=model_type,
                rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
                rope_theta=rope.get("rope_theta", raw.get("rope_theta", 10_000.0)),
                tie_word_embeddings=raw.get("tie_word_embeddings", family.tied_by_default),
                rope=rope if rope["rope_type"] != "default" else {},
                attention_bias=raw.get("attention_bias", False),
                mlp_bias=raw.get("mlp_bias", False),
                windows=_windows(raw, family),
                raw=raw,
            )
        except KeyError as key:
            raise ValueError(
                f"{path}: {key} is missing; it is part of every {model_type} config"
            ) from None

    @property
    def family(self):
        """-> Family, the row of FAMILIES."""
        return FAMILIES[self.model_type]

    def window(self, layer):
        """How many keys a query of the layer sees, itself included; 0: all. layer: int -> int."""
        return self.windows[layer] if self.windows else 0

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
            del keys["raw"], keys["rope"], keys["windows"]
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


def _rope_parameters(path, raw):
    """The parameters of the rotary positions, "rope_type" always among them."""
    # transformers 5 writes rope_parameters; older ones rope_theta and rope_scaling, whose type is
    # named "type" or "rope_type".
    rope = {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    rope["rope_type"] = rope_type
    if rope_type not in ROPE_KEYS:
        raise ValueError(
            f"{path}: rope type {rope_type!r} is unknown; known are {', '.join(ROPE_KEYS)}"
        )
    for key in ROPE_KEYS[rope_type]:
        if key == "original_max_position_embeddings" and not rope.get(key):
            rope[key] = raw.get("max_position_embeddings")  # as transformers does
        if rope.get(key) is None:
            raise ValueError(f'{path}: rope type {rope_type!r} needs "{key}" beside it')
    if rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1)) != 1:
        raise ValueError(
            f'{path}: "partial_rotary_factor" is not 1, which this model does not have'
        )
    return rope


def _check_activation(path, raw, family):
    activation = raw.get("hidden_activation") or raw.get("hidden_act")  # Gemma has both
    if activation not in (None, family.activation, *family.activation_aliases):
        raise ValueError(
            f'{path}: "hidden_act" {activation!r} is unknown; '
            f"known of {raw['model_type']} is {family.activation}"
        )


def _windows(raw, family):
    """The window of each layer in keys, 0 where the layer sees all; () if all layers see all."""
    has_windows = family.sliding_window == "always"
    first_windowed = 0  # the first layer with a window
    if family.sliding_window == "optional":
        has_windows = raw.get("use_sliding_window")
        first_windowed = raw.get("max_window_layers", 0)
    window = raw.get("sliding_window")
    if not (has_windows and window):
        return ()
    if raw.get("layer_types"):
        return tuple(window if kind == "sliding_attention" else 0 for kind in raw["layer_types"])
    return tuple(window if i >= first_windowed else 0 for i in range(raw["num_hidden_layers"]))
