"""Sampling: what one step of the cache computes, and what is prepared for it."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import model as model_module
import rollout
from model import Transformer, causal_mask
from rollout import KVCache, generate


@pytest.mark.parametrize("window", [0, 3])
def test_a_step_attends_like_repeated_heads(tiny, window, monkeypatch):
    """Ragged sequences, in float64, against keys and values that are repeated for every head."""
    monkeypatch.setattr(type(tiny.config), "window", lambda config, layer: window)
    batch, heads, kv_heads, size, capacity = 3, 4, 2, 8, 7
    cache = KVCache(tiny.config, batch, capacity, "cpu", torch.float64)
    torch.manual_seed(0)
    keys = torch.randn(batch, capacity, kv_heads, size, dtype=torch.float64)
    values = torch.randn_like(keys)
    cache.layers[0] = [keys.clone(), values.clone()]
    positions = torch.tensor([[6], [0], [3]])
    cache.feed(positions, capacity)
    q = torch.randn(batch, 1, heads, size, dtype=torch.float64)
    k = torch.randn(batch, 1, kv_heads, size, dtype=torch.float64)
    v = torch.randn_like(k)
    y = cache(0, q, k, v)

    for row, position in enumerate(positions[:, 0].tolist()):
        keys[row, position] = k[row, 0]
        values[row, position] = v[row, 0]
    copies = heads // kv_heads
    scores = torch.einsum("bhe,bthe->bht", q[:, 0], keys.repeat_interleave(copies, 2)) / size**0.5
    visible = causal_mask(positions, torch.arange(capacity), window)
    shares = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    expected = torch.einsum("bht,bthe->bhe", shares, values.repeat_interleave(copies, 2))
    torch.testing.assert_close(y[:, 0], expected)


def test_no_step_has_grouped_heads_with_a_mask(tiny, monkeypatch):
    """On a GPU such a call repeats the keys, or plans anew at every length."""
    calls = []
    real = F.scaled_dot_product_attention

    def record(q, k, v, **options):
        calls.append((q.shape[2], options.get("enable_gqa", False)))
        return real(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    generate(tiny, [[1, 2, 3, 4, 5]], 2, 4, 1.0, [-1], seed=0)
    layers = tiny.config.num_hidden_layers
    of_the_prompt = calls[:layers]
    assert of_the_prompt == [(5, True)] * layers
    assert calls[layers:] == [(2, False)] * layers * 3  # two heads share a key


def test_the_head_is_widened_once(tiny, monkeypatch):
    tiny = tiny.to(torch.bfloat16)
    dtypes = []
    real = model_module.matmul32

    def record(a, b):
        dtypes.append(b.dtype)
        return real(a, b)

    monkeypatch.setattr(model_module, "matmul32", record)
    prompts = [[1, 2, 3], [4, 5]]
    groups = generate(tiny, prompts, 2, 5, 1.0, [-1], seed=0)
    assert set(dtypes) == {torch.float32}
    monkeypatch.setattr(type(tiny.lm_head), "kept_wide", lambda head: torch.no_grad())
    again = generate(tiny, prompts, 2, 5, 1.0, [-1], seed=0)
    assert set(dtypes) == {torch.float32, torch.bfloat16}
    for group, other in zip(groups, again):
        assert torch.equal(torch.cat(group.responses), torch.cat(other.responses))
        assert torch.equal(torch.cat(group.logps), torch.cat(other.logps))


def test_the_wide_head_is_given_back_after_an_error(tiny):
    tiny = tiny.to(torch.bfloat16)
    with torch.no_grad():
        tiny.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        generate(tiny, [[1]], 1, 2, 1.0, [-1], seed=0)
    assert tiny.lm_head.wide_weight is None


@pytest.mark.parametrize("look_every", [2, 5, 50])
def test_looking_later_changes_no_sample(tiny, monkeypatch, look_every):
    prompts = [[1, 2, 3], [4], [5, 6]]
    finished = []
    every_token = generate(tiny, prompts, 3, 12, 1.0, range(6), 0, progress=finished.append)
    assert sum(finished) == 9 and len(finished) > 3
    monkeypatch.setitem(rollout.LOOK_EVERY, "cpu", look_every)
    finished.clear()
    later = generate(tiny, prompts, 3, 12, 1.0, range(6), 0, progress=finished.append)
    assert sum(finished) == 9 and len(finished) <= -(-12 // look_every)
    for group, other in zip(every_token, later):
        assert list(map(list, group.responses)) == list(map(list, other.responses))
        torch.testing.assert_close(torch.cat(group.logps), torch.cat(other.logps))


def test_a_step_asks_for_no_value(tiny):
    """So that a GPU never waits for the host within one: fake tensors have none to give."""
    with FakeTensorMode(), torch.no_grad():
        model = Transformer(tiny.config)
        cache = KVCache(tiny.config, 3, 20, "cpu", torch.float32)
        tokens = torch.zeros(3, dtype=torch.int64)
        logits = rollout._next_logits(model, cache, tokens, tokens + 7, end=8)
        uniform = torch.rand(3, dtype=torch.float64)
        drawn, logps = rollout._sample(logits, 1.0, uniform)
        assert (logits.dtype, logps.dtype) == (torch.float32, torch.float32)
        with pytest.raises(DataDependentOutputException):
            int(drawn[0])
