"""Sampling: what one step of the cache computes, and what is prepared for it."""

import contextlib
import json
import os
import subprocess
import sys
from unittest.mock import MagicMock

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import model as model_module
import rollout
from conftest import ROOT
from model import (
    ModelConfig,
    Transformer,
    causal_mask,
    compile_blocks,
    packed_weights,
)
from rollout import Engine, KVCache, generate


@pytest.mark.parametrize("window", [0, 3])
def test_a_step_attends_like_repeated_heads(tiny, window, monkeypatch):
    """Ragged sequences, in float64, against keys and values that are repeated for every head."""
    monkeypatch.setattr(type(tiny.config), "window", lambda config, layer: window)
    batch, heads, kv_heads, size, capacity = 3, 4, 2, 8, 7
    cache = KVCache(tiny.config, batch + 1, capacity, "cpu", torch.float64)
    torch.manual_seed(0)
    for tensor in cache.layers[0]:
        tensor.normal_()
    keys, values = (tensor[:batch].clone() for tensor in cache.layers[0])
    positions = torch.tensor([6, 0, 3])
    q = torch.randn(batch, heads, size, dtype=torch.float64)
    k = torch.randn(batch, kv_heads, size, dtype=torch.float64)
    v = torch.randn_like(k)
    y = cache.decoding(positions, capacity)(0, q, k, v)

    for row, position in enumerate(positions.tolist()):
        keys[row, :, position] = k[row]
        values[row, :, position] = v[row]
    copies = heads // kv_heads
    scores = torch.einsum("bhe,bhte->bht", q, keys.repeat_interleave(copies, 1)) / size**0.5
    visible = causal_mask(positions[:, None], torch.arange(capacity), window)
    shares = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    expected = torch.einsum("bht,bhte->bhe", shares, values.repeat_interleave(copies, 1))
    torch.testing.assert_close(y, expected)


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


@pytest.fixture
def ragged(tiny):
    """Prompts of many lengths, and samples that end at many."""
    prompts = [[1 + i, *[7] * (5 * i % 11)] for i in range(9)]
    settings = {"max_new_tokens": 12, "temperature": 1.0, "eos_ids": range(6), "seed": 3}
    alone = []
    for i, prompt in enumerate(prompts):
        alone.append([])
        for number in range(3 * i, 3 * i + 3):
            # the same number, so the same random numbers, but nothing runs beside it
            [*_, group] = generate(
                tiny, [[1]] * i + [prompt], 3, **settings, share=range(number, number + 1)
            )
            alone[i].append((group.responses[0].tolist(), group.logps[0]))
    lengths = {len(tokens) for group in alone for tokens, _ in group}
    assert len(lengths) > 5
    return prompts, settings, alone


@pytest.mark.parametrize("cache_tokens", [1, 23, 100, 250, 10**6])
@pytest.mark.parametrize("read_tokens", [4, 25, 8192])
def test_a_sample_does_not_depend_on_what_runs_beside_it(
    tiny, ragged, monkeypatch, cache_tokens, read_tokens
):
    """One row to all rows, prompts in pieces or together: the same tokens as alone."""
    prompts, settings, alone = ragged
    monkeypatch.setattr(rollout, "READ_TOKENS", read_tokens)
    groups = generate(tiny, prompts, 3, **settings, cache_tokens=cache_tokens)
    for group, expected in zip(groups, alone):
        for tokens, logps, (wanted, wanted_logps) in zip(group.responses, group.logps, expected):
            assert tokens.tolist() == wanted
            torch.testing.assert_close(logps, wanted_logps, atol=1e-5, rtol=0)


def test_cuda_graphs_change_no_sample(tiny, ragged, monkeypatch):
    """Graphs of a few sizes, for the rows in use and some more; a replay does what was captured.

    On a CPU the capture itself runs, so that its rows must be as before afterwards."""
    prompts, settings, alone = ragged
    sizes = set()
    real = Engine._captured

    def captured(engine, n):
        before = engine.tokens.clone(), engine.positions.clone()
        graph = real(engine, n)
        assert torch.equal(engine.tokens, before[0]) and torch.equal(engine.positions, before[1])
        assert not any(block.is_compiled() for block in tiny.model.layers)  # prompts are read as is
        sizes.add(n)

        def replay():
            free = engine.positions[len(engine.running) : n]
            assert (free < rollout.LOOK_EVERY["cpu"]).all()
            engine._draw_next(n, engine.cache.capacity)

        graph.replay = replay
        return graph

    monkeypatch.setattr(Engine, "_captured", captured)
    monkeypatch.setattr(Engine, "_uses_graphs", lambda engine: True)
    pools = []

    def capture(graph, pool=None):
        pools.append(pool)
        return contextlib.nullcontext()

    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: MagicMock(pool=lambda: "the first one's"))
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setitem(rollout.LOOK_EVERY, "cpu", 3)
    groups = generate(tiny, prompts, 3, **settings, cache_tokens=20 * 24)
    assert sizes == {16, 20}
    assert pools == [None] + ["the first one's"] * (len(sizes) - 1)  # they share their memory
    for group, expected in zip(groups, alone):
        assert [tokens.tolist() for tokens in group.responses] == [tokens for tokens, _ in expected]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("graphs", [True, False])
