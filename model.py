"""A decoder language model in the Hugging Face layout: config.json + safetensors -> Transformer, and back.

Covers the dense families with RMSNorm, rotary positions, grouped-query attention and a gated MLP; what sets them apart is
data in ModelConfig: Llama 2 and 3, CodeLlama and DeepSeek-Coder (llama), Mistral (sliding window), Qwen2 and Qwen2.5-Coder
(biases of q, k, v), Qwen3 (RMSNorm of q and k before RoPE; head_dim is a key of its own), Gemma (norms times 1 + w,
scaled embeddings, GELU). Module names are the checkpoint's tensor names, so the state dict *is* the file.

Shapes: B sequences, S positions, T tokens of any layout, D hidden_size, H heads, K key-value heads, E head_dim,
V vocabulary. Attention is data: forward takes a function attend(layer, q [..., H, E], k [..., K, E], v [..., K, E])
-> [..., H, E], so that a plain causal batch, a packed group (groups.py) and cached decoding (rollout.py) are one model.
Under FSDP (ranks.py) parameters are sharded, float32, and gathered in the compute dtype. Left out: other families and rope scalings.
"""

import json
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from distributed import ranks, sharding
from hf.families import ARCHITECTURES, ModelConfig, rope_frequencies
from kernels import linear_logprob, matmul32


class RMSNorm(nn.Module):
    def __init__(self, c: ModelConfig, size: int):
        super().__init__()
        self.eps, self.gemma = c.rms_norm_eps, c.model_type == "gemma"
        self.weight = nn.Parameter(torch.zeros(size) if self.gemma else torch.ones(size))

    def forward(self, x):
        x32 = x.float()  # as the checkpoints were trained
        x32 = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return (
            (x32 * (1 + self.weight.float())).to(x.dtype)
            if self.gemma
            else x32.to(x.dtype) * self.weight
        )


