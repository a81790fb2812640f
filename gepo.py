"""The paper's equations as pure functions of log-probs: no model, no configuration, torch only.

    OORL, GEPO   Wu et al., "On-Policy Optimization with Group Equivalent Preference for
                 Multi-Programming Language Understanding", NeurIPS 2025, arXiv 2505.12723
    DPO          arXiv 2305.18290        REINFORCE++   arXiv 2501.03262
    GRPO         arXiv 2402.03300        RLOO          arXiv 2402.14740

Equation numbers are those of the first paper. Two of its ten are elsewhere, as they are not about
log-probs: Eq. 4 runs programs (reward.py), Eq. 10 adds the two halves (train.py).

    n, m   winners (equivalent programs) and losers (inequivalent ones) of one group, any numbers
    N      responses of the on-policy batch (train.py and groups.py: N tokens)
    R_i    tokens of response i, its EOS included
"""

import torch
import torch.nn.functional as F

# The least that normalise divides by. Where all rewards of a batch are equal, only the KL differs
# from token to token, by some 1e-3: divided by its own std it would be as loud as a reward
# (docs/method.md). One right answer among 99 wrong ones gives 0.1. OpenRLHF and verl have 1e-4.
MIN_STD = 0.1

# ------------------------------------------------------------------ preferences, off-policy


def log_preference(margin):
    """Bradley-Terry, Eq. (2): log P(y_w > y_l | x), with P = sigma(r(x, y_w) - r(x, y_l)).

    margin: the winner's reward minus the loser's, a tensor of any shape. -> the same shape."""
    return F.logsigmoid(margin)  # Eq. 2


def dpo_loss(winner, loser, beta):
    """DPO, Eq. (3), of one pair: Bradley-Terry, Eq. (2), with beta * rhat as the reward.

    winner, loser: rhat, two scalars -> a scalar. Tensors of equal shape give a loss per element.
    It is gepo_loss with n = m = 1, where the variance is 0."""
    return -log_preference(beta * (winner - loser))  # Eq. 3


def dpo_group_loss(winners, losers, beta):
    """The mean of DPO, Eq. (3), over all pairs of a group: `--off-policy dpo`.

    winners [n], losers [m]: rhat -> a scalar."""
    return dpo_loss(winners[:, None], losers[None, :], beta).mean()


def rhat(logp, logp_ref):
    """The implicit reward, Eq. (8): log pi_theta(y|x) - log pi_ref(y|x), in nats.

    logp, logp_ref: log-probs of responses under the policy and under the reference, or of tokens,
    whose differences are then to be summed, which loses less to rounding. -> the same shape. It
    comes from the reward that the optimal policy of Eq. (1) implies:

        r(x, y) = beta * log(pi_theta(y|x) / pi_ref(y|x)) + beta * log Z(x)        Eq. (7)
                = beta * (rhat(x, y) + log Z(x))

    log Z(x) cannot be computed, but it is one constant for all responses to x. Eq. (6) compares
    responses to one x, by a difference of means and by a variance, and neither changes when the
    same constant is added to every reward: Z cancels. beta is a common factor. Eq. (9) keeps it in
    the margin; in the variance, beta^2 is absorbed into lambda."""
    return logp - logp_ref  # Eq. 8, which is Eq. 7 without beta and log Z(x)


def gepo_loss(winners, losers, beta, lam):
    """GEPO, Eq. (9), of one group: its two terms. The loss is preference + lam * variance.

    winners [n], losers [m]: rhat, float. -> (preference, variance), two scalars. They are returned
    apart, and the caller adds them with lam, because they must be logged apart: where rhat is a sum
    over tokens, the gradient of the variance can be 10 to 40 times that of the preference. The
    paper does not say how the variance is normalised. Here it is by 1/n, so that n = 1 gives 0.

    With s = sigma(-beta * margin) the gradient of the loss with respect to each rhat is

        winner i:  -beta * s / n + 2 * lam * (rhat_i - mean) / n          loser j:  beta * s / m

    The loss is not separable over the responses of a group, but these coefficients are all that
    couples them: off_policy_half in train.py uses that to back-propagate one response at a time."""
    margin = winners.mean() - losers.mean()  # Eq. 6, what sigma is applied to
    preference = -log_preference(beta * margin)  # Eq. 9, first term: Eq. 6 as a loss
    variance = (winners - winners.mean()).square().mean()  # Eq. 9, second term: Eq. 6's constraint
    return preference, variance


# ------------------------------------------------------------------ policy gradient, on-policy


