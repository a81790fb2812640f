"""A decoder language model in the Hugging Face layout: config.json + safetensors -> Transformer, and back.

Covers the dense families with RMSNorm, rotary positions, grouped-query attention and a gated MLP; what sets them apart is
data in ModelConfig: Llama 2 and 3, CodeLlama and DeepSeek-Coder (llama), Mistral (sliding window), Qwen2 and Qwen2.5-Coder
(biases of q, k, v), Qwen3 (RMSNorm of q and k before RoPE; head_dim is a key of its own), Gemma (norms times 1 + w,
scaled embeddings, GELU). Module names are the checkpoint's tensor names, so the state dict *is* the file.

Shapes: B sequences, S positions, T tokens of any layout, D hidden_size, H heads, K key-value heads, E head_dim,
V vocabulary. Attention is data: forward takes a function attend(layer, q [..., H, E], k [..., K, E], v [..., K, E])
-> [..., H, E], so that a plain causal batch, a packed group (groups.py) and cached decoding (rollout.py) are one model.
Left out: other families, other rope scalings, FSDP.
"""
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from kernels import linear_logprob, matmul32

ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
                 "qwen3": "Qwen3ForCausalLM", "gemma": "GemmaForCausalLM"}
ROPES = {"default": (), "linear": ("factor",), "yarn": ("factor", "original_max_position_embeddings"),
         "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")}  # and what they need


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
    rope: dict = field(default_factory=dict)                 # {"rope_type", ...} of a scaling; empty: default
    attention_bias: bool = False                             # of q, k, v and o; Qwen2 has it of q, k, v
    mlp_bias: bool = False
    windows: tuple = ()                                      # keys that a query of each layer sees, itself included; 0 or none: all
    raw: dict = field(default_factory=dict, repr=False)      # config.json as read: written back with the weights

    @classmethod
    def from_pretrained(cls, directory) -> "ModelConfig":
        """Reads directory/config.json. Raises FileNotFoundError or ValueError naming the file, the key and what is known."""
        path = Path(directory) / "config.json"
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; give the directory of a Hugging Face checkpoint")
        try:
            raw = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as e:
            raise ValueError(f"{path}: not a JSON object ({e}); copy it again") from None
        family = raw.get("model_type")
        if family not in ARCHITECTURES:
            raise ValueError(f'{path}: "model_type" {family!r} is unknown; known are {", ".join(ARCHITECTURES)}')
        # transformers 5 writes rope_parameters, older ones rope_theta and rope_scaling {"type" or "rope_type"}
        rope = {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
        kind = rope["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
        if kind not in ROPES:
            raise ValueError(f'{path}: rope type {kind!r} is unknown; known are {", ".join(ROPES)}')
        if "original_max_position_embeddings" in ROPES[kind] and not rope.get("original_max_position_embeddings"):
            rope["original_max_position_embeddings"] = raw.get("max_position_embeddings")    # as transformers takes it
        if lacking := [key for key in ROPES[kind] if rope.get(key) is None]:
            raise ValueError(f'{path}: rope type {kind!r} needs "{lacking[0]}" beside it')
        if rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1)) != 1:
            raise ValueError(f'{path}: "partial_rotary_factor" is not 1, which this model does not have')
        act = raw.get("hidden_activation") or raw.get("hidden_act")                          # Gemma has both
        if act not in (("gelu", "gelu_pytorch_tanh", None) if family == "gemma" else ("silu", None)):
            raise ValueError(f'{path}: "hidden_act" {act!r} is unknown; known of {family} is {"gelu_pytorch_tanh" if family == "gemma" else "silu"}')
        try:
            heads, layers, window = raw["num_attention_heads"], raw["num_hidden_layers"], raw.get("sliding_window") or 0
            if family in ("llama", "gemma") or (family != "mistral" and not raw.get("use_sliding_window")):
                window = 0
            types = raw.get("layer_types") or ["sliding_attention" if family == "mistral" or i >= raw.get("max_window_layers", 0)
                                               else "full_attention" for i in range(layers)]
            return cls(
                vocab_size=raw["vocab_size"], hidden_size=raw["hidden_size"], num_attention_heads=heads,
                intermediate_size=raw["intermediate_size"], num_hidden_layers=layers,
                num_key_value_heads=raw.get("num_key_value_heads") or heads,
                head_dim=raw.get("head_dim") or raw["hidden_size"] // heads, model_type=family,
                rms_norm_eps=raw.get("rms_norm_eps", 1e-6), tie_word_embeddings=raw.get("tie_word_embeddings", family == "gemma"),
                rope_theta=rope.get("rope_theta", raw.get("rope_theta", 10_000.0)), rope=rope if kind != "default" else {},
                attention_bias=raw.get("attention_bias", False), mlp_bias=raw.get("mlp_bias", False),
                windows=tuple(window if kind == "sliding_attention" else 0 for kind in types) if window else (), raw=raw)
        except KeyError as e:
            raise ValueError(f"{path}: {e} is missing; it is part of every {family} config") from None

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0