def test_a_gpu_draws_what_a_cpu_draws(tiny, ragged, monkeypatch, graphs):
    """With real graphs, which are captured for several numbers of rows while sequences wait."""
    prompts, settings, alone = ragged
    monkeypatch.setattr(Engine, "_uses_graphs", lambda engine: graphs)
    groups = generate(tiny.cuda(), prompts, 3, **settings, cache_tokens=20 * 24)
    for group, expected in zip(groups, alone):
        for tokens, logps, (wanted, wanted_logps) in zip(group.responses, group.logps, expected):
            assert tokens.tolist() == wanted
            torch.testing.assert_close(logps, wanted_logps, atol=1e-4, rtol=0)


def test_a_row_that_becomes_free_is_filled_at_once(tiny, ragged, monkeypatch):
    """No step has fewer sequences than could run, and none computes a row that has ended."""
    prompts, settings, alone = ragged
    rows = 5
    capacity = max(map(len, prompts)) + settings["max_new_tokens"]
    sizes = []
    real = Engine._draw_next

    def record(engine, n, end):
        sizes.append(n)
        assert not any(sequence.finished for sequence in engine.running)
        real(engine, n, end)

    monkeypatch.setattr(Engine, "_draw_next", record)
    events = []
    generate(
        tiny,
        prompts,
        3,
        **settings,
        cache_tokens=rows * capacity,
        finished=lambda number, group: events.append((len(sizes), number)),
    )
    # Of three samples at least two enter together, so at most one row waits for another.
    last_entry = len(sizes) - max(len(tokens) for group in alone for tokens, _ in group)
    assert min(sizes[:last_entry]) >= rows - 1 and max(sizes) == rows
    steps = sum(len(tokens) - 1 for group in alone for tokens, _ in group)
    assert sum(sizes) == steps  # the first token of each is drawn by the prompt
    assert sorted(number for _, number in events) == list(range(len(prompts)))
    assert events[0][0] < len(sizes) / 2  # a group is handed on while others still run


def test_a_prompt_is_read_once_for_all_its_samples(tiny, monkeypatch):
    fed = []
    real = type(tiny).forward

    def record(model, tokens, *args, **options):
        if tokens.dim() == 2:
            fed.append(tokens.numel())
        return real(model, tokens, *args, **options)

    monkeypatch.setattr(type(tiny), "forward", record)
    generate(tiny, [[1, 2, 3, 4], [5, 6, 7, 8]], 8, 3, 1.0, [-1], seed=0)
    assert sum(fed) == 8


# 7 weights in a layer, and the head, are as large as what is packed.
LARGE = ModelConfig(
    vocab_size=2048,
    hidden_size=512,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=8,
    head_dim=64,
    tie_word_embeddings=True,
)


def test_large_weights_are_packed_and_given_back():
    """On a CPU; the numbers stay within rounding, and after an error nothing is left."""
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = Transformer(LARGE).to(dtype)
        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        tokens = torch.randint(2048, (2, 9))
        with torch.no_grad():
            plain = model.logits(tokens)
            with packed_weights(model):
                packs = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
                count = len([m for m in layers if {"packed", "forward"} & vars(m).keys()])
                assert count == (15 if packs else 0)
                packed = model.logits(tokens)
            assert torch.equal(model.logits(tokens), plain)
        tolerance = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(packed, plain, atol=tolerance * plain.abs().max(), rtol=0)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        generate(model, [[1]], 1, 2, 1.0, [-1], seed=0)
    assert not any({"packed", "forward"} & vars(layer).keys() for layer in layers)


def test_a_failure_while_packing_leaves_nothing_packed(monkeypatch):
    model = Transformer(LARGE)
    real, calls = model_module._packed, []

    def pack_two(weight):
        calls.append(weight)
        if len(calls) == 3:
            raise MemoryError
        return real(weight)

    monkeypatch.setattr(model_module, "_packed", pack_two)
    with pytest.raises(MemoryError), packed_weights(model):
        pass
    assert not any({"packed", "forward"} & vars(module).keys() for module in model.modules())


BFLOAT16 = """
import torch
from model import ModelConfig, Transformer
from rollout import generate
config = ModelConfig(
    vocab_size=2048, hidden_size=512, intermediate_size=512, num_hidden_layers=1,
    num_attention_heads=8, num_key_value_heads=8, head_dim=64)
generate(Transformer(config).bfloat16(), [[1]], 1, 2, 1.0, [-1], seed=0)
"""