def clipped_policy_loss(logp, logp_old, advantages, clip_eps):
    """The clipped policy loss, Eq. (5), per token and unreduced.

    logp, logp_old, advantages: tensors of one shape; logp under the policy, logp_old under the
    parameters that sampled the tokens. -> the same shape."""
    ratio = torch.exp(logp - logp_old)  # rho_t of Eq. 5
    clipped_ratio = ratio.clamp(1 - clip_eps, 1 + clip_eps)
    return -torch.minimum(ratio * advantages, clipped_ratio * advantages)  # Eq. 5


def advantages(rewards, groups, kl, kl_coef, method):
    """Advantages of every token of the batch, for any `--advantage`. They carry no gradient.

    rewards [N] float; groups [N] int64, the prompt of each response; kl: list of [R_i], k1 of each
    token; kl_coef: beta_KL of Eq. (1); method: "reinforce++" or one of group_rewards. -> list of
    [R_i] float32. The KL of Eq. (1) is in the token rewards for all methods. REINFORCE++ and its
    baseline variant normalise over the global batch, GRPO and RLOO do not."""
    if method == "reinforce++":
        return reinforce_pp_advantages(rewards, kl, kl_coef)
    returns = token_returns(group_rewards(rewards, groups, method), kl, kl_coef)
    if method == "reinforce++-baseline":
        return normalise(returns)
    return returns


def reinforce_pp_advantages(rewards, kl, kl_coef):
    """REINFORCE++ (arXiv 2501.03262): returns, normalised over all tokens of the global batch.

    Arguments as for token_returns. -> list of [R_i] float32."""
    return normalise(token_returns(rewards, kl, kl_coef))


def group_rewards(rewards, groups, method):
    """Compares each reward with the rewards of the same prompt.

    rewards [N] float, groups [N] int64: the prompt of each response. -> [N] float64. method:
        "reinforce++-baseline"   R - mean of the group
        "grpo"                   (R - mean) / (std + 1e-6), std normalised by 1/N
        "rloo"                   R - mean of the others; 0 for a response without others
    Raises ValueError for any other method."""
    rewards = rewards.double()  # in float32 equal rewards may differ from their mean
    group_size = _sum_over_group(torch.ones_like(rewards), groups)
    centred = rewards - _sum_over_group(rewards, groups) / group_size
    if method == "reinforce++-baseline":
        return centred
    if method == "grpo":
        variance = _sum_over_group(centred.square(), groups) / group_size
        return centred / (variance.sqrt() + 1e-6)
    if method == "rloo":
        # the same as R - (sum - R) / (group_size - 1)
        return centred * group_size / (group_size - 1).clamp(min=1)
    raise ValueError(
        f"unknown advantage {method!r}; known are reinforce++, reinforce++-baseline, grpo, rloo"
    )


def token_returns(rewards, kl, kl_coef):
    """REINFORCE++'s returns: the token rewards summed from the right, G_t = reward_t + G_(t+1).

    rewards [N]; kl: list of [R_i], k1 = logp_old - logp_ref of each token, an estimate of the KL
    of Eq. (1), which thus is part of the reward; kl_coef: beta_KL. -> list of [R_i] float32.
    There is no discount: gamma = 1."""
    returns = []
    for reward, k1 in zip(rewards, kl, strict=True):
        token_rewards = -kl_coef * k1.detach().float()  # Eq. 1, the KL term, token by token
        token_rewards[-1] += float(reward)  # Eq. 1, R(x, y), known when the response has ended
        returns.append(token_rewards.flip(0).cumsum(0).flip(0))
    return returns


def normalise(advantages):
    """(A - mean) / max(std, MIN_STD); equal values give exactly 0.

    advantages: list of [R_i]; the mean and the std (by 1/N) are those of ALL response tokens of the
    global batch, taken in float64. -> list of [R_i] float32."""
    all_tokens = torch.cat(advantages).double()
    mean = float(all_tokens.mean())
    mean_square = float(all_tokens.square().mean())
    variance = mean_square - mean * mean
    scale = max(variance, MIN_STD**2) ** -0.5
    return [((a.double() - mean) * scale).float() for a in advantages]


def _sum_over_group(values, groups):
    """values [N], groups [N] int64 -> [N]: for each response the sum over its whole group."""
    number_of_groups = int(groups.max()) + 1 if len(groups) else 0
    sums = torch.zeros(number_of_groups, dtype=values.dtype)
    return sums.index_add_(0, groups, values)[groups]
