"""One path from tokens to log-probs: packing, cutting, caching and two passes change nothing."""

import inspect
from contextlib import nullcontext

import pytest
import torch

import gepo
import groups as groups_module
import train
from config import Config
from groups import Group, backward_tokens, frozen_logprobs, microbatches, token_logprobs
from kernels import gepo_group_loss
from model import sdpa
from rollout import generate
from step_records import ir_groups_of, samples_of
from training.rhat import rhat_logprobs


def one_by_one(model, group):
    """The definition: the prompt and one response through the plain causal model."""
    for y in group.responses:
        tokens = torch.cat([group.prompt, y])
        logp = model.logits(tokens[None])[0].log_softmax(-1)
        rows = torch.arange(len(group.prompt) - 1, len(tokens) - 1)
        yield logp[rows, y]


def grads(model):
    got = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    return got


def test_packed_equals_one_by_one(tiny, some_groups):
    for group, packed in zip(some_groups, token_logprobs(tiny, some_groups)):
        for a, b in zip(packed, one_by_one(tiny, group), strict=True):
            assert a.dtype == torch.float32 and (a <= 0).all()
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_temperature_divides_the_logits(tiny, some_groups):
    got = token_logprobs(tiny, some_groups[1:2], temperature=0.7)[0][0]
    tokens = torch.cat([some_groups[1].prompt, some_groups[1].responses[0]])
    want = (tiny.logits(tokens[None])[0] / 0.7).log_softmax(-1)[torch.arange(3), tokens[1:]]
    torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 12, 20, 1000])
def test_cut_changes_neither_logprobs_nor_gradient(tiny, some_groups, budget):
    torch.manual_seed(3)
    # another upstream gradient for every token
    weight = [[torch.randn(len(y)) for y in g.responses] for g in some_groups]

    def loss(g, i, logp):
        return (weight[g][i] * logp).sum()

    whole = backward_tokens(tiny, some_groups, 10_000, loss)
    want = grads(tiny)
    cut = backward_tokens(tiny, some_groups, budget, loss)
    torch.testing.assert_close(grads(tiny), want, atol=1e-4, rtol=1e-4)
    frozen = frozen_logprobs(tiny, some_groups, budget)
    for logps_of_group in zip(whole, cut, frozen, strict=True):
        for a, b, f in zip(*logps_of_group, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(b, f, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 10, 17, 30, 1000])
def test_microbatches_hold_every_response_once_within_budget(some_groups, budget):
    seen = []
    for batch in microbatches(some_groups, budget):
        size = 0
        for g, first, stop in batch:
            responses = some_groups[g].responses[first:stop]
            size += len(some_groups[g].prompt) + sum(map(len, responses))
            seen += [(g, i) for i in range(first, stop)]
        alone = len(batch) == 1 and batch[0].stop - batch[0].first == 1
        assert size <= budget or alone
    assert seen == [
        (g, i) for g, group in enumerate(some_groups) for i in range(len(group.responses))
    ]


def config(**more):
    return Config(
        model="m",
        problems="p",
        ir_groups="g",
        out="o",
        token_budget=15,
        w_rl=0.7,
        w_gepo=0.3,
        beta=0.5,
        **more,
    )


def made_up_ir_groups(groups):
    winners, logp_refs = [], []
    for group in groups:
        k = len(group.responses)
        winners.append(torch.arange(k) % 2 == 0)
        logp_refs.append(torch.linspace(-9, -3, k))
    return ir_groups_of(groups, winners, logp_refs)


def flatten(nested):
    """-> [N]"""
    return torch.cat([y for ys in nested for y in ys])


def one_graph_gepo(model, c, ir_groups):
    groups = [ir_group.group for ir_group in ir_groups]
    logps = [y for ys in token_logprobs(model, groups) for y in ys]
    scale = [1 / len(y) if c.gepo_logp == "mean" else 1.0 for y in logps]
    response = torch.arange(len(logps)).repeat_interleave(torch.tensor([len(y) for y in logps]))
    group = torch.tensor([g for g, group in enumerate(groups) for _ in group.responses])
    logp_ref = torch.stack([y.sum() for ir_group in ir_groups for y in ir_group.logp_ref])
    preference, variance = gepo_group_loss(
        torch.cat([y * s for y, s in zip(logps, scale)]),
        logp_ref * torch.tensor(scale),
        response,
        group,
        torch.cat([ir_group.is_winner for ir_group in ir_groups]),
        c.beta,
        c.lam,
    )
    return (preference + c.lam * variance).mean()


