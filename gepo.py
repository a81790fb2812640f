"""The paper's equations as pure functions of log-probabilities: no model, no configuration, torch only.

    Wu et al., "On-Policy Optimization with Group Equivalent Preference ...", NeurIPS 2025, arXiv 2505.12723
    REINFORCE++: arXiv 2501.03262; GRPO: arXiv 2402.03300; RLOO: arXiv 2402.14740; DPO: arXiv 2305.18290

rhat = log pi_theta(y|x) - log pi_ref(y|x), the implicit reward of Eq. (8), is a scalar per sequence. A group has n winners
(equivalent programs) and m losers (inequivalent ones); n and m are free. R_i is the number of tokens of response i, EOS
included. Advantages are constants: they carry no gradient.
"""

import torch
import torch.nn.functional as F

# ------------------------------------------------------------------------------------- preferences, off-policy


def gepo_loss(winners, losers, beta, lam):
    """Eq. (9) of one group. winners [n], losers [m]: rhat, float. -> (preference, variance), two scalars.

    The loss is preference + lam * variance. The terms are returned apart because they must be logged apart: where rhat is a
    sum over tokens, the second's gradient can outweigh the first's 10 to 40 times. The paper does not say how Var is
    normalised: 1/n here, so n = 1 gives 0. With s = sigma(-beta * margin) the gradient of the loss in rhat is

        winner i:  -beta * s / n + 2 * lam * (rhat_i - mean) / n          loser j:  beta * s / m

    Not separable over responses, but these coefficients are all that couples them: see off_policy_half in train.py."""
    margin = winners.mean() - losers.mean()
    preference = -F.logsigmoid(beta * margin)  # Eq. 9, first term (from Eq. 6)
    variance = (winners - winners.mean()).square().mean()  # Eq. 9, second term, without beta
    return preference, variance


def dpo_loss(winner, loser, beta):
    """Eq. (3) of one pair: Bradley-Terry, Eq. (2), with r = beta * rhat. winner, loser: scalars, or equal shapes, unreduced.

    Written out to be read and tested: --off-policy dpo trains it as gepo_loss with n = m = 1, which is the same."""
    return -F.logsigmoid(beta * (winner - loser))  # Eq. 3


# ------------------------------------------------------------------------------------- policy gradient, on-policy


def normalise(advantages):
    """(A - mean) * rsqrt(max(var, 1e-8)) over ALL response tokens of the global batch, list of [R_i]; equal values give exactly 0."""
    flat = torch.cat(advantages).double()
    mean, square = float(flat.mean()), float(flat.square().mean())
    scale = max(square - mean * mean, 1e-8) ** -0.5
    return [((a.double() - mean) * scale).float() for a in advantages]


def token_returns(rewards, kl, kl_coef):
    """REINFORCE++'s token rewards, summed from the right with gamma = 1: G_t = rew_t + G_(t+1).  -> list of [R_i].

    rewards [N]; kl: list of [R_i], k1 = logp_old - logp_ref of each token: the KL of Eq. (1), put into the reward."""
    returns = []
    for reward, k1 in zip(rewards, kl):
        token = -kl_coef * k1.detach().float()
        token[-1] += float(reward)
        returns.append(token.flip(0).cumsum(0).flip(0))
    return returns


def reinforce_pp_advantages(rewards, kl, kl_coef):
    """REINFORCE++ (arXiv 2501.03262): returns normalised over all tokens of the global batch. -> list of [R_i]."""
    return normalise(token_returns(rewards, kl, kl_coef))


def group_rewards(rewards, groups, how):
    """Rewards compared with those of the same prompt. rewards [N] float, groups [N] int64 (which prompt). -> [N] float.

    how: "reinforce++-baseline" R - mean;  "grpo" (R - mean) / (std + 1e-6), 1/N std;  "rloo" R - mean of the others
    (a sample without others gets 0)."""
    one = torch.ones_like(rewards)
    size = int(groups.max()) + 1 if len(groups) else 0
    total = lambda x: torch.zeros(size, dtype=rewards.dtype).index_add_(0, groups, x)[groups]
    count = total(one)
    centred = rewards - total(rewards) / count
    if how == "reinforce++-baseline":
        return centred
    if how == "grpo":
        return centred / ((total(centred.square()) / count).sqrt() + 1e-6)
    if how == "rloo":
        return centred * count / (count - 1).clamp(min=1)  # = R - (sum - R) / (count - 1)
    raise ValueError(
        f"unknown advantage {how!r}; known are reinforce++, reinforce++-baseline, grpo, rloo"
    )


def advantages(rewards, groups, kl, kl_coef, how):
    """Per-token advantages of the whole batch for any --advantage. rewards [N], groups [N], kl: list of [R_i].

    The KL of Eq. (1) is in the token reward for all of them; REINFORCE++ and its baseline variant normalise over the
    global batch, GRPO and RLOO do not."""
    if how == "reinforce++":
        return reinforce_pp_advantages(rewards, kl, kl_coef)
    returns = token_returns(group_rewards(rewards, groups, how), kl, kl_coef)
    return normalise(returns) if how == "reinforce++-baseline" else returns


def clipped_policy_loss(logp, logp_old, advantages, clip_eps):
    """Eq. (5), per token and unreduced: logp (policy), logp_old (under the parameters that sampled), advantages of one shape."""
    rho = torch.exp(logp - logp_old)
    return -torch.minimum(
        rho * advantages, rho.clamp(1 - clip_eps, 1 + clip_eps) * advantages
    )  # Eq. 5
