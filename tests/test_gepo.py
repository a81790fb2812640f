"""gepo.py and the group-loss kernel against golden numbers, closed forms and each other."""

import json
import math
from pathlib import Path

import pytest
import torch

import gepo
from kernels import gepo_group_loss

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())


def close(got, want):
    got = torch.as_tensor(got, dtype=torch.float64)
    want = torch.as_tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=0)


@pytest.mark.parametrize("case", GOLDEN["gepo"])
def test_gepo_golden(case):
    winners = torch.tensor(case["winners"], dtype=torch.float64, requires_grad=True)
    losers = torch.tensor(case["losers"], dtype=torch.float64, requires_grad=True)
    preference, variance = gepo.gepo_loss(winners, losers, case["beta"], case["lam"])
    close(preference, case["preference"])
    close(variance, case["variance"])
    loss = preference + case["lam"] * variance
    loss.backward()
    close(loss, case["loss"])
    if "grad_winners" in case:
        close(winners.grad, case["grad_winners"])
        close(losers.grad, case["grad_losers"])


def test_gepo_gradient_is_the_closed_form():
    torch.manual_seed(0)
    winners = torch.randn(4, dtype=torch.float64, requires_grad=True)
    losers = torch.randn(3, dtype=torch.float64, requires_grad=True)
    beta, lam = 0.3, 0.7
    preference, variance = gepo.gepo_loss(winners, losers, beta, lam)
    (preference + lam * variance).backward()
    s = torch.sigmoid(-beta * (winners.mean() - losers.mean()))
    deviation = winners.detach() - winners.detach().mean()
    torch.testing.assert_close(winners.grad, -beta * s / 4 + 2 * lam * deviation / 4)
    torch.testing.assert_close(losers.grad, (beta * s / 3).expand(3))


def test_gepo_of_one_winner_and_one_loser_is_dpo():
    winners, losers = torch.tensor([1.7]), torch.tensor([-0.4])
    preference, variance = gepo.gepo_loss(winners, losers, 0.1, 1.0)
    assert variance == 0 and preference == gepo.dpo_loss(winners[0], losers[0], 0.1)


def test_group_loss_of_ragged_groups_is_gepo_loss_of_each():
    torch.manual_seed(0)
    sizes = [3, 1, 4, 2, 5]
    group = torch.tensor([0, 0, 0, 1, 1])
    winner = torch.tensor([True, False, True, False, True])
    logp = torch.randn(sum(sizes), requires_grad=True)
    response = torch.arange(5).repeat_interleave(torch.tensor(sizes))
    ref = torch.randn(5)
    preference, variance = gepo_group_loss(logp, ref, response, group, winner, 0.5, 1.0)
    rhat = gepo.rhat(torch.stack([y.sum() for y in logp.split(sizes)]), ref)
    for g, (winners, losers) in enumerate([([0, 2], [1]), ([4], [3])]):
        want = gepo.gepo_loss(rhat[winners], rhat[losers], 0.5, 1.0)
        torch.testing.assert_close((preference[g], variance[g]), want)
    winner = torch.tensor([True, False, True, True, True])
    with pytest.raises(ValueError, match="group 1 has 2 winners and 0 losers"):
        gepo_group_loss(logp, ref, response, group, winner, 0.5, 1.0)


@pytest.mark.parametrize("case", GOLDEN["reinforce_pp"])
def test_reinforce_pp_golden(case):
    kl = [torch.tensor(k, dtype=torch.float32) for k in case["kl"]]
    got = gepo.reinforce_pp_advantages(
        torch.tensor(case["rewards"], dtype=torch.float32), kl, case["kl_coef"]
    )
    for a, b in zip(got, case["advantages"]):
        close(a, b)


def test_equal_rewards_do_not_make_noise_of_the_kl():
    """Below MIN_STD the scale stays: the KL keeps the weight that it has beside rewards."""
    generator = torch.Generator().manual_seed(0)
    kl = [3e-3 * torch.randn(n, generator=generator) for n in (5, 9, 4, 12)]
    equal = torch.cat(gepo.reinforce_pp_advantages(torch.ones(4), kl, 0.01))
    returns = torch.cat(gepo.token_returns(torch.ones(4), kl, 0.01))
    want = (returns - returns.mean()) / gepo.MIN_STD
    torch.testing.assert_close(equal, want, atol=1e-6, rtol=0)
    assert 0 < equal.abs().max() < 0.01
    mixed = torch.cat(gepo.reinforce_pp_advantages(torch.tensor([1.0, 0, 0, 1]), kl, 0.01))
    assert float(mixed.square().mean()) == pytest.approx(1, abs=1e-5)


def test_equal_fractions_give_grpo_exactly_zero():
    """In float32 the mean of seven 0.3 is another number, and 1e-6 the only divisor."""
    rewards = torch.full((7,), 0.3)
    groups = torch.zeros(7, dtype=torch.int64)
    for method in ("reinforce++-baseline", "grpo", "rloo"):
        assert torch.equal(gepo.group_rewards(rewards, groups, method), torch.zeros(7).double())


def test_dpo_over_a_group_is_the_mean_of_its_pairs():
    winners, losers = torch.tensor([0.3, -1.0]), torch.tensor([0.1, 0.7, -2.0])
    pairs = [gepo.dpo_loss(w, x, 0.4) for w in winners for x in losers]
    torch.testing.assert_close(gepo.dpo_group_loss(winners, losers, 0.4), sum(pairs) / 6)


def test_equal_rewards_give_exactly_zero():
    kl = [torch.zeros(3), torch.zeros(5)]
    for how in ("reinforce++", "reinforce++-baseline", "grpo", "rloo"):
        for a in gepo.advantages(torch.tensor([0.3, 0.3]), torch.tensor([0, 0]), kl, 0.0, how):
            assert (a == 0).all(), how


def test_group_rewards():
    rewards, groups = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 0, 1, 2])
    mean, std = 1 / 3, math.sqrt(2) / 3
    close(
        gepo.group_rewards(rewards, groups, "reinforce++-baseline"), [1 - mean, -mean, -mean, 0, 0]
    )
    close(
        gepo.group_rewards(rewards, groups, "grpo"),
        [(1 - mean) / (std + 1e-6), -mean / (std + 1e-6), -mean / (std + 1e-6), 0, 0],
    )
    close(gepo.group_rewards(rewards, groups, "rloo"), [1, -0.5, -0.5, 0, 0])
    with pytest.raises(ValueError, match="known are"):
        gepo.group_rewards(rewards, groups, "ppo")


def test_clipped_policy_loss():
    old, eps = torch.zeros(4), 0.2
    logp = torch.log(torch.tensor([1.0, 1.5, 0.5, 0.5])).requires_grad_()
    loss = gepo.clipped_policy_loss(logp, old, torch.tensor([2.0, 1.0, 1.0, -1.0]), eps)
    close(loss.detach(), [-2.0, -1.2, -0.5, 0.8])
    loss.sum().backward()
    close(logp.grad, [-2.0, 0.0, -0.5, 0.0])  # clipped: no gradient
