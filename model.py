"""A decoder language model in Hugging Face's layout: Transformer, load_model, save_model.

Covers families with rotary positions, grouped-query attention and a gated MLP, or experts
in its place; docs/models.md lists them. What sets them apart is data, in hf/families.py. Modules
are named as the tensors of the checkpoints, so the state dict *is* the file; only the experts of a
layer are stacked here, and one by one there.

Attention is an argument of forward, so that a plain causal batch, a packed group (groups.py) and
cached decoding (rollout.py) are one model: a function
    attend(layer, q [..., H, E], k [..., K, E], v [..., K, E]) -> [..., H, E]

Shapes: B sequences, S positions, T tokens of any layout, N rows of interest, D hidden_size,
H heads, K key-value heads, E head_dim, V vocabulary. Under FSDP (distributed/) parameters are
sharded, float32, and gathered in the compute dtype. Left out: dropout.
"""

import contextlib
import functools
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from distributed import sharding
from hf import ModelConfig, read_weights, rope_frequencies, write_model_files
from kernels import draw_tokens, linear_logprob, matmul32, sample_tokens
from mlp import make_mlp

RESIDUAL = ("o_proj.weight", "down_proj.weight", "c_proj.weight")  # what adds to the stream


class Transformer(nn.Module):
    """The decoder, with random weights when it is built."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.compute_dtype = None  # set when the weights are sharded
        self.model = nn.Module()  # the "model." of the checkpoints' names
        self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        blocks = [Block(config, layer) for layer in range(config.num_hidden_layers)]
        self.model.layers = nn.ModuleList(blocks)
        self.model.norm = make_norm(config, config.hidden_size)
        self.lm_head = Head(config.hidden_size, config.vocab_size, bias=False)
        self._tie_head()
        self._set_up_rope()
        self._initialise()

    def forward(
        self,
        tokens,
        positions,
        attend,
        rows=None,
        targets=None,
        temperature=1.0,
        entropy=False,
        uniform=None,
    ):
        """Logits, or log-probs of given tokens, or the next tokens.

        tokens, positions: int64 of one shape [...]; attend: see the top of the file.
        rows: which hidden rows go to the head, int64 [N] into a flat tokens [T]; by default all.
        targets: int64 [N], targets[i] is predicted by row rows[i].
        uniform: float64 [N], a number that draws the next token of each row; see sample_tokens.
        Returns logits [..., V] or [N, V] float32; with targets or uniform what Head returns."""
        x = self.model.embed_tokens(tokens)  # [..., D]
        if self.config.embedding_scale != 1:
            # The factor is rounded like the activations, as the checkpoints were trained.
            scale = torch.tensor(self.config.embedding_scale, dtype=x.dtype)
            x = x * scale
        turns = []  # cos and sin of each kind of rotary positions, [..., 1, E / 2] float32
        for frequencies, scale in zip(self.frequencies, self.rope_scales):
            angles = positions[..., None, None].float() * frequencies
            turns.append((angles.cos() * scale, angles.sin() * scale))
        for block in self.model.layers:
            x = block(x, *turns[block.rope], attend)
        if rows is not None:
            # An embedding lookup is x[rows] with a backward that has the same bits in every run;
            # on a CPU that of x[rows] itself varies.
            x = F.embedding(rows, x) if x.dim() == 2 else x[rows]
        temperature = temperature * self.config.logits_scaling
        return self.lm_head(self.model.norm(x), targets, temperature, entropy, uniform)

    def logits(self, tokens):
        """tokens [B, S] int64 -> logits [B, S, V] float32, plain causal."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self(tokens, positions.expand_as(tokens), causal_attention(self.config))

    @property
    def device(self):
        """The device it computes on; offloaded weights lie on the CPU."""
        return self.frequencies.device

    @property
    def dtype(self):
        """The dtype it computes in; sharded weights are kept in float32."""
        return self.compute_dtype or self.lm_head.weight.dtype

    def _set_up_rope(self):
        """Most models have one kind of rotary positions; Gemma 3, Olmo 3 and SmolLM3 have two."""
        kinds = []
        for block in self.model.layers:
            kind = self.config.rope_of(block.layer)
            if kind not in kinds:
                kinds.append(kind)
            block.rope = kinds.index(kind)
        frequencies = []
        self.rope_scales = []
        for theta, rope in kinds:
            of_kind, scale = rope_frequencies(self.config.head_dim, theta, rope)
            frequencies.append(of_kind)
            self.rope_scales.append(scale)
        self.register_buffer("frequencies", torch.stack(frequencies), persistent=False)

    def _initialise(self):
        """Normal, std 0.02; what adds to the residual stream is scaled by depth, as in GPT-2."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            if parameter.dim() >= 2:
                std = 0.02
                if name.endswith(RESIDUAL):
                    std /= math.sqrt(2 * self.config.num_hidden_layers)
                nn.init.normal_(parameter, std=std)

    def _tie_head(self):
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def _set_weights(self, weights, device):
        """Gives a model that was built on the meta device its tensors, by parameter name."""
        if self.config.tie_word_embeddings:
            weights = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
        self.load_state_dict(weights, assign=True)
        self._tie_head()
        self.frequencies = self.frequencies.to(device)
        return self.requires_grad_(True)


class Block(nn.Module):
    """A layer: attention and MLP, each behind a norm and added to the residual stream."""

    recompute = False  # compute the activations again in the backward instead of keeping them

    def __init__(self, config, layer):
        super().__init__()
        self.layer = layer
        self.rope = 0  # which of the model's kinds of rotary positions
        self.residual_multiplier = config.residual_multiplier
        self.norms = config.family.norms
        self._add_norms(config, self.norms[:1])
        self.self_attn = Attention(config)
        self._add_norms(config, self.norms[1:])
        self.mlp = make_mlp(config, layer)

    def _add_norms(self, config, names):
        for name in filter(None, names):
            setattr(self, name, make_norm(config, config.hidden_size))

    def forward(self, *args):
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._compute, *args, use_reentrant=False, preserve_rng_state=False)
        return self._compute(*args)

    def _compute(self, x, cos, sin, attend):
        q, k, v = self.before(x, cos, sin)
        y = attend(self.layer, q, k, v)
        return self.after(x, y)

    # compile_blocks gives these two to torch.compile. Attention stays outside: its shapes and
    # closures change with every batch.

    def before(self, x, cos, sin):
        """What comes before attention: x [..., D] -> q [..., H, E], k and v [..., K, E]."""
        return self.self_attn.project(self._norm(0, x), cos, sin)

    def after(self, x, y):
        """What comes after it: x [..., D] and attention's y [..., H, E] -> [..., D]."""
        y = self._norm(1, self.self_attn.o_proj(y.flatten(-2)))
        x = x.add(y, alpha=self.residual_multiplier)
        y = self._norm(3, self.mlp(self._norm(2, x)))
        return x.add(y, alpha=self.residual_multiplier)

    def is_compiled(self):
        return "before" in vars(self)

    def _norm(self, place, x):
        """The norm at one of Family.norms' four places, which may have none. x: [..., D]."""
        name = self.norms[place]
        return getattr(self, name)(x) if name else x