def test_groups_apart_do_not_share_a_forward(tiny, some_groups):
    batches = microbatches(some_groups, 1000, apart=True)
    assert [[piece.group_index for piece in batch] for batch in batches] == [[0], [1], [2]]
    alone = [frozen_logprobs(tiny, [group], 1000)[0] for group in some_groups]
    for a, b in zip(flatten(frozen_logprobs(tiny, some_groups, 1000, apart=True)), flatten(alone)):
        assert torch.equal(a, b)
    for budget in (14, 20):  # which cut a group
        pieces = flatten_pieces(microbatches(some_groups, budget, apart=True))
        assert pieces == flatten_pieces(microbatches(some_groups, budget))


def flatten_pieces(batches):
    return [piece for batch in batches for piece in batch]


@pytest.mark.parametrize("gepo_logp", ["sum", "mean"])
def test_two_pass_gepo_gradient_is_the_one_graph_gradient(tiny, some_groups, gepo_logp):
    c = config(gepo_logp=gepo_logp)
    ir_groups = made_up_ir_groups([some_groups[0], some_groups[2]])
    metrics = train.off_policy_half(tiny, c, ir_groups)
    got = grads(tiny)
    loss = one_graph_gepo(tiny, c, ir_groups)
    (c.w_gepo * loss).backward()
    torch.testing.assert_close(got, grads(tiny), atol=1e-4, rtol=1e-4)
    assert abs(metrics["gepo_loss"] - loss.item()) < 1e-3 * abs(loss.item())