def test_bfloat16_on_a_cpu_that_packs_only_float32():
    """Most laptops have no AVX-512; oneDNN then refuses a bfloat16 weight."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", BFLOAT16], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_compiled_blocks_are_packed_as_written():
    """Inductor fails on packed weights, and without them sampling takes twice as long."""
    model = Transformer(LARGE)
    wanted = generate(model, [[1, 2]], 2, 3, 1.0, [-1], seed=0)
    compile_blocks(model.model.layers)
    compiled = model.model.layers[0].before
    with packed_weights(model):
        assert not any(block.is_compiled() for block in model.model.layers)
        assert sum("forward" in vars(module) for module in model.modules()) > 0
    assert model.model.layers[0].before is compiled
    assert not any("forward" in vars(module) for module in model.modules())
    (group,) = generate(model, [[1, 2]], 2, 3, 1.0, [-1], seed=0)
    assert [y.tolist() for y in group.responses] == [y.tolist() for y in wanted[0].responses]


def test_nothing_to_sample(tiny):
    assert generate(tiny, [], 3, 5, 1.0, [0], seed=0) == []
    for options in ({"samples": 0}, {"samples": 2, "share": range(0)}):
        (group,) = generate(
            tiny, [[1]], max_new_tokens=5, temperature=1.0, eos_ids=[0], seed=0, **options
        )
        assert not group.responses


@pytest.mark.parametrize(
    "change, error",
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be at least 1"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be a number of at least 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
    ],
)
def test_bad_input_of_generate(change, error):
    """Of a model whose head is packed, so that sample_tokens, which checks too, is not called."""
    settings = {"max_new_tokens": 2, "temperature": 1.0, "eos_ids": [0], "seed": 0, **change}
    with pytest.raises(ValueError, match=error):
        generate(Transformer(LARGE), [[1]], 1, **settings)


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
        engine = Engine(model, rollout.Settings(9, 1.0, {0}, 0), rows=5, capacity=20)
        engine._draw_next(3, end=8)
        assert engine.logps.dtype == torch.float32
        with pytest.raises(DataDependentOutputException):
            int(engine.tokens[0])


TAKEN = """
import json, re, sys, torch
import rollout
from config import Config
from model import ModelConfig, Transformer, packed_bytes
from training import plan

def peak():  # not ru_maxrss, which begins at that of the process that started this one
    return int(re.search("VmHWM:\\s*(.*) kB", open("/proc/self/status").read())[1]) * 1024

torch.set_num_threads(1)
case = json.loads(sys.argv[1])
config = ModelConfig(**case["model"])
model = Transformer(config)
rollout.READ_TOKENS = plan.READ_TOKENS = case.get("read_tokens", plan.READ_TOKENS)
plan.CACHE_TOKENS = case.get("cache_tokens", plan.CACHE_TOKENS)
settings = dict(samples=1, max_new_tokens=2, temperature=1.0, eos_ids=[-1], seed=0)
rollout.generate(model, [[1, 2]], **settings)
before = peak()
prompts = [[1 + i % 60] * case["length"] for i in range(case["prompts"])]
rollout.generate(model, prompts, cache_tokens=plan.CACHE_TOKENS, **settings)
run = Config(
    rollout_batch=len(prompts), samples_per_prompt=1, max_length=case["max_length"],
    max_new_tokens=2)
packed = packed_bytes(model)
need = plan.memory_per_rank(config, 0, 1, run, 4, sharded=False, packed=packed)
print(peak() - before, need["sampling"])
"""
BASE = {
    "vocab_size": 61,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
}
WIDE = {**BASE, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4}
WIDE |= {"num_attention_heads": 8, "head_dim": 64}
CASES = {
    "16 of the prompts are read together": {
        "model": WIDE,
        "prompts": 32,
        "length": 510,
        "max_length": 512,
    },
    "a prompt in pieces": {
        "model": BASE,
        "prompts": 1,
        "length": 12000,
        "max_length": 12002,
        "read_tokens": 4096,
    },
    "a window": {
        "model": {**BASE, "windows": (500, 0)},
        "prompts": 1,
        "length": 5000,
        "max_length": 5002,
    },
    "a large vocabulary": {
        "model": {**BASE, "vocab_size": 2**17, "hidden_size": 64},
        "prompts": 48,
        "length": 30,
        "max_length": 32,
    },
    "more rows, as no prompt is as long as it may be": {
        "model": {**BASE, "num_hidden_layers": 48},
        "prompts": 4,
        "length": 1000,
        "max_length": 2100,
        "cache_tokens": 4096,
        "read_tokens": 1024,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_what_sampling_takes_is_what_the_plan_says(name):
    """With blocks that malloc gives back once they are free; else it keeps up to a fifth more."""
    done = subprocess.run(
        [sys.executable, "-c", TAKEN, json.dumps(CASES[name])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 16)},
        check=True,
    )
    taken, planned = map(int, done.stdout.split())
    assert 0.7 * planned < taken < 1.1 * planned, (taken, planned)
