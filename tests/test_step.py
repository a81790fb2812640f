"""One step of train.py against the same step by hand, in one graph, one response at a time."""

import copy
import gc
import math
import pickle
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch

import groups as groups_module
import train
from config import Config
from groups import Group
from judge.verdict import Verdict
from rollout import generate
from step_records import ir_groups_of, run_of
from training import optimizer as optimizer_module
from training.inputs import Problem, batch_indices
from training.log import share_over_clip
from training.optimizer import learning_rate
from training.run import garbage_kept
from training.samples import PendingVerdicts, make_samples

EOS = {0, 4, 8, 15, 16}
TOKENIZER = SimpleNamespace(eos_ids=EOS, decode=lambda ids: " ".join(map(str, ids)))
PROBLEMS = [{"id": f"p{i}", "target_language": ("php", "bash")[i % 2]} for i in range(3)]
PROMPTS = [[3, 9], [5, 9, 2, 40, 7, 7], [1, 2, 3]]


def verdict(text):
    """A made-up judge: 1 for an even sum, no verdict for a sum that 5 divides."""
    total = sum(map(int, text.split()))
    return (
        Verdict("JE", None, "disk full")
        if total % 5 == 0
        else Verdict("AC" if total % 2 == 0 else "WA", float(total % 2 == 0))
    )


class Pool:
    def __init__(self):
        self.submitted = []  # (id of the problem, text)

    def submit(self, problem, text):
        self.submitted.append((problem["id"], text))
        future = Future()
        future.set_result(verdict(text))
        return future


def log_softmax_of(model, prompt, y, temperature):
    tokens = torch.cat([prompt, y])
    return (model.logits(tokens[None])[0] / temperature).log_softmax(-1)[
        torch.arange(len(prompt) - 1, len(tokens) - 1), y
    ]


def by_hand(model, reference, c, ir_groups, winner, ref):
    """-> (gradient of Eq. 10 before clipping, mean reward, mean kl)"""
    order = batch_indices(0, 3, 3, c.seed)
    groups = generate(
        model,
        [PROMPTS[i] for i in order],
        c.samples_per_prompt,
        c.max_new_tokens,
        c.temperature,
        EOS,
        c.seed * 1_000_003,
    )
    logps, returns, kls, rewards = [], [], [], []
    for group in groups:
        for y in group.responses:
            v = verdict(TOKENIZER.decode(y.tolist()))
            if v.reward is None:
                continue
            logp = log_softmax_of(model, group.prompt, y, c.temperature)
            kl = logp.detach() - log_softmax_of(reference, group.prompt, y, c.temperature).detach()
            token = [-c.kl_coef * float(k) for k in kl]
            token[-1] += v.reward
            returns.append([sum(token[t:]) for t in range(len(token))])  # REINFORCE++, gamma = 1
            logps.append(logp)
            kls += kl.tolist()
            rewards.append(v.reward)
    flat = [g for of in returns for g in of]
    mean = sum(flat) / len(flat)
    std = math.sqrt(sum((g - mean) ** 2 for g in flat) / len(flat))
    advantages = torch.tensor([(g - mean) / std for g in flat])
    logp = torch.cat(logps)
    on_policy = -(
        (logp - logp.detach()).exp() * advantages
    ).mean()  # Eq. 5: rho = 1, inside the clip
    off_policy = 0.0
    for g in batch_indices(0, c.gepo_batch, len(ir_groups), c.seed + 1):
        rhat = (
            torch.stack(
                [
                    log_softmax_of(model, ir_groups[g].prompt, y, 1.0).sum()
                    for y in ir_groups[g].responses
                ]
            )
            - ref[g]
        )
        winners, losers = rhat[winner[g]], rhat[~winner[g]]
        off_policy = (
            off_policy
            + (
                -torch.log(torch.sigmoid(c.beta * (winners.mean() - losers.mean())))
                + c.lam * ((winners - winners.mean()) ** 2).mean()
            )
            / c.gepo_batch
        )
    loss = c.w_rl * on_policy + c.w_gepo * off_policy  # Eq. 10
    return (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]),
        sum(rewards) / len(rewards),
        sum(kls) / len(kls),
    )


