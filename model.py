"""A decoder language model in the Hugging Face layout: config.json + safetensors -> Transformer, and back.

Covers the dense families with RMSNorm, rotary positions, grouped-query attention and SwiGLU: Llama (2, 3 without rope
scaling) and Qwen3 (per-head RMSNorm of q and k before RoPE; head_dim is a key of its own). Module names are the
checkpoint's tensor names, so the state dict *is* the file.

Shapes: B sequences, S positions, T tokens of any layout, D hidden_size, H heads, K key-value heads, E head_dim,
V vocabulary. Attention is data: forward takes a function attend(layer, q [..., H, E], k [..., K, E], v [..., K, E])
-> [..., H, E], so that a plain causal batch, a packed group (groups.py) and cached decoding (rollout.py) are one model.
Left out: other families, rope scaling, sharded loading on the fly, FSDP.
"""
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kernels import linear_logprob, matmul32

FAMILIES = ("llama", "qwen3")


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
        if raw.get("model_type") not in FAMILIES:
            raise ValueError(f'{path}: "model_type" {raw.get("model_type")!r} is unknown; known are {", ".join(FAMILIES)}')
        # transformers 5 writes rope_parameters, older ones rope_theta and rope_scaling {"type" or "rope_type"}
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ValueError(f'{path}: rope type {kind!r} is unknown; known is "default"')
        for key in ("attention_bias", "mlp_bias", "use_sliding_window"):
            if raw.get(key):
                raise ValueError(f'{path}: "{key}" is true, which this model does not have')
        if raw.get("hidden_act", "silu") != "silu":
            raise ValueError(f'{path}: "hidden_act" {raw["hidden_act"]!r} is unknown; known is "silu"')
        try:
            heads = raw["num_attention_heads"]
            return cls(
                vocab_size=raw["vocab_size"], hidden_size=raw["hidden_size"], num_attention_heads=heads,
                intermediate_size=raw["intermediate_size"], num_hidden_layers=raw["num_hidden_layers"],
                num_key_value_heads=raw.get("num_key_value_heads") or heads,
                head_dim=raw.get("head_dim") or raw["hidden_size"] // heads, model_type=raw["model_type"],
                rms_norm_eps=raw.get("rms_norm_eps", 1e-6), tie_word_embeddings=raw.get("tie_word_embeddings", False),
                rope_theta=rope.get("rope_theta", raw.get("rope_theta", 10_000.0)), raw=raw)
        except KeyError as e:
            raise ValueError(f"{path}: {e} is missing; it is part of every {raw['model_type']} config") from None


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        x32 = x.float()                                                              # as the checkpoints were trained
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def _rope(x, cos, sin):
    """x [..., H, E] rotated by position; the halves are the pairs (Hugging Face's layout). cos, sin [..., 1, E / 2]."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c: ModelConfig, layer: int):
        super().__init__()
        self.layer, self.head_dim = layer, c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, c.num_attention_heads * c.head_dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, bias=False)
        self.o_proj = nn.Linear(c.num_attention_heads * c.head_dim, c.hidden_size, bias=False)
        if c.model_type == "qwen3":
            self.q_norm = RMSNorm(c.head_dim, c.rms_norm_eps)
            self.k_norm = RMSNorm(c.head_dim, c.rms_norm_eps)

    def forward(self, x, cos, sin, attend):
        q, k, v = (p(x).unflatten(-1, (-1, self.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)                                    # before RoPE
        y = attend(self.layer, _rope(q, cos, sin), _rope(k, cos, sin), v)            # [..., H, E]
        return self.o_proj(y.flatten(-2))


class MLP(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c: ModelConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c, layer)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
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
        self.model.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.num_hidden_layers) if deep else 0.02)

    def forward(self, tokens, positions, attend, rows=None, targets=None, temperature=1.0, entropy=False):
        """tokens, positions int64 of one shape [...]. Without targets: logits [..., V] float32 (of `rows` only, if given).

        With rows, targets int64 [N] into a flat tokens [T]: log pi(targets[i] | row rows[i]), float32 [N]
        (entropy=True: and the entropy there, [N]). The head runs in here because under FSDP only the module that owns a
        weight may touch it."""
        x = self.model.embed_tokens(tokens)
        half = torch.arange(0, self.config.head_dim, 2, device=tokens.device, dtype=torch.float32)
        angle = positions[..., None, None].float() * self.config.rope_theta ** (-half / self.config.head_dim)
        cos, sin = angle.cos(), angle.sin()                                          # [..., 1, E / 2]
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
        return self(tokens, positions, causal)

    @property
    def device(self):
        return self.lm_head.weight.device


def sdpa(q, k, v, **kwargs):
    """F.scaled_dot_product_attention on [B, S, heads, E] (heads last but one, as the projections make them)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1], **kwargs).transpose(1, 2)


