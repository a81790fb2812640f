"""Frequencies of the rotary positions (RoPE, arXiv 2104.09864) and their scalings to longer inputs.

In go the head's size E, the base theta and the scaling of config.json; out come E / 2 frequencies
and the factor of cos and sin. A scaling slows channels down, so that more positions fit into the
angles that the model was trained on. Channels that turn often tell near positions apart and are
better left alone: llama3 and yarn slow some channels and keep others.

Left out: longrope, dynamic, and rotations of a part of the channels (partial_rotary_factor).
"""

import math

import torch

# The keys of config.json that each type of scaling needs.
ROPE_KEYS = {
    "default": (),
    "linear": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def rope_frequencies(head_dim, theta, rope):
    """How far each pair of a head's channels turns per position, and the factor of cos and sin.

    head_dim: E, int. theta: float. rope: the scaling, {"rope_type": ..., its keys}; empty for none.
    Type "none", which no config.json has: positions that do not turn at all.
    -> (radians, float32 [E / 2] on the CPU whatever the default device is; float)."""
    pairs = torch.arange(head_dim // 2, device="cpu", dtype=torch.float32)  # [E / 2]
    frequencies = theta ** (-2 * pairs / head_dim)
    rope_type = rope.get("rope_type", "default")
    if rope_type == "none":
        return torch.zeros_like(frequencies), 1.0
    if rope_type == "default":
        return frequencies, 1.0
    if rope_type == "linear":
        return linear(frequencies, rope), 1.0
    if rope_type == "llama3":
        return llama3(frequencies, rope), 1.0
    return yarn(frequencies, rope, pairs, theta), yarn_attention_factor(rope)


def linear(frequencies, rope):
    """Position interpolation (Chen et al., arXiv 2306.15595): all channels are slowed alike.

    frequencies float32 [E / 2]; rope: dict, the scaling. -> float32 [E / 2]."""
    return frequencies / rope["factor"]


def llama3(frequencies, rope):
    """As in Llama 3.1's release: slow channels are slowed further, fast ones kept, a ramp between.

    frequencies float32 [E / 2]; rope: dict, the scaling. -> float32 [E / 2]."""
    original_length = rope["original_max_position_embeddings"]
    turns = original_length * frequencies / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return _blend(frequencies, kept, rope)


def yarn(frequencies, rope, pairs, theta):
    """YaRN (arXiv 2309.00071): as llama3, but the ramp is linear in the number of the pair.

    The ramp lies between the pairs that turn beta_fast and beta_slow times in the original length.
    frequencies, pairs (the numbers of the pairs) float32 [E / 2]; rope: dict, the scaling;
    theta: float. -> float32 [E / 2]."""
    head_dim = 2 * len(pairs)

    def pair_that_turns(turns):
        positions_per_radian = rope["original_max_position_embeddings"] / (turns * 2 * math.pi)
        return head_dim * math.log(positions_per_radian) / (2 * math.log(theta))

    low = pair_that_turns(rope.get("beta_fast") or 32)
    high = pair_that_turns(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low = math.floor(low)
        high = math.ceil(high)
    low = max(low, 0)
    high = min(high, head_dim - 1)
    width = high - low if high != low else 0.001  # no division by zero, as in transformers
    kept = 1 - ((pairs - low) / width).clamp(0, 1)
    return _blend(frequencies, kept, rope)


def yarn_attention_factor(rope):
    """What YaRN multiplies cos and sin with. Without it longer inputs would flatten the softmax.

    rope: dict, the scaling. -> float:
    attention_factor of config.json, if given; with mscale and mscale_all_dim (DeepSeek) a ratio."""

    def scale(mscale):
        if rope["factor"] <= 1:
            return 1.0
        return 0.1 * mscale * math.log(rope["factor"]) + 1

    if rope.get("attention_factor"):
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return scale(rope["mscale"]) / scale(rope["mscale_all_dim"])
    return scale(1)


def _blend(frequencies, kept, rope):
    """kept [E / 2]: 1 where a channel keeps its frequency, 0 where it is divided by the factor."""
    return frequencies / rope["factor"] * (1 - kept) + frequencies * kept