def test_the_gradient_of_the_off_policy_half_is_logged(tiny, some_groups):
    """On its own it is the whole gradient; its norm goes with its weight; it changes nothing."""
    groups = [some_groups[0], some_groups[2]]
    winner = [torch.tensor([i % 2 == 0 for i in range(len(g.responses))]) for g in groups]
    ref = [torch.randn(len(g.responses)) - 20 for g in groups]
    records = ir_groups_of(groups, winner, ref)
    base = {"rollout_batch": 4, "gepo_batch": 2, "kl_coef": 0.0, "max_new_tokens": 6}
    rows = {}
    for w_rl, w_gepo in ((0.0, 0.05), (0.0, 0.1), (1.0, 0.1)):
        c = Config(**base, w_rl=w_rl, w_gepo=w_gepo)
        policy = copy.deepcopy(tiny)
        sgd = torch.optim.SGD(policy.parameters(), lr=1.0)
        run = run_of(c, policy, None, sgd, Pool(), TOKENIZER, PROBLEMS, PROMPTS, records, 10)
        rows[w_rl, w_gepo], _ = train.train_step(run, 0)
    alone, twice, both = rows.values()
    assert alone["gepo_grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-6) and (
        alone["gepo_grad_norm"] > 0
    )
    assert twice["gepo_grad_norm"] == pytest.approx(2 * alone["gepo_grad_norm"], rel=1e-5)
    assert both["gepo_grad_norm"] == twice["gepo_grad_norm"] != both["grad_norm"]


@pytest.mark.parametrize("clip_norm", [1e9, 0.01])
def test_a_step_is_the_equations(tiny, some_groups, clip_norm, monkeypatch):
    monkeypatch.setattr(optimizer_module, "CLIP_NORM", clip_norm)
    c = Config(
        seed=3,
        samples_per_prompt=4,
        rollout_batch=12,
        gepo_batch=2,
        kl_coef=0.3,
        temperature=0.7,
        max_new_tokens=6,
        lr=1.0,
        warmup_ratio=0.0,
        token_budget=25,
        w_rl=0.6,
        w_gepo=0.05,
        lam=0.2,
        beta=0.4,
    )
    torch.manual_seed(7)
    reference = copy.deepcopy(tiny)
    with torch.no_grad():
        for p in reference.parameters():
            p.add_(0.05 * torch.randn_like(p))
    ir_groups = [
        some_groups[0],
        some_groups[2],
        Group(torch.tensor([5, 6]), [torch.tensor([7, 8]), torch.tensor([9])]),
    ]
    winner = [torch.tensor([i % 2 == 0 for i in range(len(g.responses))]) for g in ir_groups]
    ref = [torch.randn(len(g.responses)) - 20 for g in ir_groups]
    want, reward, kl = by_hand(tiny, reference, c, ir_groups, winner, ref)
    before = torch.cat([p.detach().flatten().clone() for p in tiny.parameters()])
    sgd = torch.optim.SGD(tiny.parameters(), lr=1.0)
    records = ir_groups_of(ir_groups, winner, ref)
    pool = Pool()
    run = run_of(c, tiny, reference, sgd, pool, TOKENIZER, PROBLEMS, PROMPTS, records, 10)
    row, samples = train.train_step(run, 0)
    moved = before - torch.cat(
        [p.detach().flatten() for p in tiny.parameters()]
    )  # SGD at lr 1: the clipped gradient
    want = want * min(1.0, clip_norm / float(want.norm()))
    torch.testing.assert_close(moved, want, atol=3e-4 * float(want.abs().max()), rtol=2e-3)
    assert row["verdicts"]["JE"] > 0 and row["verdicts"]["AC"] > 0 and row["verdicts"]["WA"] > 0
    assert abs(row["reward"] - reward) < 1e-6 and abs(row["kl"] - kl) < 1e-4 and len(samples) == 12
    assert len({problem_id for problem_id, _ in pool.submitted}) == 3
    assert pool.submitted == [(sample["id"], sample["completion"]) for sample in samples]
    for sample in samples:  # each verdict is its own sample's
        assert sample["verdict"] == verdict(sample["completion"]).status