def _rope(x, cos, sin):
    """x [..., H, E] rotated by position; the halves are the pairs (Hugging Face's layout). cos, sin [..., 1, E / 2]."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.head_dim = c.head_dim
        q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
        bias = c.attention_bias or c.model_type == "qwen2"
        self.q_proj = nn.Linear(c.hidden_size, q, bias=bias)
        self.k_proj = nn.Linear(c.hidden_size, kv, bias=bias)
        self.v_proj = nn.Linear(c.hidden_size, kv, bias=bias)
        self.o_proj = nn.Linear(q, c.hidden_size, bias=c.attention_bias and c.model_type != "qwen2")
        if c.model_type == "qwen3":
            self.q_norm, self.k_norm = RMSNorm(c, c.head_dim), RMSNorm(c, c.head_dim)

    def project(self, x, cos, sin):
        q, k, v = (
            p(x).unflatten(-1, (-1, self.head_dim)) for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)  # before RoPE
        return _rope(q, cos, sin), _rope(k, cos, sin), v  # [..., H, E], twice [..., K, E]


class MLP(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=c.mlp_bias)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=c.mlp_bias)
        self.gelu = c.model_type == "gemma"

    def forward(self, x):
        gate = self.gate_proj(x)
        return self.down_proj(
            (F.gelu(gate, approximate="tanh") if self.gelu else F.silu(gate)) * self.up_proj(x)
        )


class Block(nn.Module):
    recompute = False  # activations: again in the backward, not kept

    def __init__(self, c: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.input_layernorm = RMSNorm(c, c.hidden_size)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c, c.hidden_size)
        self.mlp = MLP(c)

    def forward(self, *args):
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._run, *args, use_reentrant=False, preserve_rng_state=False)
        return self._run(*args)

    def _run(self, x, cos, sin, attend):
        return self.after(x, attend(self.layer, *self.before(x, cos, sin)))

    # all but attention, whose shapes and closures change with every batch: what torch.compile is given (--engine compile)
    def before(self, x, cos, sin):
        return self.self_attn.project(self.input_layernorm(x), cos, sin)

    def after(self, x, y):  # y [..., H, E]
        x = x + self.self_attn.o_proj(y.flatten(-2))
        return x + self.mlp(self.post_attention_layernorm(x))


class Head(nn.Linear):
    """Hidden rows [N, D] -> logits [N, V] float32; with targets int64 [N]: log pi(target), float32 [N] (entropy=True: and the
    entropy there, [N]). In a forward of its own, because FSDP makes a weight whole only in a forward of the module that owns it."""

    def forward(self, x, targets=None, temperature=1.0, entropy=False):
        if targets is not None:
            return linear_logprob(x, self.weight, targets, temperature, entropy)
        return matmul32(x.flatten(0, -2), self.weight.T).unflatten(0, x.shape[:-1])


class Transformer(nn.Module):
    """The decoder. Built with fresh weights (normal, 0.02; residual outputs scaled by depth as in GPT-2)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = nn.Module()  # "model." as in the checkpoints
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.model.norm = RMSNorm(config, config.hidden_size)
        self.lm_head = Head(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        frequencies, self.rope_scale = rope_frequencies(config)
        self.register_buffer("frequencies", frequencies, persistent=False)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(
                    p, std=0.02 / math.sqrt(2 * config.num_hidden_layers) if deep else 0.02
                )

    def forward(
        self, tokens, positions, attend, rows=None, targets=None, temperature=1.0, entropy=False
    ):
        """tokens, positions int64 of one shape [...]. Without targets: logits [..., V] float32 (of `rows` only, if given).

        With rows, targets int64 [N] into a flat tokens [T]: what Head gives, targets[i] predicted by row rows[i]."""
        x = self.model.embed_tokens(tokens)
        if self.config.model_type == "gemma":
            x = x * torch.tensor(
                self.config.hidden_size**0.5, dtype=x.dtype
            )  # rounded like the activations
        angle = positions[..., None, None].float() * self.frequencies
        cos, sin = (
            angle.cos() * self.rope_scale,
            angle.sin() * self.rope_scale,
        )  # [..., 1, E / 2] float32
        for block in self.model.layers:
            x = block(x, cos, sin, attend)
        if rows is not None:  # x[rows] has a backward whose bits vary from run to run on a CPU
            x = F.embedding(rows, x) if x.dim() == 2 else x[rows]
        return self.lm_head(self.model.norm(x), targets, temperature, entropy)

    def logits(self, tokens):
        """tokens [B, S] int64 -> logits [B, S, V] float32, plain causal."""
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        return self(tokens, positions, causal_attention(self.config))

    def _take(self, state, device):
        """A model built on the meta device gets its tensors. state: by the names of named_parameters()."""
        tied = self.config.tie_word_embeddings
        self.load_state_dict(
            {**state, "lm_head.weight": state["model.embed_tokens.weight"]} if tied else state,
            assign=True,
        )
        if tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.frequencies = rope_frequencies(self.config)[0].to(device)
        return self.requires_grad_(True)

    @property
    def device(self):
        return self.frequencies.device  # computes here; offloaded weights lie elsewhere

    @property
    def dtype(self):
        return getattr(
            self, "compute_dtype", self.lm_head.weight.dtype
        )  # sharded weights are float32


def sdpa(q, k, v, **kwargs):
    """F.scaled_dot_product_attention on [B, S, heads, E] (heads last but one, as the projections make them)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(
        q, k, v, enable_gqa=q.shape[1] != k.shape[1], **kwargs
    ).transpose(1, 2)


def causal_mask(queries, keys, window: int = 0):
    """Which positions `keys` a query at each of the positions `queries` sees: bool [..., queries, keys]."""
    distance = queries[..., None] - keys
    return (distance >= 0) & (distance < window) if window else distance >= 0


def causal_attention(config: ModelConfig):
    """attend of a plain causal batch."""

    def attend(layer, q, k, v):  # [B, S, H, E]
        if (window := config.window(layer)) and q.shape[1] > window:
            positions = torch.arange(q.shape[1], device=q.device)
            return sdpa(q, k, v, attn_mask=causal_mask(positions, positions, window))
        return sdpa(q, k, v, is_causal=True)

    return attend


# ---------------------------------------------------------------------------------------------- files

INDEX = "model.safetensors.index.json"


def load_model(
    directory, device="cpu", dtype=torch.float32, compute_dtype=None, offload=False
) -> Transformer:
    """A Hugging Face checkpoint (config.json, model.safetensors or the shards of its index) as a Transformer on `device`.

    Tensor by tensor from the mapped files, so that beside the model only one tensor is in memory. compute_dtype: sharded over
    all ranks (sharding.shard_model; every rank reads its rows alone), float32, gathered in that dtype; offload: kept on the CPU.
    Raises FileNotFoundError or ValueError naming the file and the tensor, also for a weight that is not finite."""
    directory = Path(directory)
    config, names = ModelConfig.from_pretrained(directory), ["model.safetensors"]
    if (directory / INDEX).exists():
        try:
            names = sorted(set(json.loads((directory / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(
                f"{directory / INDEX}: not an index of shards ({e!r}); copy it again"
            ) from None
    with torch.device("meta"):
        model = Transformer(config)
    if compute_dtype:
        sharding.shard_model(model, compute_dtype, offload)
        model.compute_dtype = compute_dtype
    wanted, state = dict(model.named_parameters()), {}  # a tied head appears once, as the embedding
    for name in names:
        path = directory / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; the checkpoint is incomplete")
        try:
            with safe_open(path, framework="pt", device="cpu" if offload else str(device)) as file:
                for key in file.keys():
                    if (key == "lm_head.weight" and config.tie_word_embeddings) or key.endswith(
                        "rotary_emb.inv_freq"
                    ):
                        continue  # the embedding once more; what old checkpoints carry along
                    state[key] = _read(path, key, file.get_slice(key), wanted, config, dtype)
        except (SafetensorError, OSError) as e:
            raise ValueError(f"{path}: not a whole safetensors file ({e}); copy it again") from None
    if missing := sorted(set(wanted) - set(state)):
        raise ValueError(
            f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]}"
        )
    return model._take(state, device)


def _read(path, key, data, wanted, config, dtype):
    """This rank's rows of a tensor of the file: all of them, unless the model is sharded."""
    if key not in wanted:
        raise ValueError(
            f"{path}: tensor {key} does not belong to a {config.model_type} with this config.json"
        )
    if list(data.get_shape()) != list(wanted[key].shape):
        raise ValueError(
            f"{path}: tensor {key} is {data.get_shape()}, config.json asks for {list(wanted[key].shape)}"
        )
    tensor = data[sharding.local_rows(wanted[key])].to(dtype)
    if not tensor.sum(dtype=torch.float32).isfinite():
        raise ValueError(f"{path}: tensor {key} holds NaN or infinity; the checkpoint is broken")
    return sharding.tensor_from_local_rows(tensor, wanted[key])


@torch.no_grad()
def unsharded_copy(model: Transformer) -> Transformer:
    """The policy to sample from: of a sharded model a copy that is whole on every rank, in the compute dtype, with no collective
    inside the decode loop (all ranks must call); a model that is not sharded itself."""
    if not sharding.is_sharded():
        return model
    with torch.device("meta"):
        copy = Transformer(model.config)
    return copy._take(
        {
            name: sharding.unshard(p.to(model.device), model.dtype)
            for name, p in model.named_parameters()
        },
        model.device,
    )


def save_model(model: Transformer, directory, shard_bytes: int = 5_000_000_000) -> None:
    """Writes config.json and the weights with Hugging Face names, in shards of at most shard_bytes (a larger tensor goes
    alone); each file appears whole or not at all, and what an earlier save left over goes last. All ranks must call where the
    model is sharded, and share the writing."""
    directory, config = Path(directory), model.config
    directory.mkdir(parents=True, exist_ok=True)
    raw = config.raw or {
        "architectures": [ARCHITECTURES[config.model_type]],
        "hidden_act": "gelu_pytorch_tanh" if config.model_type == "gemma" else "silu",
        **{k: v for k, v in vars(config).items() if k not in ("raw", "rope", "windows")},
        **({"rope_scaling": config.rope} if config.rope else {}),
        **({"sliding_window": max(config.windows)} if config.windows else {}),
    }
    dtype, shards, room, world, rank = (
        str(model.lm_head.weight.dtype).removeprefix("torch."),
        [],
        0,
        ranks.world_size(),
        ranks.rank(),
    )
    for name, p in model.named_parameters():
        size = p.numel() * p.element_size()
        if size > room:
            shards.append([])
            room = max(shard_bytes, size)
        shards[-1].append((name, p))
        room -= size
    files = (
        [f"model-{k:05d}-of-{len(shards):05d}.safetensors" for k in range(1, len(shards) + 1)]
        if len(shards) > 1
        else ["model.safetensors"]
    )
    for at in range(
        0, len(shards), world
    ):  # a shard a rank: first all gather, then all write, then the next
        tensors = {}
        for k, shard in enumerate(shards[at : at + world]):
            for name, p in shard:
                tensor = sharding.unshard(
                    p
                )  # whole on every rank, one by one; kept by the one that writes it
                if k == rank:
                    tensors[name] = tensor.cpu().contiguous()
        if tensors:
            save_file(tensors, directory / f"{files[at + rank]}.tmp", metadata={"format": "pt"})
        ranks.barrier()  # not in the next shard's collectives, which have a time limit
    if rank > 0:
        return
    texts = {"config.json": {**raw, "torch_dtype": dtype, "dtype": dtype}}
    if len(shards) > 1:
        texts[INDEX] = {
            "metadata": {
                "total_size": sum(p.numel() * p.element_size() for p in model.parameters())
            },
            "weight_map": {name: file for file, shard in zip(files, shards) for name, _ in shard},
        }
    for name, value in texts.items():
        (directory / f"{name}.tmp").write_text(json.dumps(value, indent=2) + "\n")
    for name in (*files, *texts):
        os.replace(directory / f"{name}.tmp", directory / name)
    for old in directory.glob("model*.safetensors*"):
        if old.name not in (*files, *texts):
            old.unlink()
