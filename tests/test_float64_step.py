"""One step of train.py against the paper's equations, in float64 and in one autograd graph.

Independent of the product, and written out here: the decoder (one sequence at a time, an explicit
mask; no packing, no cache, no kernels), log-probs, Eq. 3, 5, 8, 9 and 10, k1 in the token rewards,
the four advantages, the logged metrics. The product's are the weights, and the sampled tokens:
train_step samples them in its own rollout, and the same tokens then go through the equations here.
"""

import copy
import itertools
import math
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch

import train
from config import Config
from groups import Group
from judge.verdict import Verdict
from step_records import run_of
from training import optimizer as optimizer_module
from training.inputs import IRGroup
from training.rhat import rhat_logprobs
from training.samples import make_samples

TOKENIZER = SimpleNamespace(eos_ids=set(range(0, 61, 5)), decode=str)
PROMPTS = {"a": [3, 9], "b": [5, 9, 2, 40, 7, 7], "c": [1, 2, 3]}
# Of four samples for each prompt, as they come. One prompt is left with a single reward.
STATUSES = ["AC", "WA", "JE", "AC", "JE", "AC", "JE", "JE", "WA", "WA", "AC", "WA"]
# The members of each IR group: winner or loser, and how many tokens.
IR_GROUPS = ["W7 W1 L4 W9 L6", "W5 L3 L8", "L2 W6 W3 L1 L7", "W4 L4"]
SETTINGS = {"seed": 3, "max_new_tokens": 6, "lr": 1.0, "warmup_ratio": 0.0}
SETTINGS |= {"rollout_batch": len(STATUSES), "gepo_batch": len(IR_GROUPS)}
SETTINGS |= {"w_rl": 0.6, "w_gepo": 0.5, "lam": 0.2, "beta": 0.4}  # of Eq. 9 and 10

ADVANTAGES = ["reinforce++", "reinforce++-baseline", "grpo", "rloo"]
PREFERENCES = ["gepo-sum", "gepo-mean", "dpo-sum"]
KL_COEFS = [0.3, 0.0]
TEMPERATURES = [0.7, 1.0]
# A token budget that cuts most groups; then one response a forward, and everything in one.
CASES = [*itertools.product(ADVANTAGES, PREFERENCES, KL_COEFS, TEMPERATURES, [16])]
CASES += itertools.product(ADVANTAGES[:1], PREFERENCES, KL_COEFS[:1], TEMPERATURES[:1], [1, 9999])
all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))


# ------------------------------------------------------------------------------------ the decoder


def next_logits(weights, tokens):
    """The model of the fixture `tiny`, by the names of its tensors: tokens [T] -> [T, 61]."""
    embedding = weights["model.embed_tokens.weight"]
    x = embedding[tokens]  # [T, 24]
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        w = {name.removeprefix(prefix): weight for name, weight in weights.items()}
        x = x + attention(w, rms_norm(x, w["input_layernorm.weight"]))
        h = rms_norm(x, w["post_attention_layernorm.weight"])
        gate = h @ w["mlp.gate_proj.weight"].T
        up = h @ w["mlp.up_proj.weight"].T
        x = x + (gate * gate.sigmoid() * up) @ w["mlp.down_proj.weight"].T
    return rms_norm(x, weights["model.norm.weight"]) @ embedding.T


def attention(w, h):
    """Four heads of 8 channels; two and two share keys and values. h [T, 24] -> [T, 24]."""
    q, k, v = ((h @ w[f"self_attn.{x}_proj.weight"].T).view(len(h), -1, 8) for x in "qkv")
    q = rope(rms_norm(q, w["self_attn.q_norm.weight"]))
    k = rope(rms_norm(k, w["self_attn.k_norm.weight"]))
    k, v = k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]]
    is_later = torch.ones(len(h), len(h)).triu(1).bool()  # [query, key]
    scores = torch.einsum("qhc,khc->hqk", q, k) / math.sqrt(8)
    shares = scores.masked_fill(is_later, -math.inf).softmax(-1)
    y = torch.einsum("hqk,khc->qhc", shares, v)
    return y.flatten(1) @ w["self_attn.o_proj.weight"].T