def test_the_first_ratio_is_exactly_1_in_bfloat16(tiny, monkeypatch):
    """Judge errors stay in the pack, without weight: pi_old, pi_ref and pi_theta see one pack.

    On some machines the bits of a token depend on the pack, on others they do not."""
    packs = []
    real = groups_module.token_logprobs

    def token_logprobs(model, groups, *rest):
        packs.append([[part.tolist() for part in (g.prompt, *g.responses)] for g in groups])
        return real(model, groups, *rest)

    monkeypatch.setattr(groups_module, "token_logprobs", token_logprobs)
    c = Config(rollout_batch=12, max_new_tokens=6, token_budget=25)
    policy = copy.deepcopy(tiny).bfloat16()
    policy.frequencies = tiny.frequencies
    sgd = torch.optim.SGD(policy.parameters(), lr=1.0)
    run = run_of(c, policy, policy, sgd, Pool(), TOKENIZER, PROBLEMS, PROMPTS, [], 1)
    row, _ = train.train_step(run, 0)
    assert row["verdicts"]["JE"] > 0 and row["grad_norm"] > 0
    assert row["ratio_max"] == row["ratio_min"] == 1.0 and row["clip_fraction"] == 0.0
    size = len(packs) // 3
    assert size > 1 and packs == 3 * packs[:size]


@pytest.mark.parametrize("inner_epochs", [1, 2])
def test_without_a_kl_term_the_old_policy_has_no_pass_of_its_own(tiny, inner_epochs, monkeypatch):
    """The row and the weights are those of a step that has one, to the bit."""
    passes = []
    real = train.frozen_logprobs

    def frozen_logprobs(model, *rest):
        passes.append(model)
        return real(model, *rest)

    monkeypatch.setattr(train, "frozen_logprobs", frozen_logprobs)
    c = Config(
        rollout_batch=12,
        kl_coef=0.0,
        max_new_tokens=6,
        token_budget=25,
        lr=0.01,
        inner_epochs=inner_epochs,
    )
    rows, weights = [], []
    for reference in (None, tiny):  # with a reference there are passes
        policy = copy.deepcopy(tiny)
        sgd = torch.optim.SGD(policy.parameters(), lr=1.0)
        run = run_of(c, policy, reference, sgd, Pool(), TOKENIZER, PROBLEMS, PROMPTS, [], 1)
        row, _ = train.train_step(run, 0)
        assert passes == ([policy, reference] if reference else [])
        assert row["verdicts"]["JE"] > 0 and 0 < row["logp_gap"] < 1e-4 and row["entropy"] > 0
        assert (row["ratio_max"] == 1) == (inner_epochs == 1)
        rows.append({key: x for key, x in row.items() if not key.endswith(("_s", "_per_s"))})
        weights.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    assert rows[0] == rows[1] and torch.equal(*weights)


def test_what_the_log_says_of_the_rewards(tiny):
    c = Config(rollout_batch=12, kl_coef=0.0, max_new_tokens=6, token_budget=1000)
    sgd = torch.optim.SGD(tiny.parameters(), lr=0.0)
    run = run_of(c, tiny, None, sgd, Pool(), TOKENIZER, PROBLEMS, PROMPTS, [], 1)
    row, samples = train.train_step(run, 0)
    of_prompt = {}
    for sample in samples:
        if sample["reward"] is not None:
            of_prompt.setdefault(sample["id"], []).append(sample["reward"])
    rewards = torch.tensor(sum(of_prompt.values(), []))
    mixed = [len(set(rewards)) == 2 for rewards in of_prompt.values()]
    assert row["reward_std"] == pytest.approx(float(rewards.std(unbiased=False)))
    assert row["mixed_prompts"] == sum(mixed) / len(mixed)
    assert row["logp_gap_clipped"] == 0.0 < row["logp_gap"] < 1e-4
    gaps = torch.tensor([0.2, -0.2, 0.0, 0.17])  # ratios 1.22, 0.82, 1, 1.19
    assert share_over_clip(gaps, 0.2) == 0.25


