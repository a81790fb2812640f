"""config.json -> ModelConfig: what sets the families of decoders apart, as data, and the frequencies of their rotary positions."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
}
ROPES = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}  # and what they need


@dataclass
class ModelConfig:
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
    rope: dict = field(default_factory=dict)  # {"rope_type", ...} of a scaling; empty: default
    attention_bias: bool = False  # of q, k, v and o; Qwen2 has it of q, k, v
    mlp_bias: bool = False
    windows: tuple = ()  # keys that a query of each layer sees, itself included; 0 or none: all
    raw: dict = field(
        default_factory=dict, repr=False
    )  # config.json as read: written back with the weights

    @classmethod
    def from_pretrained(cls, directory) -> "ModelConfig":
        """Reads directory/config.json. Raises FileNotFoundError or ValueError naming the file, the key and what is known."""
        path = Path(directory) / "config.json"
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; give the directory of a Hugging Face checkpoint"
            )
        try:
            raw = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as e:
            raise ValueError(f"{path}: not a JSON object ({e}); copy it again") from None
        family = raw.get("model_type")
        if family not in ARCHITECTURES:
            raise ValueError(
                f'{path}: "model_type" {family!r} is unknown; known are {", ".join(ARCHITECTURES)}'
            )
        # transformers 5 writes rope_parameters, older ones rope_theta and rope_scaling {"type" or "rope_type"}
        rope = {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
        kind = rope["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
        if kind not in ROPES:
            raise ValueError(f"{path}: rope type {kind!r} is unknown; known are {', '.join(ROPES)}")
        if "original_max_position_embeddings" in ROPES[kind] and not rope.get(
            "original_max_position_embeddings"
        ):
            rope["original_max_position_embeddings"] = raw.get(
                "max_position_embeddings"
            )  # as transformers takes it
        if lacking := [key for key in ROPES[kind] if rope.get(key) is None]:
            raise ValueError(f'{path}: rope type {kind!r} needs "{lacking[0]}" beside it')
        if rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1)) != 1:
            raise ValueError(
                f'{path}: "partial_rotary_factor" is not 1, which this model does not have'
            )
        act = raw.get("hidden_activation") or raw.get("hidden_act")  # Gemma has both
        if act not in (
            ("gelu", "gelu_pytorch_tanh", None) if family == "gemma" else ("silu", None)
        ):
            raise ValueError(
                f'{path}: "hidden_act" {act!r} is unknown; known of {family} is {"gelu_pytorch_tanh" if family == "gemma" else "silu"}'
            )
        try:
            heads, layers, window = (
                raw["num_attention_heads"],
                raw["num_hidden_layers"],
                raw.get("sliding_window") or 0,
            )
            if family in ("llama", "gemma") or (
                family != "mistral" and not raw.get("use_sliding_window")
            ):
                window = 0
            types = raw.get("layer_types") or [
                "sliding_attention"
                if family == "mistral" or i >= raw.get("max_window_layers", 0)
                else "full_attention"
                for i in range(layers)
            ]
            return cls(
                vocab_size=raw["vocab_size"],
                hidden_size=raw["hidden_size"],
                num_attention_heads=heads,
                intermediate_size=raw["intermediate_size"],
                num_hidden_layers=layers,
                num_key_value_heads=raw.get("num_key_value_heads") or heads,
                head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
                model_type=family,
                rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
                tie_word_embeddings=raw.get("tie_word_embeddings", family == "gemma"),
                rope_theta=rope.get("rope_theta", raw.get("rope_theta", 10_000.0)),
                rope=rope if kind != "default" else {},
                attention_bias=raw.get("attention_bias", False),
                mlp_bias=raw.get("mlp_bias", False),
                windows=tuple(window if kind == "sliding_attention" else 0 for kind in types)
                if window
                else (),
                raw=raw,
            )
        except KeyError as e:
            raise ValueError(
                f"{path}: {e} is missing; it is part of every {family} config"
            ) from None

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0


def rope_frequencies(c: ModelConfig) -> tuple[torch.Tensor, float]:
    """Radians a position of each pair of a head's channels, [E / 2] float32, and what cos and sin are multiplied with."""
    half = torch.arange(0, c.head_dim, 2, device="cpu", dtype=torch.float32)
    plain, kind = c.rope_theta ** (-half / c.head_dim), c.rope.get("rope_type")
    if kind is None:
        return plain, 1.0
    scaled = plain / c.rope["factor"]
    if kind == "linear":  # Chen et al., arXiv 2306.15595
        return scaled, 1.0
    if kind == "llama3":  # long waves scaled, short ones not, a ramp between (Llama 3.1's release)
        turns = c.rope["original_max_position_embeddings"] * plain / (2 * math.pi)
        low, high = c.rope["low_freq_factor"], c.rope["high_freq_factor"]
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return scaled * (1 - keep) + plain * keep, 1.0

    # YaRN, arXiv 2309.00071: the channels that turn beta_slow to beta_fast times in the original length are the ramp
    def channel(turns):
        return (
            c.head_dim
            * math.log(c.rope["original_max_position_embeddings"] / (turns * 2 * math.pi))
            / (2 * math.log(c.rope_theta))
        )

    low, high = channel(c.rope.get("beta_fast") or 32), channel(c.rope.get("beta_slow") or 1)
    if c.rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, c.head_dim - 1)
    keep = 1 - ((half / 2 - low) / (high - low if high != low else 0.001)).clamp(0, 1)
    scale = lambda m: 0.1 * m * math.log(c.rope["factor"]) + 1 if c.rope["factor"] > 1 else 1.0
    mscale, all_dim = c.rope.get("mscale"), c.rope.get("mscale_all_dim")
    attention = c.rope.get("attention_factor") or (
        scale(mscale) / scale(all_dim) if mscale and all_dim else scale(1)
    )
    return scaled * (1 - keep) + plain * keep, float(attention)
