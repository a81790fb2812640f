"""rhat is what it means to be: its noise, its reference, its pairs and its held-out groups."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch

import gepo
from config import Config
from conftest import ROOT
from data import load_tokenizer
from groups import Group, frozen_logprobs, token_logprobs
from model import ModelConfig, Transformer, copy_in
from training import rhat
from training.inputs import IRGroup, cut_to_pairs, ir_groups_of_step, load_ir_groups
from training.rhat import describe_ir_scores, margin_of, rhat_noise, set_reference_logprobs

WINNER = torch.tensor([True, True, False, False])


def like_smollm2():
    """A random model of SmolLM2-135M's shape, its weights exact in bfloat16.

    A third of its layers and a tenth of its vocabulary: dev/LOG.md has the whole one."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=4915,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=10,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        tie_word_embeddings=True,
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model


def ir_groups_of(vocab_size, lengths):
    generator = torch.Generator().manual_seed(1)

    def draw(length):
        return torch.randint(0, vocab_size, (length,), generator=generator)

    return [IRGroup(Group(draw(20), [draw(n) for n in of_group]), WINNER) for of_group in lengths]


def adamw_step(model, ir_groups, lr):
    """The first step of AdamW on Eq. 9, where only the preference has a gradient."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for ir_group in ir_groups:
        [logps] = token_logprobs(model, [ir_group.group])
        winners, losers = logps[:2], logps[2:]
        (sum(y.sum() for y in losers) - sum(y.sum() for y in winners)).backward()
    optimizer.step()
    model.zero_grad()


def test_noise_is_a_hundredth_of_the_signal_after_one_step():
    """At lr 5e-7, on a model of a real shape; in bfloat16 it is not even a tenth."""
    still = like_smollm2()
    moved = copy.deepcopy(still)
    ir_groups = ir_groups_of(4915, [(60, 71, 52, 80), (33, 90, 41, 64)])
    adamw_step(moved, ir_groups, lr=5e-7)
    groups = [ir_group.group for ir_group in ir_groups]

    def rhats(dtype):
        logps = []
        for model in (moved, still):
            nested = frozen_logprobs(copy_in(model, dtype), groups, 1000, apart=True)
            logps.append(sum(nested, []))
        differences = [gepo.rhat(a.double(), b.double()) for a, b in zip(*logps)]
        return {
            "sum": torch.stack([d.sum() for d in differences]),
            "mean": torch.stack([d.mean() for d in differences]),
        }

    def rms(x):
        return float(x.square().mean().sqrt())

    truth, in_float32, in_bfloat16 = map(rhats, (torch.float64, torch.float32, torch.bfloat16))
    for how in ("sum", "mean"):
        signal = rms(truth[how])
        assert rms(in_float32[how] - truth[how]) < 0.01 * signal
        assert rms(in_bfloat16[how] - truth[how]) > 0.1 * signal


def test_the_measured_noise_is_the_noise(tiny):
    """rhat_noise is near 0 in float32, much more in bfloat16, and scaled with --gepo-logp."""
    ir_groups = ir_groups_of(61, [(60, 60, 60, 60), (60, 60, 60, 60)])
    noise = {}
    ir_groups += ir_groups_of(61, [(90,) * 4])  # the longest one is not measured
    for gepo_logp in ("sum", "mean"):
        c = Config(lr=1e-4, gepo_logp=gepo_logp, rhat_dtype="compute")
        noise["bfloat16", gepo_logp] = rhat_noise(c, copy.deepcopy(tiny).bfloat16(), ir_groups)
        noise["float32", gepo_logp] = rhat_noise(c, tiny, ir_groups)
    assert 0 < noise["float32", "sum"] < 1e-2 * noise["bfloat16", "sum"]
    for dtype in ("float32", "bfloat16"):
        assert noise[dtype, "sum"] == pytest.approx(60 * noise[dtype, "mean"], rel=1e-6)
    c = Config(lr=1e-4, rhat_dtype="float64")
    assert rhat_noise(c, tiny, ir_groups) == 0


def test_log_probs_of_rhat_are_in_its_precision(tiny, some_groups):
    half = copy.deepcopy(tiny).bfloat16()
    models = {"compute": half, "float32": copy.deepcopy(half).float()}
    models["float64"] = copy.deepcopy(half).double()
    for rhat_dtype, model in models.items():
        half.frequencies = model.frequencies = tiny.frequencies
        got = rhat.rhat_logprobs(Config(rhat_dtype=rhat_dtype), half, some_groups)
        want = frozen_logprobs(model, some_groups, Config.token_budget, apart=True)
        for a, b in zip(sum(got, []), sum(want, [])):
            assert a.dtype == b.dtype and torch.equal(a, b)


def test_a_copy_in_another_dtype_follows_the_model(tiny, some_groups):
    follow(tiny, some_groups, tiny.model.layers[0].mlp.up_proj)


def test_a_copy_of_experts_follows_them(some_groups):
    """They are borrowed like other weights, and the router's choice is made in the copy's dtype."""
    torch.manual_seed(0)
    config = ModelConfig(61, 24, 40, 2, 4, 2, 8, "qwen3_moe", norm_topk_prob=True)
    config.num_experts, config.num_experts_per_tok, config.moe_intermediate_size = 5, 2, 16
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0 if parameter.dim() >= 2 else 1.0)
    follow(model, some_groups, model.model.layers[0].mlp.experts.up_proj)


def follow(tiny, some_groups, changed):
    wide = copy_in(tiny, torch.float64)
    assert copy_in(tiny, torch.float32) is tiny and wide.dtype == torch.float64
    for _ in range(2):
        double = copy.deepcopy(tiny).double()
        double.frequencies = tiny.frequencies  # angles are float32 in every dtype
        want = token_logprobs(double, some_groups)
        got = frozen_logprobs(wide, some_groups, 1000)
        for a, b in zip(sum(got, []), sum(want, [])):
            torch.testing.assert_close(a, b.detach(), atol=1e-12, rtol=0)
        with torch.no_grad():
            changed.weight.mul_(1.1)  # the copy has the new weight
    assert all(p is None for module in wide.modules() for p in module._parameters.values())


def test_the_kept_reference_is_of_one_precision_and_one_packing(tiny, tmp_path):
    """Other tokens, weights, precision, packing or noise: computed again."""
    computed = []

    def load_reference():
        computed.append(True)
        return tiny

    def times(
        fingerprint="a",
        compute_dtype=torch.float32,
        device="cpu",
        lengths=(3, 4, 5, 6),
        **settings,
    ):
        c = Config(out=str(tmp_path), **settings)
        inputs = SimpleNamespace(
            ir_groups=ir_groups_of(61, [lengths]),
            held_out_ir_groups=ir_groups_of(61, [(2, 2, 2, 2)]),
            weights_fingerprint=fingerprint,
        )
        policy = SimpleNamespace(dtype=compute_dtype, device=torch.device(device))
        noise = set_reference_logprobs(c, inputs, policy, load_reference, steps=1)
        assert (noise > 0) == (c.rhat_dtype != "float64")
        for ir_group in inputs.ir_groups + inputs.held_out_ir_groups:
            assert list(map(len, ir_group.logp_ref)) == list(map(len, ir_group.group.responses))
        return len(computed)

    assert times() == 1 and times() == 1
    assert times(fingerprint="b") == 2
    assert times(compute_dtype=torch.bfloat16) == 3
    assert times(device="meta") == 4
    assert times(rhat_dtype="float64") == 5
    assert times(token_budget=30) == 6
    assert times(lengths=(3, 4, 5, 7)) == 7
    assert times(lr=1e-3) == 8 and times(gepo_logp="mean") == 9
    assert times() == 9


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 100])
def test_only_groups_that_a_step_takes_have_a_reference(steps, tiny, tmp_path):
    c = Config(out=str(tmp_path), gepo_batch=2, seed=4)
    inputs = SimpleNamespace(
        ir_groups=ir_groups_of(61, [(3, 4, 5, 6)] * 9),
        held_out_ir_groups=ir_groups_of(61, [(2, 2, 2, 2)]),
        weights_fingerprint="",
    )
    policy = SimpleNamespace(dtype=torch.float32, device=torch.device("cpu"))
    set_reference_logprobs(c, inputs, policy, lambda: tiny, steps)
    taken = {id(g) for step in range(steps) for g in ir_groups_of_step(c, inputs.ir_groups, step)}
    assert len(taken) == min(2 * steps, 9)
    for ir_group in inputs.ir_groups:
        assert (ir_group.logp_ref is not None) == (id(ir_group) in taken)
    assert inputs.held_out_ir_groups[0].logp_ref is not None


@pytest.mark.parametrize(
    "rhat_dtype, dtype, mend",
    [
        ("compute", torch.bfloat16, "float32"),
        ("compute", torch.float32, "float64"),
        ("float32", torch.bfloat16, "float64"),
    ],
)
def test_noise_is_said_once_and_with_its_mend(rhat_dtype, dtype, mend, capsys):
    policy = SimpleNamespace(dtype=dtype)
    run = SimpleNamespace(config=Config(rhat_dtype=rhat_dtype), policy=policy, noise_was_said=False)
    quiet = {"step": 0, "gepo_rhat_spread": 0.0, "gepo_noise": 1.0}  # theta = pi_ref
    clear = {"step": 1, "gepo_rhat_spread": 9.0, "gepo_noise": 1.0}
    drowned = {"step": 2, "gepo_rhat_spread": 1.1, "gepo_noise": 1.0}
    for row in ({"step": 0}, quiet, clear):
        rhat.warn_of_noise(run, row)
    assert not run.noise_was_said
    rhat.warn_of_noise(run, drowned)
    rhat.warn_of_noise(run, drowned)
    said = capsys.readouterr()
    assert (said.out + said.err).count(f"--rhat-dtype {mend}") == 1


# ------------------------------------------------------------------------------------ the arms


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ROOT / "toy" / "model")


def load(tokenizer, path=ROOT / "toy" / "ir_groups.jsonl", **settings):
    c = Config(ir_groups=str(path), max_length=400, **settings)
    return c, load_ir_groups(c, c.ir_groups, tokenizer)


def test_all_arms_read_the_same_groups(tokenizer):
    """They are filtered by the longest member of the whole group, before a pair is cut out."""
    _, whole = load(tokenizer)
    rows = map(json.loads, (ROOT / "toy" / "ir_groups.jsonl").read_text().splitlines())
    levels = {row["id"]: row["meta"] for row in rows}
    assert 50 < len(whole) < 240
    for dpo_pair in ("matched", "crossed"):
        c, ir_groups = load(tokenizer, dpo_pair=dpo_pair)
        pairs = cut_to_pairs(c, ir_groups)
        by_id = {ir_group.id: ir_group for ir_group in whole}
        assert len(pairs) > 0.8 * len(whole) and {pair.id for pair in pairs} <= set(by_id)
        for pair in pairs:
            members = [y.tolist() for y in by_id[pair.id].group.responses]
            winner, loser = [members.index(y.tolist()) for y in pair.group.responses]
            assert winner < 2 <= loser and pair.is_winner.tolist() == [True, False]
            meta = levels[pair.id]
            same = meta["levels"][winner] == meta["losers"][loser - 2]["level"]
            assert same == (dpo_pair == "matched")


@pytest.mark.parametrize(
    "meta",
    [
        None,
        "a note",
        [],
        {"levels": ["O1", "Oz"]},
        {"levels": None, "losers": None},
        {"levels": ["O1", "Oz"], "losers": ["O1", "Oz"]},
        {"levels": ["O1"], "losers": [{"level": "O1"}, {"level": "Oz"}]},
    ],
)
def test_a_pair_by_level_needs_levels(meta, tokenizer, tmp_path):
    """The other arms do not read meta, whatever is in it."""
    row = json.loads((ROOT / "toy" / "ir_groups.jsonl").read_text().splitlines()[0])
    (tmp_path / "g.jsonl").write_text(json.dumps({**row, "meta": meta}) + "\n")
    c, ir_groups = load(tokenizer, tmp_path / "g.jsonl", dpo_pair="matched")
    with pytest.raises(ValueError, match=r"g.jsonl: toy-f-000: .*meta.levels.*--dpo-pair all"):
        cut_to_pairs(c, ir_groups)


# ------------------------------------------------------------------------------ held-out groups


def test_margins():
    ir_group = IRGroup(None, torch.tensor([True, True, False]))
    logps = [torch.tensor([-1.0, -1.0]), torch.tensor([-4.0]), torch.full((4,), -2.0)]
    assert margin_of(Config(gepo_logp="sum"), ir_group, logps) == -3.0 + 8.0
    assert margin_of(Config(gepo_logp="mean"), ir_group, logps) == -2.5 + 2.0


def test_scores_of_held_out_groups_are_said_with_intervals():
    rows = []
    for i in range(100):
        rows.append(
            {
                "logp_margin_before": 1.0 if i < 80 else -1.0,
                "logp_margin_after": 1.0 if i < 90 else 0.0,
                "rhat_margin": 1.0 if i < 50 else -1.0,
            }
        )
    text = describe_ir_scores(rows)
    assert "80.0 % [71.1, 86.7] before, 90.0 % [82.6, 94.5] after" in text
    assert "by rhat 50.0 % [40.4, 59.6]" in text