def test_inner_epochs_take_both_halves_again(tiny, some_groups, monkeypatch):
    """Two inner epochs are two optimiser steps.

    The second has the GEPO gradient too, and a ratio that has moved."""
    base = {
        "seed": 3,
        "rollout_batch": 12,
        "gepo_batch": 1,
        "kl_coef": 0.0,
        "max_new_tokens": 6,
        "lr": 0.01,
        "warmup_ratio": 0.0,
        "token_budget": 25,
    }
    monkeypatch.setattr(optimizer_module, "CLIP_NORM", 1e9)
    winner, ref, moved = [torch.tensor([True, False, True])], [torch.zeros(3)], {}
    for w_gepo in (0.0, 1.0):
        model = copy.deepcopy(tiny)
        c = Config(**base, inner_epochs=2, w_gepo=w_gepo, w_rl=0.0 if w_gepo else 1.0)
        sgd = torch.optim.SGD(model.parameters(), lr=1.0)
        records = ir_groups_of(some_groups[:1], winner, ref)
        run = run_of(c, model, None, sgd, Pool(), TOKENIZER, PROBLEMS, PROMPTS, records, 1)
        row, _ = train.train_step(run, 0)
        assert "kl" not in row
        moved[w_gepo] = [
            (a - b).abs().max().item() for a, b in zip(tiny.parameters(), model.parameters())
        ]
        if w_gepo:  # on its own: both steps are GEPO's
            once = copy.deepcopy(tiny)
            train.off_policy_half(once, c, records)
            for rate in (learning_rate(c, 0, 2), learning_rate(c, 1, 2)):
                with torch.no_grad():
                    for p in once.parameters():
                        p -= rate * p.grad
                        p.grad = None
                train.off_policy_half(once, c, records)
            for a, b in zip(once.parameters(), model.parameters()):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        else:
            assert row["ratio_max"] > 1.0001  # the second epoch is off-policy
    assert max(moved[0.0]) > 0


def test_garbage_is_collected_between_steps_only():
    assert gc.isenabled()
    with pytest.raises(KeyError), garbage_kept():
        assert not gc.isenabled() and gc.get_freeze_count() > 0
        raise KeyError
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_samples_travel_without_their_problems_tests():
    """Every rank gathers all samples of a step; a problem's tests may be megabytes."""
    row = {**PROBLEMS[0], "tests": [{"stdin": "x" * 1_000_000, "stdout": "y"}]}
    group = Group(torch.tensor([3, 9]), [torch.tensor([7, 4])], [torch.zeros(2)])
    samples = make_samples(0, [Problem(row, [3, 9])], [group], TOKENIZER)
    assert len(pickle.dumps(samples)) < 10_000
    pending = PendingVerdicts(Pool(), [Problem(row, [3, 9])], samples, submitted_at=0.0)
    assert [v.status for v in pending.wait()] == [verdict(samples[0].text).status]


def test_learning_rate():
    assert learning_rate(Config(lr=3e-4), 15, 80) == 0.00027990381056766574  # bit for bit
    c = Config(lr=2.0, warmup_ratio=0.1)
    rates = [learning_rate(c, k, 100) for k in range(100)]
    assert rates[:10] == pytest.approx(
        [0.2 * (k + 1) for k in range(10)]
    )  # linear up over 3 % (here 10 %)
    assert rates[10] == 2.0 and rates[55] == pytest.approx(1.0) and 0 < rates[99] < 0.01
    assert learning_rate(Config(lr=2.0), 0, 1) == 2.0  # a run of one step learns


def test_a_toy_reward_rises(tiny):
    """REINFORCE++ on 'the first token is even': from about half of the samples to nearly all."""
    c = Config(
        samples_per_prompt=8,
        rollout_batch=24,
        kl_coef=0.0,
        max_new_tokens=2,
        lr=2e-2,
        token_budget=1000,
    )

    class Even:
        def submit(self, problem, text):
            future, even = Future(), int(text.split()[0]) % 2 == 0
            future.set_result(Verdict("AC" if even else "WA", float(even)))
            return future

    optimizer = torch.optim.AdamW(tiny.parameters(), lr=c.lr)
    run = run_of(c, tiny, None, optimizer, Even(), TOKENIZER, PROBLEMS, PROMPTS, [], 25)
    rewards = [train.train_step(run, k)[0]["reward"] for k in range(25)]
    assert sum(rewards[:2]) / 2 < 0.75 and sum(rewards[-3:]) / 3 > 0.95, rewards


def test_a_broken_gradient_updates_nothing(tiny):
    c = Config(rollout_batch=12, kl_coef=0.0, max_new_tokens=4, w_rl=1.0)
    optimizer = torch.optim.AdamW(tiny.parameters())
    before = [p.detach().clone() for p in tiny.parameters()]
    tiny.model.norm.weight.register_hook(lambda grad: grad * float("nan"))
    run = run_of(c, tiny, None, optimizer, Pool(), TOKENIZER, PROBLEMS, PROMPTS, [], 1)
    row, _ = train.train_step(run, 0)
    assert row["skipped"] == 1 and math.isnan(row["grad_norm"])
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.parameters()))
