"""The decoder against transformers: logits, greedy decoding, packed groups, and back to disk."""

import pytest
import torch
from torch import nn

from checkpoints import (
    ONE_OF_EACH_NEW_KIND,
    VARIANTS,
    checkpoint_by_transformers,
    long_tokens,
)
from conftest import ROOT
from groups import Group, frozen_logprobs, token_logprobs
from mlp import GroupedLinear
from model import copy_in, load_model, save_model
from rollout import generate

CASES = [(variant, 0, False, torch.float32) for variant in VARIANTS]
CASES += [(variant, 1, True, torch.bfloat16) for variant in VARIANTS if "-" not in variant]


@pytest.mark.parametrize("variant, seed, tied, dtype", CASES)
def test_logits_and_greedy_decode_equal_transformers_and_back(
    variant, seed, tied, dtype, tmp_path, recwarn
):
    theirs = checkpoint_by_transformers(variant, tmp_path, seed, tied, dtype)
    ours = load_model(tmp_path)
    tokens = long_tokens(seed)
    with torch.no_grad():
        want = theirs(tokens).logits
        torch.testing.assert_close(ours.logits(tokens), want, atol=1e-4, rtol=1e-4)

    prompts = [tokens[0, :40].tolist(), tokens[1, :23].tolist()]
    sampled = generate(ours, prompts, 1, 60, 0.0, set(), 0)
    for group, prompt in zip(sampled, prompts, strict=True):
        ids = torch.tensor([prompt])
        decoded = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=60,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert group.responses[0].tolist() == decoded[0, len(prompt) :].tolist()

    saved = tmp_path / "saved"
    save_model(ours, saved, shard_bytes=20_000)
    again = type(theirs).from_pretrained(saved).eval()
    assert again.dtype == torch.float32 and len(list(saved.glob("model-*"))) > 2
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, want, atol=0, rtol=0)
    assert not [w for w in recwarn if "saved" in str(w.message) or "weights" in str(w.message)]


@pytest.mark.parametrize(
    "variant",
    ["mistral", "mistral-two", "qwen2-window", "llama-llama3", "gemma", *ONE_OF_EACH_NEW_KIND],
)
def test_packed_groups_see_what_transformers_sees(variant, tmp_path):
    """Window and scaling hold on the packed path too: positions restart behind the prompt. And in
    a copy that borrows its weights."""
    theirs = checkpoint_by_transformers(variant, tmp_path)
    ours = load_model(tmp_path)
    tokens = long_tokens()
    prompt = tokens[0, :30]
    responses = [tokens[0, 30:75], tokens[1, :3], tokens[1, 3:60]]
    (packed,) = token_logprobs(ours, [Group(prompt, responses)])
    (wide,) = frozen_logprobs(copy_in(ours, torch.float64), [Group(prompt, responses)], 1000)
    for response, logp, wide_logp in zip(responses, packed, wide, strict=True):
        torch.testing.assert_close(logp, wide_logp.float(), atol=1e-4, rtol=1e-4)
        with torch.no_grad():
            logits = theirs(torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        want = logits.log_softmax(-1).gather(1, response[:, None])[:, 0]
        torch.testing.assert_close(logp, want, atol=1e-4, rtol=1e-4)


def test_logits_are_float32_from_bfloat16_weights(tmp_path):
    checkpoint_by_transformers("qwen3", tmp_path, 0, False)
    ours = load_model(tmp_path, dtype=torch.bfloat16)
    logits = ours.logits(torch.randint(0, 97, (3, 50)))
    assert logits.dtype == torch.float32 and not torch.equal(logits, logits.bfloat16().float())


def test_transformers_loads_the_warm_start():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "toy" / "model")
    ours = load_model(ROOT / "toy" / "model")
    tokens = torch.randint(0, 900, (2, 40))
    assert 0.5e6 < sum(p.numel() for p in ours.parameters()) < 2e6
    torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, atol=1e-3, rtol=1e-4)


def test_one_kernel_for_all_experts_gives_what_a_loop_gives(monkeypatch):
    """torch's grouped_mm runs on a CPU too: here with an expert that has no rows."""
    torch.manual_seed(0)
    layer = GroupedLinear(3, 16, 8)
    nn.init.normal_(layer.weight)
    x, weights = torch.randn(10, 16), torch.randn(10, 8)
    results = []
    for runs in (False, True):
        monkeypatch.setattr("mlp.grouped_mm_runs", lambda *_, runs=runs: runs)
        inputs = x.clone().requires_grad_()
        layer.weight.grad = None
        y = layer(inputs, torch.tensor([4, 4, 10]))
        (y * weights).sum().backward()
        results.append((y.detach(), inputs.grad, layer.weight.grad))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0][0][4:], x[4:] @ layer.weight[2].T)