def causal(layer, q, k, v):
    return sdpa(q, k, v, is_causal=True)


class KVCache:
    """Keys and values of B sequences; the slot of a token is its position, so that ragged prompts need no left padding.

    A right-padded prompt leaves rubbish in the slots behind its end: they lie behind the mask until the sequence's own
    tokens overwrite them. `positions` [B, S] of the tokens being fed must be set before each forward."""

    def __init__(self, config: ModelConfig, batch: int, capacity: int, device, dtype):
        shape = (batch, capacity, config.num_key_value_heads, config.head_dim)
        self.layers = [[torch.zeros(shape, device=device, dtype=dtype) for _ in "kv"]
                       for _ in range(config.num_hidden_layers)]

    def feed(self, positions):
        """positions [B, S] of the next tokens; -> the same, for forward."""
        self.positions, self.end = positions, int(positions.max()) + 1
        slots = torch.arange(self.end, device=positions.device)
        self.mask = (slots <= positions[..., None])[:, None]                         # [B, 1, S, end]
        return positions

    def __call__(self, layer, q, k, v):
        keys, values = self.layers[layer]
        row = torch.arange(len(k), device=k.device)[:, None]
        keys[row, self.positions], values[row, self.positions] = k, v
        return sdpa(q, keys[:, :self.end], values[:, :self.end], attn_mask=self.mask)

    def select(self, rows):
        """Keeps (or repeats) the sequences `rows` [B'] int64."""
        for pair in self.layers:                                                     # one layer is held twice, not all
            pair[:] = [t[rows] for t in pair]


# ---------------------------------------------------------------------------------------------- files

def load_model(directory, device="cpu", dtype=torch.float32) -> Transformer:
    """A Hugging Face checkpoint (config.json, model.safetensors or its shards with their index) as a Transformer.

    Raises FileNotFoundError or ValueError naming the file and the tensor."""
    directory = Path(directory)
    config = ModelConfig.from_pretrained(directory)
    index = directory / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    with torch.device("meta"):
        model = Transformer(config)
    wanted, state = dict(model.named_parameters()), {}       # a tied head appears once, as the embedding
    for name in names:
        path = directory / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; the checkpoint is incomplete")
        try:
            tensors = load_file(path, device=str(device))
        except SafetensorError as e:
            raise ValueError(f"{path}: not a whole safetensors file ({e}); copy it again") from None
        for key, tensor in tensors.items():
            if key == "lm_head.weight" and config.tie_word_embeddings:
                continue
            if key not in wanted:
                raise ValueError(f"{path}: tensor {key} does not belong to a {config.model_type} with this config.json")
            if tensor.shape != wanted[key].shape:
                raise ValueError(f"{path}: tensor {key} is {list(tensor.shape)}, config.json asks for {list(wanted[key].shape)}")
            state[key] = tensor.to(dtype)
    if missing := sorted(set(wanted) - set(state)):
        raise ValueError(f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.requires_grad_(True)


def save_model(model: Transformer, directory) -> None:
    """Writes config.json and model.safetensors with Hugging Face names; each file appears whole or not at all."""
    directory, config = Path(directory), model.config
    directory.mkdir(parents=True, exist_ok=True)
    raw = config.raw or {
        "architectures": [{"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[config.model_type]],
        "hidden_act": "silu", "attention_bias": False,
        **{k: v for k, v in vars(config).items() if k != "raw"}}
    dtype = str(model.lm_head.weight.dtype).removeprefix("torch.")
    state = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    save_file(state, directory / "model.safetensors.tmp", metadata={"format": "pt"})
    os.replace(directory / "model.safetensors.tmp", directory / "model.safetensors")
    (directory / "config.json.tmp").write_text(json.dumps({**raw, "torch_dtype": dtype, "dtype": dtype}, indent=2) + "\n")
    os.replace(directory / "config.json.tmp", directory / "config.json")