def rope_frequencies(c: ModelConfig) -> tuple[torch.Tensor, float]:
    """Radians a position of each pair of a head's channels, [E / 2] float32, and what cos and sin are multiplied with."""
    half = torch.arange(0, c.head_dim, 2, device="cpu", dtype=torch.float32)
    plain, kind = c.rope_theta ** (-half / c.head_dim), c.rope.get("rope_type")
    if kind is None:
        return plain, 1.0
    scaled = plain / c.rope["factor"]
    if kind == "linear":                                     # Chen et al., arXiv 2306.15595
        return scaled, 1.0
    if kind == "llama3":                                     # long waves scaled, short ones not, a ramp between (Llama 3.1's release)
        turns = c.rope["original_max_position_embeddings"] * plain / (2 * math.pi)
        low, high = c.rope["low_freq_factor"], c.rope["high_freq_factor"]
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return scaled * (1 - keep) + plain * keep, 1.0
    # YaRN, arXiv 2309.00071: the channels that turn beta_slow to beta_fast times in the original length are the ramp
    def channel(turns):
        return c.head_dim * math.log(c.rope["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(c.rope_theta))
    low, high = channel(c.rope.get("beta_fast") or 32), channel(c.rope.get("beta_slow") or 1)
    if c.rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, c.head_dim - 1)
    keep = 1 - ((half / 2 - low) / (high - low if high != low else 0.001)).clamp(0, 1)
    scale = lambda m: 0.1 * m * math.log(c.rope["factor"]) + 1 if c.rope["factor"] > 1 else 1.0
    mscale, all_dim = c.rope.get("mscale"), c.rope.get("mscale_all_dim")
    attention = c.rope.get("attention_factor") or (scale(mscale) / scale(all_dim) if mscale and all_dim else scale(1))
    return scaled * (1 - keep) + plain * keep, float(attention)


class RMSNorm(nn.Module):
    def __init__(self, c: ModelConfig, size: int):
        super().__init__()
        self.eps, self.gemma = c.rms_norm_eps, c.model_type == "gemma"
        self.weight = nn.Parameter(torch.zeros(size) if self.gemma else torch.ones(size))

    def forward(self, x):
        x32 = x.float()                                                              # as the checkpoints were trained
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (x32 * (1 + self.weight.float())).to(x.dtype) if self.gemma else x32.to(x.dtype) * self.weight


def _rope(x, cos, sin):
    """x [..., H, E] rotated by position; the halves are the pairs (Hugging Face's layout). cos, sin [..., 1, E / 2]."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim = layer, c.head_dim
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        bias = c.attention_bias or c.model_type == "qwen2"
        self.q_proj = nn.Linear(c.hidden_size, q, bias=bias)
        self.k_proj = nn.Linear(c.hidden_size, kv, bias=bias)
        self.v_proj = nn.Linear(c.hidden_size, kv, bias=bias)
        self.o_proj = nn.Linear(q, c.hidden_size, bias=c.attention_bias and c.model_type != "qwen2")
        if c.model_type == "qwen3":
            self.q_norm, self.k_norm = RMSNorm(c, c.head_dim), RMSNorm(c, c.head_dim)

    def forward(self, x, cos, sin, attend):
        q, k, v = (p(x).unflatten(-1, (-1, self.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)                                    # before RoPE
        y = attend(self.layer, _rope(q, cos, sin), _rope(k, cos, sin), v)            # [..., H, E]
        return self.o_proj(y.flatten(-2))


class MLP(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.mlp_bias)
        self.gelu = c.model_type == "gemma"

    def forward(self, x):
        gate = self.gate_proj(x)
        return self.down_proj((F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c: ModelConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(c, c.hidden_size)
        self.self_attn = Attention(c, layer)
        self.post_attention_layernorm = RMSNorm(c, c.hidden_size)
        self.mlp = MLP(c)

    def forward(self, x, cos, sin, attend):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    """The decoder. Built with fresh weights (normal, 0.02; residual outputs scaled by depth as in GPT-2)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = nn.Module()                                                     # "model." as in the checkpoints
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.model.norm = RMSNorm(config, config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        frequencies, self.rope_scale = rope_frequencies(config)
        self.register_buffer("frequencies", frequencies, persistent=False)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.num_hidden_layers) if deep else 0.02)

    def forward(self, tokens, positions, attend, rows=None, targets=None, temperature=1.0, entropy=False):
        """tokens, positions int64 of one shape [...]. Without targets: logits [..., V] float32 (of `rows` only, if given).

        With rows, targets int64 [N] into a flat tokens [T]: log pi(targets[i] | row rows[i]), float32 [N]
        (entropy=True: and the entropy there, [N]). The head runs in here because under FSDP only the module that owns a
        weight may touch it."""
        x = self.model.embed_tokens(tokens)
        if self.config.model_type == "gemma":
            x = x * torch.tensor(self.config.hidden_size ** 0.5, dtype=x.dtype)      # rounded like the activations
        angle = positions[..., None, None].float() * self.frequencies
        cos, sin = angle.cos() * self.rope_scale, angle.sin() * self.rope_scale      # [..., 1, E / 2] float32
        for block in self.model.layers:
            x = block(x, cos, sin, attend)
        if rows is not None:                                 # x[rows] has a backward whose bits vary from run to run on a CPU
            x = F.embedding(rows, x) if x.dim() == 2 else x[rows]
        x = self.model.norm(x)
        if targets is not None:
            return linear_logprob(x, self.lm_head.weight, targets, temperature, entropy)
        return matmul32(x.flatten(0, -2), self.lm_head.weight.T).unflatten(0, x.shape[:-1])

    def logits(self, tokens):
        """tokens [B, S] int64 -> logits [B, S, V] float32, plain causal."""
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        return self(tokens, positions, causal(self.config))

    @property
    def device(self):
        return self.lm_head.weight.device