class Attention(nn.Module):
    """The weights of attention; the function itself is given to Transformer.forward."""

    def __init__(self, config):
        super().__init__()
        self.head_dim = config.head_dim
        self.q_factor = 1.0  # beside the 1 / sqrt(E) of every attention
        if config.attention_multiplier:
            self.q_factor = config.attention_multiplier * config.head_dim**0.5
        q_size = config.num_attention_heads * config.head_dim
        kv_size = config.num_key_value_heads * config.head_dim
        self.sizes = [q_size, kv_size, kv_size]
        bias = config.attention_bias
        self.fused = config.family.fused
        if self.fused:
            self.qkv_proj = nn.Linear(config.hidden_size, sum(self.sizes), bias=bias)
        else:
            self.q_proj = nn.Linear(config.hidden_size, q_size, bias=bias)
            self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=bias)
            self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=bias)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=config.attention_out_bias)
        self.qk_norm = config.family.qk_norm
        if self.qk_norm == "heads":
            self.q_norm = make_norm(config, config.head_dim)
            self.k_norm = make_norm(config, config.head_dim)
        if self.qk_norm == "whole":
            self.q_norm = make_norm(config, q_size)
            self.k_norm = make_norm(config, kv_size)

    def project(self, x, cos, sin):
        """x [..., D] -> q [..., H, E], k and v [..., K, E], q and k rotated by their position."""
        if self.fused:
            q, k, v = self.qkv_proj(x).split(self.sizes, dim=-1)
        else:
            q = self.q_proj(x)
            k = self.k_proj(x)
            v = self.v_proj(x)
        if self.qk_norm == "whole":
            q = self.q_norm(q)
            k = self.k_norm(k)
        q = self._heads(q)
        k = self._heads(k)
        v = self._heads(v)
        if self.qk_norm == "heads":
            q = self.q_norm(q)
            k = self.k_norm(k)
        return rotate(q, cos, sin, self.q_factor), rotate(k, cos, sin), v

    def _heads(self, x):
        return x.unflatten(-1, (-1, self.head_dim))


