"""The two fused operations of the trainer, each beside its eager twin of the same signature.

    linear_logprob    hidden states and head weight -> log-prob of given tokens
    gepo_group_loss   token log-probs of ragged groups -> Eq. (9) per group

Triton on CUDA and, for tests, in its interpreter (TRITON_INTERPRET=1); the eager twin elsewhere.
"""

from kernels.group_loss import gepo_group_loss, gepo_group_loss_eager
from kernels.head import linear_logprob, linear_logprob_eager, matmul32

__all__ = [
    "linear_logprob",
    "linear_logprob_eager",
    "gepo_group_loss",
    "gepo_group_loss_eager",
    "matmul32",
]