def rms_norm(x, weight):
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def rope(x):
    """x [T, heads, 8]: channels i and i + 4 are a point, turned by position / 10,000^(i / 4)."""
    position = torch.arange(len(x), dtype=x.dtype)[:, None, None]
    angle = position / 10_000 ** (torch.arange(4, dtype=x.dtype) / 4)
    a, b = x.split(4, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def logp(weights, prompt, response, temperature):
    """log pi of each token of the response, [R]."""
    tokens = torch.cat([torch.as_tensor(prompt), response])
    logps = (next_logits(weights, tokens[:-1]) / temperature).log_softmax(-1)
    return logps[len(prompt) - 1 :].gather(1, response[:, None])[:, 0]


# ---------------------------------------------------------------------------------- the equations


def policy_loss(c, weights, reference, samples):
    """Eq. 5 where pi_theta is pi_old, with the KL of Eq. 1. -> (loss, advantages, metrics)"""
    judged = [sample for sample in samples if sample.verdict.status != "JE"]
    rewards = [float(sample.verdict.status == "AC") for sample in judged]
    logps, returns, kls = [], [], []
    for sample, reward in zip(judged, rewards):
        sequence = (PROMPTS[sample.problem_id], sample.tokens, c.temperature)
        logps.append(logp(weights, *sequence))
        k1 = logps[-1].detach() - logp(reference, *sequence)
        peers = [r for r, other in zip(rewards, judged) if other.problem_id == sample.problem_id]
        end = compared(reward, peers, c.advantage)
        # G_t: what comes from token t on, the last token's reward included
        returns.append(torch.stack([end - c.kl_coef * k1[t:].sum() for t in range(len(k1))]))
        kls.append(k1)
    advantage = torch.cat(returns)
    if c.advantage.startswith("reinforce++"):
        std = advantage.std(correction=0)
        assert std > 0.2  # far above any floor
        advantage = (advantage - advantage.mean()) / std
    logps = torch.cat(logps)
    rho = (logps - logps.detach()).exp()
    clipped = rho.clamp(1 - c.clip_eps, 1 + c.clip_eps)
    loss = -torch.minimum(rho * advantage, clipped * advantage).mean()  # Eq. 5
    metrics = {"policy_loss": loss, "reward": torch.tensor(rewards).mean()}
    if c.kl_coef:
        metrics["kl"] = torch.cat(kls).mean()
    return loss, advantage, metrics


def compared(reward, peers, method):
    """A reward beside those of its prompt, its own among them."""
    mean = sum(peers) / len(peers)
    if method == "reinforce++-baseline":
        return reward - mean
    if method == "grpo":
        std = math.sqrt(sum((peer - mean) ** 2 for peer in peers) / len(peers))
        return (reward - mean) / (std + 1e-6)
    if method == "rloo":
        others = len(peers) - 1
        return reward - (sum(peers) - reward) / others if others else 0.0
    return reward


def preference_loss(c, weights, reference, ir_groups):
    """Eq. 9, or Eq. 3 over all pairs, as a mean over the groups. -> (loss, metrics)"""
    rows = []
    for ir_group in ir_groups:
        log_ps, rhats = ([], []), ([], [])  # of losers, of winners
        for response, is_winner in zip(ir_group.group.responses, ir_group.is_winner.tolist()):
            sequence = (ir_group.group.prompt, response, 1.0)  # whatever c.temperature is
            log_p = logp(weights, *sequence).sum()
            rhat = log_p - logp(reference, *sequence).sum()  # Eq. 8
            tokens = len(response) if c.gepo_logp == "mean" else 1
            log_ps[is_winner].append(log_p / tokens)
            rhats[is_winner].append(rhat / tokens)
        losers, winners = map(torch.stack, rhats)
        margin = winners.mean() - losers.mean()
        preference = -(c.beta * margin).sigmoid().log()  # Eq. 9, first term
        variance = (winners - winners.mean()).square().mean()  # Eq. 9, second term
        if c.off_policy == "dpo":
            pairs = [c.beta * (y_w - y_l) for y_w in winners for y_l in losers]
            preference = -torch.stack(pairs).sigmoid().log().mean()  # Eq. 3
            variance = torch.zeros_like(preference)
        is_ahead = torch.stack(log_ps[1]).mean() > torch.stack(log_ps[0]).mean()
        rows.append([preference, variance, margin, margin > 0, is_ahead])
    means = [torch.stack(column).double().mean() for column in zip(*rows)]
    names = ["preference", "variance", "margin", "accuracy", "logp_accuracy"]
    metrics = {f"gepo_{name}": mean for name, mean in zip(names, means)}
    metrics["gepo_loss"] = metrics["gepo_preference"] + c.lam * metrics["gepo_variance"]
    return metrics["gepo_loss"], metrics


def by_the_equations(c, weights, reference, samples, ir_groups):
    """-> (gradient of Eq. 10 by all weights, advantages [N], metrics)"""
    weights = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    on_policy, advantage, metrics = policy_loss(c, weights, reference, samples)
    off_policy, more_metrics = preference_loss(c, weights, reference, ir_groups)
    loss = c.w_rl * on_policy + c.w_gepo * off_policy  # Eq. 10
    gradient = torch.autograd.grad(loss, list(weights.values()))
    metrics = {name: float(value.detach()) for name, value in {**metrics, **more_metrics}.items()}
    return flat(gradient), advantage, metrics


# ------------------------------------------------------------------------------------ the product


class Judge:
    def __init__(self):
        self.statuses = iter(STATUSES)

    def submit(self, problem, text):
        status = next(self.statuses)
        future = Future()
        future.set_result(Verdict(status, None if status == "JE" else float(status == "AC")))
        return future


def by_the_product(c, model, reference, ir_groups, monkeypatch):
    """-> (gradient, advantages [N], metrics, samples of the step). Moves the model's weights."""
    samples = []

    def make_and_keep(*args):
        samples.extend(make_samples(*args))
        return samples

    monkeypatch.setattr(train, "make_samples", make_and_keep)
    monkeypatch.setattr(optimizer_module, "CLIP_NORM", 1e9)
    before = flat(model.parameters())
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)  # what it moves is the gradient
    problems = [{"id": name, "target_language": "php"} for name in PROMPTS]
    pi_ref = reference if c.kl_coef else None
    run = run_of(
        c, model, pi_ref, sgd, Judge(), TOKENIZER, problems, PROMPTS.values(), ir_groups, 1
    )
    row, _ = train.train_step(run, 0)
    advantage = torch.cat([s.advantage for s in samples if s.advantage is not None])
    return before - flat(model.parameters()), advantage, row, samples


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def in_float64(model):
    return {name: weight.detach().double().clone() for name, weight in model.named_parameters()}