def make_norm(config, size):
    """The kind of norm that the family has, for x [..., size]."""
    if config.family.layer_norm:
        return nn.LayerNorm(size, eps=config.rms_norm_eps)
    return RMSNorm(config, size)


class RMSNorm(nn.Module):
    """x [..., size] / its root mean square, times a weight [size]; Gemma stores the weight minus 1.

    Computed in float32, and rounded before or after the weight, as the checkpoints were trained."""

    def __init__(self, config, size):
        super().__init__()
        self.eps = config.rms_norm_eps
        self.plus_one = config.family.norm_plus_one
        self.rounded_last = config.family.norm_rounded_last
        self.weight = nn.Parameter(torch.zeros(size) if self.plus_one else torch.ones(size))

    def forward(self, x):
        wide = widened(x)
        mean_square = wide.square().mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(mean_square + self.eps)
        if not self.rounded_last:
            return wide.to(x.dtype) * self.weight
        weight = widened(self.weight)
        if self.plus_one:
            weight = 1 + weight
        return (wide * weight).to(x.dtype)


class Head(nn.Linear):
    """The output layer. Log-probs are computed here, not outside from the weight, because FSDP
    gathers a weight only in a forward of the module that owns it."""

    packed = None  # the weight in float32 as _packed lays it out, while packed_weights

    def forward(self, x, targets=None, temperature=1.0, entropy=False, uniform=None):
        """Hidden rows x [..., D] -> logits [..., V] float32, divided by the temperature.

        With targets int64 [N], x [N, D] -> log pi(target) float32 [N]; with entropy=True also the
        entropies of the distributions, float32 [N]. With uniform float64 [N], x [N, D] -> the next
        tokens int64 [N] and their log-probs float32 [N]."""
        if targets is not None:
            return linear_logprob(x, self.weight, targets, temperature, entropy)
        if uniform is not None and self.packed is None:
            return sample_tokens(x, self.weight, uniform, temperature)
        rows = x.flatten(0, -2)
        if self.packed is None:
            logits = matmul32(rows, self.weight.T)
        else:
            logits = _packed_product(self.packed, None, rows.float())
        if temperature != 1:
            logits = logits / temperature
        if uniform is not None:
            return draw_tokens(logits, uniform)
        return logits.unflatten(0, x.shape[:-1])


@contextlib.contextmanager
def packed_weights(model):
    """In a `with`, large layers on a CPU compute with copies of their weights, laid out as oneDNN's
    product reads them. For sampling: no graph, and weights that stay as they are.

    Blocks that are compiled are not meanwhile, as Inductor fails on such weights."""
    layers = _worth_packing(model)
    compiled = []
    if layers:
        compiled = [block for block in model.model.layers if block.is_compiled()]
    set_aside = [(block.before, block.after) for block in compiled]
    try:
        for block in compiled:
            del block.before, block.after
        for layer in layers:
            weight = layer.weight.detach()
            if isinstance(layer, Head):
                layer.packed = _packed(widened(weight))
            else:
                layer.forward = functools.partial(_packed_product, _packed(weight), layer.bias)
        yield
    finally:
        for layer in layers:  # not all of them, where memory did not suffice
            vars(layer).pop("packed" if isinstance(layer, Head) else "forward", None)
        for block, (before, after) in zip(compiled, set_aside):
            block.before = before
            block.after = after


