"""The two fused operations of the trainer, each beside its eager twin of the same signature.

    linear_logprob    hidden states and head weight -> log-prob of given tokens
    gepo_group_loss   token log-probs of ragged groups -> Eq. (9) per group

For now the eager twin is the implementation on every device.
"""
from kernels.group_loss import gepo_group_loss, gepo_group_loss_eager
from kernels.linear_logprob import linear_logprob, linear_logprob_eager

__all__ = ["linear_logprob", "linear_logprob_eager", "gepo_group_loss", "gepo_group_loss_eager"]
