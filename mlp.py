"""What a block does with each token by itself: an MLP, or a mixture of experts in its place.

A mixture (qwen3_moe) has many small MLPs, the experts. A router picks a few for each token, and
their outputs are added with the router's weights. Nothing is dropped: an expert takes all tokens
that are sent to it. Left out: the load-balancing loss of pre-training.

Shapes: T tokens of any layout, D hidden_size, k experts of a token, G experts of a layer.
"""

import torch
import torch.nn.functional as F
from torch import nn

from kernels import matmul32


def make_mlp(config, layer):
    """The kind of MLP that the layer has."""
    if config.has_experts(layer):
        return MixtureOfExperts(config)
    if config.family.gated:
        return MLP(config)
    return UngatedMLP(config)


class MLP(nn.Module):
    """x [..., D] -> [..., D], gated by SiLU or GELU."""

    def __init__(self, config):
        super().__init__()
        hidden = config.hidden_size
        size = config.intermediate_size
        self.fused = config.family.fused
        if self.fused:
            self.gate_up_proj = nn.Linear(hidden, 2 * size, bias=config.mlp_bias)
        else:
            self.gate_proj = nn.Linear(hidden, size, bias=config.mlp_bias)
            self.up_proj = nn.Linear(hidden, size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(size, hidden, bias=config.mlp_bias)
        self.activation = config.family.activation

    def forward(self, x):
        if self.fused:
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        else:
            gate = self.gate_proj(x)
            up = self.up_proj(x)
        return self.down_proj(activate(gate, self.activation) * up)


class UngatedMLP(nn.Module):
    """x [..., D] -> [..., D], with the names of StarCoder 2."""

    def __init__(self, config):
        super().__init__()
        size = config.intermediate_size
        self.c_fc = nn.Linear(config.hidden_size, size, bias=config.mlp_bias)
        self.c_proj = nn.Linear(size, config.hidden_size, bias=config.mlp_bias)
        self.activation = config.family.activation

    def forward(self, x):
        return self.c_proj(activate(self.c_fc(x), self.activation))


class MixtureOfExperts(nn.Module):
    """x [..., D] -> [..., D]: each token through k of G experts, and the weighted sum of these."""

    def __init__(self, config):
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)

    def forward(self, x):
        tokens = x.flatten(0, -2)  # [T, D]
        weights, experts = self.gate(tokens)  # both [T, k]
        k = experts.shape[1]

        # A row for each token and each of its experts, sorted by expert: [T * k, D].
        sorted_experts, order = experts.flatten().sort(stable=True)
        numbers = torch.arange(self.gate.out_features, device=x.device)
        ends = torch.searchsorted(sorted_experts, numbers, right=True)  # [G]
        # Lookups, because their backward has the same bits in every run (Transformer.forward).
        rows = F.embedding(order // k, tokens)
        rows = self.experts(rows, ends)
        rows = F.embedding(order.argsort(), rows)  # sorted by token again
        weights = weights.to(x.dtype)
        y = weights[:, None] @ rows.unflatten(0, (-1, k))  # [T, 1, D]
        return y.view_as(x)


class Router(nn.Linear):
    """Which experts a token goes to, computed in float32: a rounded score picks another expert."""

    def __init__(self, config):
        super().__init__(config.hidden_size, config.num_experts, bias=False)
        self.experts_per_token = config.num_experts_per_tok
        self.normalised = config.norm_topk_prob

    def forward(self, x):
        """x [T, D] -> weights float32 and numbers int64 of the k best experts, both [T, k]."""
        probabilities = matmul32(x, self.weight.T).softmax(-1)
        weights, experts = probabilities.topk(self.experts_per_token)
        if self.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights, experts


class Experts(nn.Module):
    """All experts of a layer at once: x [rows, D], sorted by expert -> [rows, D].

    A file has a tensor for each expert; hf/weights.py stacks them."""

    def __init__(self, config):
        super().__init__()
        hidden = config.hidden_size
        size = config.moe_intermediate_size
        groups = config.num_experts
        self.gate_proj = GroupedLinear(groups, hidden, size)
        self.up_proj = GroupedLinear(groups, hidden, size)
        self.down_proj = GroupedLinear(groups, size, hidden)
        self.activation = config.family.activation

    def forward(self, x, ends):
        gate = activate(self.gate_proj(x, ends), self.activation)
        up = self.up_proj(x, ends)
        return self.down_proj(gate * up, ends)


class GroupedLinear(nn.Module):
    """A linear layer for each group of rows."""

    def __init__(self, groups, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, outputs, inputs))

    def forward(self, x, ends):
        """x [rows, inputs], sorted by group; ends int64 [G]: where the rows of each group end.
        -> [rows, outputs]."""
        if grouped_mm_runs(x, self.weight):
            return F.grouped_mm(x, self.weight.transpose(1, 2), offs=ends.to(torch.int32))
        products = []
        start = 0
        for stop, weight in zip(ends.tolist(), self.weight):
            products.append(F.linear(x[start:stop], weight))
            start = stop
        return torch.cat(products)


def grouped_mm_runs(x, weight):
    """Whether one kernel of torch serves all groups, for x [rows, inputs] and weight [G, outputs,
    inputs]: on a GPU of compute capability 8.0, in bfloat16, for rows of whole 16 bytes. -> bool.
    """
    if not x.is_cuda or x.dtype != torch.bfloat16:
        return False
    _, outputs, inputs = weight.shape
    if outputs % 8 or inputs % 8:
        return False
    capable = torch.cuda.get_device_capability(x.device) >= (8, 0)
    return capable and hasattr(F, "grouped_mm")


def activate(x, activation):
    """activation: its name in config.json. x and the result have one shape."""
    if activation == "gelu_pytorch_tanh":
        return F.gelu(x, approximate="tanh")
    return F.silu(x)