def packed_bytes(model):
    """What packed_weights takes: int."""
    total = 0
    for layer in _worth_packing(model):
        itemsize = 4 if isinstance(layer, Head) else layer.weight.itemsize
        total += itemsize * layer.weight.numel()
    return total


def _worth_packing(model):
    """The layers, a list. Small products are faster as they are."""
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return []
    dtypes = [torch.float32]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # many CPUs cannot; packing would raise
        dtypes.append(torch.bfloat16)
    layers = [module for module in model.modules() if type(module) in (nn.Linear, Head)]
    return [
        layer for layer in layers if layer.weight.numel() >= 2**18 and layer.weight.dtype in dtypes
    ]


def _packed(weight):
    """[out, in] -> a tensor whose layout oneDNN chooses, for products with about 16 rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, 16)


def _packed_product(weight, bias, x):
    """F.linear(x, weight, bias) with a weight that _packed has laid out."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def compile_blocks(blocks):
    """torch.compile for what comes before and after attention: the norms, rotations, activations
    and sums of a layer become a few kernels. All layers share the code."""
    for block in blocks:
        block.before = torch.compile(block.before, dynamic=True)
        block.after = torch.compile(block.after, dynamic=True)


@contextlib.contextmanager
def compiled_blocks(model):
    """In a `with`, the model's blocks are compiled."""
    blocks = [block for block in model.model.layers if not block.is_compiled()]
    compile_blocks(blocks)
    try:
        yield
    finally:
        for block in blocks:
            del block.before, block.after


def widened(x):
    """x in float32; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def rotate(x, cos, sin, factor=1.0):
    """RoPE: x [..., H, E] rotated by position, times the factor; cos and sin [..., 1, E / 2]
    float32.

    The halves of a head are the pairs that turn, as in Hugging Face's layout (in the paper, arXiv
    2104.09864, neighbours are)."""
    left, right = widened(x).chunk(2, dim=-1)  # [..., H, E / 2]
    rotated = torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
    if factor != 1:
        rotated = rotated * factor
    return rotated.to(x.dtype)


# --------------------------------------------------------------------------------------- attention


def causal_attention(config: ModelConfig):
    """attend of a plain causal batch, [B, S, heads, E]."""

    def attend(layer, q, k, v):
        window = config.window(layer)
        positions = torch.arange(q.shape[1], device=q.device)
        if not window or len(positions) <= window:
            return sdpa(q, k, v, is_causal=True)
        return sdpa(q, k, v, attn_mask=causal_mask(positions, positions, window))

    return attend


def causal_mask(queries, keys, window: int = 0):
    """Which keys a query sees: positions [..., queries] and [keys] -> bool [..., queries, keys].

    window: how many keys at most, the query's own included; 0: all."""
    # compared, not subtracted: a distance takes 8 bytes a pair, and this one
    visible = keys <= queries[..., None]
    if window:
        visible &= keys > queries[..., None] - window
    return visible


def sdpa(q, k, v, **options):
    """F.scaled_dot_product_attention on q [B, S, H, E], k and v [B, S', K, E] -> [B, S, H, E].

    The heads are the last dimension but one, as the projections make them."""
    if q.is_cuda and q.dtype == torch.float32:
        # Without grouped heads a GPU needs no [H, S, S'] scores in memory in float32 either.
        copies = q.shape[2] // k.shape[2]
        k = k.repeat_interleave(copies, dim=2)
        v = v.repeat_interleave(copies, dim=2)
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        enable_gqa=q.shape[2] != k.shape[2],
        **options,
    )
    return y.transpose(1, 2)


