"""The fused operations of trainer and sampler, each beside its eager twin of the same signature.

    linear_logprob     hidden states and head weight -> log-probs of given tokens (head*.py)
    gepo_group_loss    token log-probs of ragged groups -> Eq. (9) per group (group_loss.py)
    decode_attention   one query a sequence over a ragged cache (decode.py)
    sample_tokens      hidden states and head weight -> the next tokens (sample.py)
    draw_tokens        logits -> the next tokens
    matmul32           a matrix product in float32, whatever the dtype of its inputs

On CUDA they run as Triton kernels; elsewhere the eager twin in plain torch runs. With
TRITON_INTERPRET=1, as in the tests, Triton's interpreter runs the kernels on the CPU.
docs/kernels.md derives the gradients and the lower bounds on time.
"""

from kernels.decode import decode_attention, decode_attention_eager
from kernels.group_loss import gepo_group_loss, gepo_group_loss_eager
from kernels.head import linear_logprob, linear_logprob_eager
from kernels.head_eager import matmul32
from kernels.sample import draw_tokens, sample_tokens, sample_tokens_eager

__all__ = [
    "linear_logprob",
    "linear_logprob_eager",
    "gepo_group_loss",
    "gepo_group_loss_eager",
    "decode_attention",
    "decode_attention_eager",
    "sample_tokens",
    "sample_tokens_eager",
    "draw_tokens",
    "matmul32",
]