def sdpa(q, k, v, **kwargs):
    """F.scaled_dot_product_attention on [B, S, heads, E] (heads last but one, as the projections make them)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1], **kwargs).transpose(1, 2)


def seen(queries, keys, window: int = 0):
    """Which positions `keys` a query at each of the positions `queries` sees: bool [..., queries, keys]."""
    distance = queries[..., None] - keys
    return (distance >= 0) & (distance < window) if window else distance >= 0


def causal(config: ModelConfig):
    """attend of a plain causal batch."""
    def attend(layer, q, k, v):                              # [B, S, H, E]
        if (window := config.window(layer)) and q.shape[1] > window:
            positions = torch.arange(q.shape[1], device=q.device)
            return sdpa(q, k, v, attn_mask=seen(positions, positions, window))
        return sdpa(q, k, v, is_causal=True)
    return attend


class KVCache:
    """Keys and values of B sequences; the slot of a token is its position, so that ragged prompts need no left padding.

    A right-padded prompt leaves rubbish in the slots behind its end: they lie behind the mask until the sequence's own
    tokens overwrite them. `positions` [B, S] of the tokens being fed must be set before each forward."""

    def __init__(self, config: ModelConfig, batch: int, capacity: int, device, dtype):
        self.config, shape = config, (batch, capacity, config.num_key_value_heads, config.head_dim)
        self.layers = [[torch.zeros(shape, device=device, dtype=dtype) for _ in "kv"]
                       for _ in range(config.num_hidden_layers)]

    def feed(self, positions):
        """positions [B, S] of the next tokens; -> the same, for forward."""
        self.positions, self.end = positions, int(positions.max()) + 1
        slots = torch.arange(self.end, device=positions.device)
        windows = {self.config.window(layer) for layer in range(len(self.layers))}
        self.masks = {window: seen(positions, slots, window)[:, None] for window in windows}         # [B, 1, S, end]
        return positions

    def __call__(self, layer, q, k, v):
        keys, values = self.layers[layer]
        row = torch.arange(len(k), device=k.device)[:, None]
        keys[row, self.positions], values[row, self.positions] = k, v
        return sdpa(q, keys[:, :self.end], values[:, :self.end], attn_mask=self.masks[self.config.window(layer)])

    def select(self, rows):
        """Keeps (or repeats) the sequences `rows` [B'] int64."""
        for pair in self.layers:                                                     # one layer is held twice, not all
            pair[:] = [t[rows] for t in pair]


# ---------------------------------------------------------------------------------------------- files

INDEX = "model.safetensors.index.json"


def load_model(directory, device="cpu", dtype=torch.float32) -> Transformer:
    """A Hugging Face checkpoint (config.json, model.safetensors or the shards of its index) as a Transformer on `device`.

    Tensor by tensor from the mapped files, so that beside the model only one tensor is in memory. Raises
    FileNotFoundError or ValueError naming the file and the tensor, also for a weight that is not finite."""
    directory = Path(directory)
    config, names = ModelConfig.from_pretrained(directory), ["model.safetensors"]
    if (directory / INDEX).exists():
        try:
            names = sorted(set(json.loads((directory / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"{directory / INDEX}: not an index of shards ({e!r}); copy it again") from None
    with torch.device("meta"):
        model = Transformer(config)
    wanted, state = dict(model.named_parameters()), {}       # a tied head appears once, as the embedding
    for name in names:
        path = directory / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; the checkpoint is incomplete")
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                for key in file.keys():
                    if (key == "lm_head.weight" and config.tie_word_embeddings) or key.endswith("rotary_emb.inv_freq"):
                        continue                             # the embedding once more; what old checkpoints carry along
                    state[key] = _checked(path, key, file.get_tensor(key), wanted, config).to(dtype)
        except (SafetensorError, OSError) as e:
            raise ValueError(f"{path}: not a whole safetensors file ({e}); copy it again") from None
    if missing := sorted(set(wanted) - set(state)):
        raise ValueError(f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.frequencies = model.frequencies.to(device)
    return model.requires_grad_(True)


def _checked(path, key, tensor, wanted, config):
    if key not in wanted:
        raise ValueError(f"{path}: tensor {key} does not belong to a {config.model_type} with this config.json")
    if tensor.shape != wanted[key].shape:
        raise ValueError(f"{path}: tensor {key} is {list(tensor.shape)}, config.json asks for {list(wanted[key].shape)}")
    if not tensor.sum(dtype=torch.float32).isfinite():
        raise ValueError(f"{path}: tensor {key} holds NaN or infinity; the checkpoint is broken")
    return tensor


def save_model(model: Transformer, directory, shard_bytes: int = 5_000_000_000) -> None:
    """Writes config.json and the weights with Hugging Face names, in shards of at most shard_bytes (a larger tensor goes
    alone); each file appears whole or not at all, and what an earlier save left over goes last."""
    directory, config = Path(directory), model.config
    directory.mkdir(parents=True, exist_ok=True)
    raw = config.raw or {
        "architectures": [ARCHITECTURES[config.model_type]], "hidden_act": "gelu_pytorch_tanh" if config.model_type == "gemma" else "silu",
        **{k: v for k, v in vars(config).items() if k not in ("raw", "rope", "windows")}, **({"rope_scaling": config.rope} if config.rope else {}),
        **({"sliding_window": max(config.windows)} if config.windows else {})}
    dtype, shards, room = str(model.lm_head.weight.dtype).removeprefix("torch."), [], 0
    for name, p in model.named_parameters():
        size = p.numel() * p.element_size()
        if size > room:
            shards.append([])
            room = max(shard_bytes, size)
        shards[-1].append((name, p))
        room -= size
    files = [f"model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)] if len(shards) > 1 else ["model.safetensors"]
    for file, shard in zip(files, shards):
        save_file({name: p.detach().cpu().contiguous() for name, p in shard}, directory / f"{file}.tmp", metadata={"format": "pt"})
    texts = {"config.json": {**raw, "torch_dtype": dtype, "dtype": dtype}}
    if len(shards) > 1:
        texts[INDEX] = {"metadata": {"total_size": sum(p.numel() * p.element_size() for p in model.parameters())},
                        "weight_map": {name: file for file, shard in zip(files, shards) for name, _ in shard}}
    for name, value in texts.items():
        (directory / f"{name}.tmp").write_text(json.dumps(value, indent=2) + "\n")
    for name in (*files, *texts):
        os.replace(directory / f"{name}.tmp", directory / name)
    for old in directory.glob("model*.safetensors*"):
        if old.name not in (*files, *texts):
            old.unlink()
