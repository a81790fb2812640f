"""AdamW with a cosine schedule, and one optimiser step that refuses NaN and infinity."""

import math
from dataclasses import dataclass

import torch

from distributed import sharding

CLIP_NORM = 1.0  # of the gradient; the paper does not say


@dataclass
class Update:
    """What one optimiser step did."""

    lr: float
    grad_norm: float  # before clipping
    skipped: bool  # a loss or the gradient was NaN or infinite, and nothing was updated


def make_optimizer(config, policy):
    """AdamW without weight decay. The paper does not state the betas."""
    return torch.optim.AdamW(
        policy.parameters(),
        lr=config.lr,
        betas=(0.9, 0.95),
        weight_decay=0.0,
        fused=True if policy.device.type == "cuda" else None,
    )


def learning_rate(config, step, total_steps):
    """Linear warm-up, then cosine to 0. step counts optimiser steps from 0."""
    warmup_steps = max(1, round(config.warmup_ratio * total_steps))
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    angle = math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return config.lr * (0.5 + 0.5 * math.cos(angle))


def gradient_norm(policy):
    """Norm of .grad as it stands, over all ranks, which must all call."""
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    return float(sharding.unshard(torch.nn.utils.get_total_norm(gradients)))


def optimizer_step(policy, optimizer, lr, losses):
    """Clips .grad, takes one AdamW step and clears .grad.

    losses: of the global batch. If one of them or the gradient's norm is not finite the step is
    skipped: the same decision on every rank, because all of these are global."""
    optimizer.param_groups[0]["lr"] = lr
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), CLIP_NORM)
    grad_norm = float(sharding.unshard(norm))
    skipped = not all(math.isfinite(value) for value in [grad_norm, *losses])
    if not skipped:
        optimizer.step()
    optimizer.zero_grad()
    return Update(lr, grad_norm, skipped)