def test_two_backwards_equal_the_summed_loss(tiny, some_groups):
    """Both halves into one .grad is the gradient of Eq. 10 in one graph."""
    c = config()
    ir_groups = made_up_ir_groups([some_groups[0], some_groups[2]])
    old = [[y + 0.1 for y in ys] for ys in frozen_logprobs(tiny, some_groups, 1000)]
    torch.manual_seed(5)
    advantages = [[torch.randn(len(y)) for y in ys] for ys in old]
    train.off_policy_half(tiny, c, ir_groups)
    train.on_policy_half(tiny, c, samples_of(some_groups, old, advantages))
    got = grads(tiny)
    policy = gepo.clipped_policy_loss(
        flatten(token_logprobs(tiny, some_groups)), flatten(old), flatten(advantages), c.clip_eps
    ).mean()
    (c.w_rl * policy + c.w_gepo * one_graph_gepo(tiny, c, ir_groups)).backward()  # Eq. 10
    torch.testing.assert_close(got, grads(tiny), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rhat_dtype", ["float32", "float64", "compute"])
def test_at_the_reference_rhat_is_0(tiny, some_groups, rhat_dtype):
    """Exactly, although pi_ref and the policy see other groups beside them."""
    c = config(rhat_dtype=rhat_dtype)
    ir_groups = made_up_ir_groups([some_groups[0], some_groups[2]])
    for ir_group in ir_groups:
        [ir_group.logp_ref] = rhat_logprobs(c, tiny, [ir_group.group])
    metrics = train.off_policy_half(tiny, c, ir_groups)
    assert abs(metrics["gepo_preference"] - 0.693147) < 1e-6 and metrics["gepo_variance"] == 0
    assert metrics["gepo_margin"] == metrics["gepo_rhat_spread"] == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_is_not_sampled(tiny, temperature):
    """It would be the last token of the vocabulary, again and again."""
    with torch.no_grad():
        tiny.model.norm.weight[3] = torch.nan
    with pytest.raises(ValueError, match="logits are NaN"):
        generate(tiny, [[3]], 2, 4, temperature, {0}, seed=1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_logprobs_are_the_trainers(tiny, temperature):
    """Cached decoding of ragged prompts equals the full forward; so the ratio at lr 0 is 1."""
    prompts = [[3], [5, 9, 2, 40, 7, 7], [1, 2, 3]]
    groups = generate(
        tiny,
        prompts,
        samples=5,
        max_new_tokens=12,
        temperature=temperature,
        eos_ids={0, 4, 8, 15, 16},
        seed=0,
    )
    assert [g.prompt.tolist() for g in groups] == prompts
    lengths = {len(y) for g in groups for y in g.responses}
    assert len(lengths) > 2  # some ended, some were cut
    for logps, group in zip(token_logprobs(tiny, groups, temperature), groups):
        for logp, kept, y in zip(logps, group.logps, group.responses, strict=True):
            torch.testing.assert_close(logp, kept, atol=3e-5, rtol=1e-5)
            ends = [t in {0, 4, 8, 15, 16} for t in y.tolist()]
            assert not any(ends[:-1]) and (ends[-1] or len(y) == 12)
    logps_old = [g.logps for g in groups]
    advantages = [[torch.ones(len(y)) for y in g.responses] for g in groups]
    samples = samples_of(groups, logps_old, advantages)
    metrics = train.on_policy_half(tiny, config(temperature=temperature), samples)
    assert abs(metrics["ratio_max"] - 1) < 1e-4 and abs(metrics["ratio_min"] - 1) < 1e-4


def test_greedy_is_the_argmax_of_the_full_forward(tiny):
    prompts = [[3, 1], [5, 9, 2, 40]]
    for prompt, group in zip(prompts, generate(tiny, prompts, 1, 10, 0.0, set(), 0)):
        tokens = list(prompt)
        for _ in range(10):
            tokens.append(int(tiny.logits(torch.tensor([tokens]))[0, -1].argmax()))
        assert tokens[len(prompt) :] == group.responses[0].tolist()


def test_sampling_follows_the_distribution(tiny):
    """4,000 first tokens against the model's own probabilities; the seed decides the draw."""

    def first_tokens(seed):
        (group,) = generate(tiny, [[7, 3]], 4000, 1, 1.0, set(), seed)
        return torch.cat(group.responses)

    p = tiny.logits(torch.tensor([[7, 3]]))[0, -1].softmax(-1)
    frequencies = torch.bincount(first_tokens(1), minlength=61) / 4000
    assert (frequencies - p).abs().max() < 0.04
    assert torch.equal(first_tokens(1), first_tokens(1))
    assert not torch.equal(first_tokens(1), first_tokens(2))


def test_empty_prompt_is_named(tiny):
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(tiny, [[1], []], 1, 4, 1.0, set(), 0)


def varlen_by_hand(q, k, v, cu_q, cu_k, max_q, max_k, window_size, enable_gqa, top_left=False):
    """What varlen_attn must compute: sequence by sequence, causal, aligned at the end of the keys,
    a window of `left` keys before the query."""
    left, right = window_size
    assert right == 0 and enable_gqa == (q.shape[1] != k.shape[1])
    out = []
    for a, b, c, d in zip(cu_q, cu_q[1:], cu_k, cu_k[1:]):
        assert b - a <= max_q and d - c <= max_k
        offset = int((d - c) - (b - a))
        mask = torch.ones(b - a, d - c, dtype=torch.bool, device=q.device)
        mask = mask.tril(0 if top_left else offset)
        if left >= 0:
            mask &= torch.ones_like(mask).triu(offset - left)
        out.append(sdpa(q[None, a:b], k[None, c:d], v[None, c:d], attn_mask=mask)[0])
    return torch.cat(out)


def varlen_of_torch_2_11(q, k, v, cu_q, cu_k, max_q, max_k, window_size):
    """It is not told of grouped heads."""
    is_grouped = q.shape[1] != k.shape[1]
    return varlen_by_hand(q, k, v, cu_q, cu_k, max_q, max_k, window_size, is_grouped)


@pytest.mark.parametrize("window", [0, 1, 3, 100])
@pytest.mark.parametrize("varlen", [varlen_by_hand, varlen_of_torch_2_11])
def test_one_varlen_call_is_a_call_a_sequence(varlen, window, some_groups, monkeypatch):
    """What FlashAttention gets on a GPU (sequences, gathered keys, lengths), given to the
    definition instead."""
    monkeypatch.setattr(groups_module, "varlen_attn", varlen)
    spans = groups_module._pack(some_groups, "cpu").spans
    g = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(sum(map(len, some_groups)), heads, 8, generator=g, requires_grad=True)
        for heads in (4, 2, 2)
    )
    results = []
    for make_attend in (groups_module._attend_varlen, groups_module._attend_each):
        out = make_attend(spans, torch.device("cpu"), lambda layer: window)(0, q, k, v)
        results.append([out, *torch.autograd.grad((out * torch.arange(8)).sum(), (q, k, v))])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


@pytest.mark.parametrize(
    "fails, why",
    [
        ("it raises", r"RuntimeError: FlashAttention only supports Ampere\)"),
        ("its gradient is wrong", r"\(dq differs from one call a response\)"),
    ],
)
def test_a_varlen_that_fails_is_not_used(fails, why, monkeypatch):
    def varlen(q, *rest, enable_gqa, **options):
        if fails == "it raises":
            raise RuntimeError("FlashAttention only supports Ampere\nand newer")
        return varlen_by_hand(WrongGradient.apply(q), *rest, enable_gqa=enable_gqa, **options)

    monkeypatch.setattr(groups_module, "varlen_attn", varlen)
    monkeypatch.setattr(groups_module, "_what_varlen_lacks", lambda device: "")
    ask = groups_module._varlen_is_right.__wrapped__  # past the cache
    with torch.no_grad(), pytest.warns(UserWarning, match=why):
        assert not ask(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("top_left", [False, True])
def test_a_varlen_that_aligns_otherwise_is_not_used(top_left, monkeypatch):

    def varlen(q, k, v, cu_q, cu_k, max_q, max_k, window_size, enable_gqa):
        return varlen_by_hand(q, k, v, cu_q, cu_k, max_q, max_k, window_size, enable_gqa, top_left)

    monkeypatch.setattr(groups_module, "varlen_attn", varlen)
    ask = groups_module._varlen_is_right.__wrapped__  # past the cache
    expected_warning = nullcontext()
    if top_left:
        expected_warning = pytest.warns(UserWarning, match="does not fit packed groups")
    with expected_warning:
        for window in (0, 3):
            assert ask(torch.device("cpu"), torch.float32, window) is not top_left


def skip_without_varlen():
    """Where groups.py calls SDPA instead, and says so in a warning: there is nothing to compare."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("FlashAttention needs compute capability 8.0")
    known = inspect.signature(groups_module.varlen_attn).parameters
    if "window_size" not in known:
        pytest.skip(f"varlen_attn of torch {torch.__version__} has no window_size")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlashAttention needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window", [0, 90])
def test_varlen_on_the_gpu(dtype, window):
    skip_without_varlen()
    g, device = torch.Generator().manual_seed(0), torch.device("cuda")

    def zeros(n):
        return torch.zeros(n, dtype=torch.int64)

    groups = [
        Group(zeros(300), [zeros(200), zeros(1), zeros(77)]),
        Group(zeros(1), [zeros(130)]),
        Group(zeros(64), [zeros(64)] * 5),
    ]
    spans = groups_module._pack(groups, device).spans
    q, k, v = (
        torch.randn(sum(map(len, groups)), heads, 128, generator=g)
        .to(device, dtype)
        .requires_grad_()
        for heads in (16, 8, 8)
    )
    results = []
    for make_attend in (groups_module._attend_varlen, groups_module._attend_each):
        out = make_attend(spans, device, lambda layer: window)(0, q, k, v)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))])
    assert groups_module._varlen_is_right(device, dtype)
    assert groups_module._varlen_is_right(device, dtype, 3)
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=0.03 * float(b.abs().max()), rtol=0)


def test_the_same_backward_has_the_same_bits(tiny):
    """Hidden states that several responses share must be summed in one order: else a continued run
    would drift from an uninterrupted one."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(0, 61, (5,), generator=generator)
    group = Group(prompt, [torch.randint(0, 61, (300,), generator=generator) for _ in range(8)])

    def loss(g, i, logp):
        return (logp * torch.linspace(-1, 1, len(logp))).sum() * (i + 1)

    seen = set()
    for _ in range(25):
        backward_tokens(tiny, [group], 10_000, loss)
        seen.add(grads(tiny).numpy().tobytes())
    assert len(seen) == 1