# ------------------------------------------------------------------------------------------- files


def load_model(
    directory, device="cpu", dtype=torch.float32, compute_dtype=None, offload=False
) -> Transformer:
    """A Hugging Face model directory as a Transformer on `device`.

    The directory holds config.json and model.safetensors, or shards and their index. Beside the
    model only one tensor is in memory. compute_dtype: the model is sharded over all ranks, each of
    which reads its own rows; weights are kept in `dtype`, float32, and gathered in compute_dtype.
    offload: sharded weights are kept on the CPU.
    Raises FileNotFoundError or ValueError naming the file and the key or tensor, also for a weight
    that is not finite."""
    directory = Path(directory)
    config = ModelConfig.from_pretrained(directory)
    with torch.device("meta"):
        model = Transformer(config)
    if compute_dtype:
        sharding.shard_model(model, compute_dtype, offload)
        model.compute_dtype = compute_dtype
    parameters = dict(model.named_parameters())
    weights = read_weights(directory, parameters, config, dtype, "cpu" if offload else device)
    return model._set_weights(weights, device)


def save_model(model: Transformer, directory, shard_bytes: int = 5_000_000_000) -> None:
    """Writes config.json and the weights with Hugging Face's names.

    In shards of at most shard_bytes bytes; a larger tensor goes alone. Each file appears whole or
    not at all, and what an earlier save left over goes last. Where the model is sharded all ranks
    must call; they share the writing."""
    config_json = model.config.to_json(model.lm_head.weight.dtype)
    parameters = dict(model.named_parameters())
    write_model_files(Path(directory), config_json, parameters, shard_bytes)


@torch.no_grad()
def copy_in(model: Transformer, dtype, moved_by=0.0) -> Transformer:
    """The model as it computes in another dtype, for passes without a graph.

    The copy has no weights. A module borrows those of `model`, as they are now, when its forward
    begins, and returns them when it ends: from all ranks, then rounded to dtype. All ranks must
    call, and run it alike. moved_by: moves every weight by so much up or down, by a fixed coin."""
    if model.dtype == dtype and not moved_by:
        return model
    with torch.device("meta"):
        copy = Transformer(model.config)
    copy.frequencies = model.frequencies
    copy.compute_dtype = dtype
    coin_seeds = {id(parameter): seed for seed, parameter in enumerate(model.parameters())}
    for name, module in copy.named_modules():
        if module._parameters:
            _borrow_weights(module, model.get_submodule(name), copy, moved_by, coin_seeds)
    return copy


def _borrow_weights(module, lender, copy, moved_by, coin_seeds):
    """Gives a module of copy_in the weights of `lender` for the time of each of its forwards."""

    def borrow(module, _):
        for name, parameter in lender.named_parameters(recurse=False):
            exact = torch.promote_types(parameter.dtype, torch.float32)
            weight = sharding.unshard(parameter.to(copy.device), exact)
            if moved_by:
                generator = torch.Generator(copy.device).manual_seed(coin_seeds[id(parameter)])
                coin = torch.empty_like(weight).bernoulli_(0.5, generator=generator)
                weight = coin.sub_(0.5).mul_(2 * moved_by).add_(weight)
            module._parameters[name] = weight.to(copy.dtype)

    def give_back(module, *_):
        module._parameters.update(dict.fromkeys(module._parameters))

    module.register_forward_pre_hook(borrow)
    module.register_forward_hook(give_back, always_call=True)
    give_back(module)


@torch.no_grad()
def unsharded_copy(model: Transformer) -> Transformer:
    """The policy to sample from: a copy that is whole on every rank, in the compute dtype, so that
    decoding needs no collective. All ranks must call. A model that is not sharded is itself."""
    if not sharding.is_sharded():
        return model
    with torch.device("meta"):
        copy = Transformer(model.config)
    weights = {}
    for name, parameter in model.named_parameters():
        weights[name] = sharding.unshard(parameter.to(model.device), model.dtype)
    return copy._set_weights(weights, model.device)