def a_reference(model):
    """pi_ref: a copy of the model with other weights."""
    generator = torch.Generator().manual_seed(7)
    reference = copy.deepcopy(model)
    for weight in reference.parameters():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
        weight.data += 0.03 * noise
    return reference


def some_ir_groups(c, reference):
    generator = torch.Generator().manual_seed(3)

    def draw(tokens):
        return torch.randint(61, (tokens,), generator=generator)

    ir_groups = []
    for members in map(str.split, IR_GROUPS):
        group = Group(draw(4), [draw(int(member[1:])) for member in members])
        is_winner = torch.tensor([member[0] == "W" for member in members])
        [logp_ref] = rhat_logprobs(c, reference, [group])
        ir_groups.append(IRGroup(group, is_winner, logp_ref))
    return ir_groups


# ------------------------------------------------------------------------------------- the tests


def compare(model, case, rhat_dtype, tolerance, monkeypatch):
    advantage, preference, kl_coef, temperature, token_budget = case
    off_policy, gepo_logp = preference.split("-")
    c = Config(
        advantage=advantage,
        off_policy=off_policy,
        gepo_logp=gepo_logp,
        rhat_dtype=rhat_dtype,
        kl_coef=kl_coef,
        temperature=temperature,
        token_budget=token_budget,
        **SETTINGS,
    )
    reference = a_reference(model)
    ir_groups = some_ir_groups(c, reference)
    weights = in_float64(model)
    got, got_advantage, row, samples = by_the_product(c, model, reference, ir_groups, monkeypatch)
    want, advantage, metrics = by_the_equations(
        c, weights, in_float64(reference), samples, ir_groups
    )

    assert (got - want).norm() <= tolerance * want.norm()
    assert (got_advantage - advantage).abs().max() <= tolerance
    for name, value in metrics.items():
        assert abs(row[name] - value) <= tolerance, name
    assert ("kl" in row) == (kl_coef > 0)
    assert row["verdicts"] == {"AC": 4, "WA": 4, "JE": 4} and 0 < row["truncated"] < 1
    assert metrics["gepo_accuracy"] != metrics["gepo_logp_accuracy"]  # a mix-up would show


@all_cases
def test_a_step_in_float32(tiny, case, monkeypatch):
    compare(tiny, case, "float32", 5e-6, monkeypatch)


@pytest.fixture
def tiny_in_float64(tiny, monkeypatch):
    """`tiny` in a product that computes in float64 throughout.

    By itself it rounds RoPE's frequencies, the advantages and the scales of rhat to float32. Here
    frequencies are set anew, .float() leaves float64 as it is, and new tensors are float64."""
    to_float32 = torch.Tensor.float
    monkeypatch.setattr(
        torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else to_float32(x)
    )
    torch.set_default_dtype(torch.float64)
    tiny.double().frequencies = 1 / 10_000 ** (torch.arange(4)[None] / 4)
    yield tiny
    torch.set_default_dtype(torch.float32)


@all_cases
def test_a_step_in_float64(tiny_in_float64, case, monkeypatch):
    """The same at a tolerance that no approximation would pass."""
    compare(tiny_in_float64, case, "float64", 1e-12, monkeypatch)
