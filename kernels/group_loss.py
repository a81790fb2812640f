"""Eq. (9) for ragged groups at once: N response tokens in R responses in G groups."""
import torch

from gepo import gepo_loss


def gepo_group_loss_eager(logp, logp_ref, response, group, winner, beta, lam):
    """Per-group (preference [G], variance [G]) of Eq. (9), differentiable in logp; the loss is preference + lam * variance.

    logp [N] float32: token log-probs of all responses; response [N] int64: the response of each token; logp_ref [R]:
    the responses' summed reference log-probs; group [R] int64: the group of each response, 0 .. G-1; winner [R] bool.
    Raises ValueError for a group without a winner or without a loser."""
    rhat = torch.zeros_like(logp_ref).index_add_(0, response, logp) - logp_ref       # [R] Eq. 8: Eq. 7 less beta and Z
    terms = []
    for g in range(int(group.max()) + 1):
        winners, losers = rhat[(group == g) & winner], rhat[(group == g) & ~winner]
        if not len(winners) or not len(losers):
            raise ValueError(f"group {g} has {len(winners)} winners and {len(losers)} losers; it needs one of each")
        terms.append(torch.stack(gepo_loss(winners, losers, beta, lam)))
    preference, variance = torch.stack(terms).unbind(1)
    return preference, variance


gepo_group_loss = gepo_group_loss_eager
