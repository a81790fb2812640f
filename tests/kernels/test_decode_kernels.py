"""Triton kernels of sampling against their eager twins, by the rule of rule.py."""

import pytest
import torch
from rule import (
    ATOL,
    DEVICE,
    DTYPES,
    in_the_interpreter,
    kernel_test,
    mutated,
    not_in_the_interpreter,
    require,
)

import kernels
from kernels import decode as attention_module
from kernels import sample as sample_module


@not_in_the_interpreter
def test_in_the_interpreter():
    in_the_interpreter(__file__)


# ---------------------------------------------------------------------------- attention of a step

LENGTHS = [5000, 1, 256, 257, 63]
SHAPES = [  # heads, key-value heads, head_dim, window
    (2, 2, 16, 0),
    (8, 2, 64, 0),
    (8, 1, 80, 0),
    (3, 1, 32, 100),
]


def attention_inputs(H, K, E, dtype, lengths=LENGTHS):
    torch.manual_seed(0)
    B = len(lengths)
    cache = torch.randn(2, B + 1, K, max(lengths) + 3, E, device=DEVICE, dtype=dtype)
    q = torch.randn(B, H, E, device=DEVICE, dtype=dtype)
    lengths = torch.tensor(lengths, device=DEVICE)
    return q, cache[0, :B, :, :-2], cache[1, :B, :, :-2], lengths  # views, as of a larger cache


def require_attention(module, shape, dtype, lengths=LENGTHS):
    H, K, E, window = shape
    q, keys, values, lengths = attention_inputs(H, K, E, dtype, lengths)
    wide = [x.double() for x in (q, keys, values)]
    twin = kernels.decode_attention_eager
    require(
        {"y": module.decode_attention(q, keys, values, lengths, window)},
        {"y": twin(q, keys, values, lengths, window)},
        {"y": twin(*wide, lengths, window)},
        dtype,
    )


@kernel_test
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention(dtype, shape):
    require_attention(attention_module, shape, dtype)


@kernel_test
def test_attention_of_129_sequences():
    require_attention(
        attention_module, (4, 2, 16, 0), torch.float32, [1 + i % 70 for i in range(129)]
    )


@kernel_test
def test_a_sequence_is_the_same_bits_whatever_runs_beside_it():
    q, keys, values, lengths = attention_inputs(4, 2, 32, torch.float32)
    all_of_them = kernels.decode_attention(q, keys, values, lengths)
    for row in (0, 3):
        end = int(lengths[row])
        alone = kernels.decode_attention(
            q[row : row + 1],
            keys[row : row + 1, :, :end],
            values[row : row + 1, :, :end],
            lengths[row : row + 1],
        )
        assert torch.equal(alone[0], all_of_them[row])


@kernel_test
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_key_is_not_lost(broken):
    """In one of three parts: its sequence is NaN, as in the twin, and the other is not."""
    q, keys, values, lengths = attention_inputs(4, 2, 32, torch.float32, [600, 600])
    keys[0, 1, 10] = broken
    for function in (kernels.decode_attention, kernels.decode_attention_eager):
        y = function(q, keys, values, lengths)
        assert y[0, 2:].isnan().all() and y[0, :2].isfinite().all() and y[1].isfinite().all()


@pytest.mark.parametrize("function", [kernels.decode_attention])
@pytest.mark.parametrize(
    "change, error",
    [
        ({"q": torch.zeros(3, 4, 8)}, r"q is \[3, 4, 8\], keys \[2, 2, 5, 8\]"),
        ({"q": torch.zeros(2, 3, 8)}, "H a multiple of K"),
        ({"values": torch.zeros(2, 2, 4, 8)}, r"values \[2, 2, 4, 8\]"),
        ({"lengths": torch.ones(3, dtype=torch.int64)}, r"lengths \[3\]"),
        ({"lengths": torch.ones(2)}, "lengths torch.float32"),
        ({"keys": torch.zeros(2, 2, 5, 8).half()}, "keys torch.float16"),
        ({"keys": torch.zeros(2, 5, 2, 8).transpose(1, 2)}, "slots must lie end to end"),
        (
            {"lengths": torch.ones(2, dtype=torch.int64, device="meta")},
            "lengths is on meta and q on",
        ),
    ],
)
def test_bad_input_of_attention(function, change, error):
    good = {
        "q": torch.zeros(2, 4, 8),
        "keys": torch.zeros(2, 2, 5, 8),
        "values": torch.zeros(2, 2, 5, 8),
        "lengths": torch.ones(2, dtype=torch.int64),
    }
    with pytest.raises((TypeError, ValueError), match=error):
        function(**{**good, **change})


# --------------------------------------------------------------------------------- the next token

SAMPLE_SHAPES = [(1, 64, 300), (37, 48, 1187), (129, 80, 520)]  # B, D, V


def sample_inputs(B, D, V, dtype):
    torch.manual_seed(0)
    hidden = torch.randn(B, D, device=DEVICE).to(dtype)
    weight = (0.3 * torch.randn(V, D, device=DEVICE)).to(dtype)
    uniform = torch.rand(B, dtype=torch.float64, device=DEVICE)
    uniform[::5] = sample_module.GREEDY
    uniform[1::5] = 0.0
    uniform[2::5] = 1 - 2**-53
    return hidden, weight, uniform


def require_sample(module, shape, dtype, temperature):
    """The tokens are the twin's but where u is as close to a border as rounding reaches."""
    hidden, weight, uniform = sample_inputs(*shape, dtype)
    wide = hidden.double(), weight.double()
    tokens, logp = module.sample_tokens(hidden, weight, uniform, temperature)
    truth = torch.log_softmax(wide[0] @ wide[1].T / temperature, -1)
    _, twin_logp = kernels.sample_tokens_eager(hidden, weight, uniform, temperature)
    twin_tokens, _ = kernels.sample_tokens_eager(*wide, uniform, temperature)
    assert ((tokens >= 0) & (tokens < shape[2])).all(), "off by a vocabulary"
    is_greedy = uniform < 0
    best = truth.amax(-1) - truth.gather(1, tokens[:, None])[:, 0]
    assert (best[is_greedy] <= ATOL[dtype]).all(), "off by a greedy token"
    upper = truth.exp().cumsum(-1).gather(1, tokens[:, None])[:, 0]
    lower = upper - truth.gather(1, tokens[:, None])[:, 0].exp()
    close = ATOL[dtype]
    inside = (lower - close <= uniform) & (uniform < upper + close)
    assert inside[~is_greedy].all(), "off by a token"
    same = tokens == twin_tokens
    decided = (uniform < 0) | ((uniform > 1e-6) & (uniform < 1 - 1e-6))
    share_same = same[decided].double().mean()
    assert share_same >= (0.97 if dtype == torch.float32 else 0.9), "off by many tokens"
    of_token = {"logp": truth.gather(1, tokens[:, None])[:, 0][same]}
    require({"logp": logp[same]}, {"logp": twin_logp[same]}, of_token, dtype)


@kernel_test
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("shape", SAMPLE_SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sample(dtype, shape, temperature):
    require_sample(sample_module, shape, dtype, temperature)


@kernel_test
def test_sample_at_qwen3s_vocabulary():
    require_sample(sample_module, (3, 16, 151_936), torch.float32, 1.0)


@kernel_test
def test_sums_that_are_not_in_order_draw_no_column_that_is_none(tmp_path):
    """A GPU adds up in another order for each column, the interpreter from left to right: so some
    sums are made smaller here, as rounding does there."""
    sums = "tl.cumsum(tl.exp(z - maximum), 0)"
    smaller = f"{sums} * tl.where(inside % 2 == 0, 1 - 1e-6, 1.0)"
    module = mutated(sample_module.__file__, sums, smaller, tmp_path)
    require_sample(module, (129, 80, 520), torch.float32, 1.0)  # 8 columns in the last tile


@kernel_test
def test_nan_has_a_logprob_of_nan():
    hidden, weight, uniform = sample_inputs(5, 16, 300, torch.float32)
    hidden[2, 3] = torch.nan
    tokens, logp = kernels.sample_tokens(hidden, weight, uniform)
    assert logp.isnan().tolist() == [False, False, True, False, False]
    assert ((tokens >= 0) & (tokens < 300)).all()


def test_greedy_is_the_largest_logit_of_two_that_are_close():
    """Behind a log-sum-exp of 11 the two are the same number."""
    logits = torch.zeros(1, 60_000)
    logits[0, 7] = 0.5
    logits[0, 9] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    tokens, _ = kernels.draw_tokens(logits, torch.tensor([sample_module.GREEDY]).double())
    assert tokens.tolist() == [9]


def chi_square(function, temperature, draws):
    """The statistic, in standard deviations of its distribution, and the mean log-prob's error."""
    torch.manual_seed(1)
    V, D = 290, 16  # three tiles
    hidden = torch.randn(1, D, device=DEVICE)
    weight = 0.5 * torch.randn(V, D, device=DEVICE)
    p = torch.softmax((hidden.double() @ weight.double().T) / temperature, -1)[0]
    uniform = torch.rand(draws, dtype=torch.float64, device=DEVICE)
    tokens, _ = function(hidden.expand(draws, D).contiguous(), weight, uniform, temperature)
    counts = torch.bincount(tokens, minlength=V).double()
    order = p.argsort(descending=True)
    counts, expected = counts[order], draws * p[order]
    common = int((expected >= 5).sum()) - 1  # the rest together
    counts = torch.cat([counts[:common], counts[common:].sum()[None]])
    expected = torch.cat([expected[:common], expected[common:].sum()[None]])
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float((statistic - common) / (2 * common) ** 0.5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_the_twin_draws_from_the_softmax(temperature):
    assert abs(chi_square(kernels.sample_tokens_eager, temperature, 100_000)) < 3.5

    def too_warm(hidden, weight, uniform, temperature):
        return kernels.sample_tokens_eager(hidden, weight, uniform, 1.2 * temperature)

    assert chi_square(too_warm, temperature, 100_000) > 6  # so the test can fail


@kernel_test
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_the_kernel_draws_from_the_softmax(temperature):
    assert abs(chi_square(kernels.sample_tokens, temperature, 800)) < 3.5


@pytest.mark.parametrize(
    "change, error",
    [
        ({"weight": torch.zeros(8, 5)}, r"weight \[8, 5\]"),
        ({"uniform": torch.zeros(3, dtype=torch.float64)}, r"uniform \[3\]"),
        ({"uniform": torch.zeros(4)}, "uniform is torch.float32; it must be float64"),
        ({"hidden": torch.zeros(6, 4).T}, r"call hidden.contiguous\(\)"),
        ({"weight": torch.zeros(8, 6, device="meta")}, "weight is on meta and uniform on"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
    ],
)
def test_bad_input_of_sample(change, error):
    good = {
        "hidden": torch.zeros(4, 6),
        "weight": torch.zeros(8, 6),
        "uniform": torch.zeros(4, dtype=torch.float64),
    }
    with pytest.raises((TypeError, ValueError), match=error):
        kernels.sample_tokens(**{**good, **change})


# ------------------------------------------------------------------- wrong kernels must be red

WRONG_ATTENTION = [
    ("tl.maximum(part * PART, length - window)", "tl.maximum(part * PART, length - window - 1)"),
    ("tl.minimum((part + 1) * PART, length)", "tl.minimum((part + 1) * PART, length + 1)"),
    ("shrink = tl.exp(maximum - new_maximum)", "shrink = tl.exp(0 * maximum)"),
    ("sum_exp = sum_exp * shrink", "sum_exp = sum_exp"),
    ("kv_head * GROUP + head", "kv_head + head"),
    (
        "values_ptr += sequence * value_stride + kv_head * value_head_stride",
        "values_ptr += sequence * value_stride",
    ),
    ("maximum + tl.log(tl.where(seen, sum_exp, 1.0))", "maximum"),
    ("* scale  # [BLOCK_H, BLOCK]", "# [BLOCK_H, BLOCK]"),
    ("(slot >= first) & (slot < end)", "slot < end"),
    ("rescale = tl.exp(maximum - new_maximum)", "rescale = tl.exp(0 * maximum)"),
    ("sum_exp * rescale +", "sum_exp +"),
    ("share = tl.exp(lse - new_maximum)", "share = tl.exp(0 * lse)"),
    ("tl.sum(share[:, None] * y, 0)", "tl.sum(y, 0)"),
    ('(lse > float("-inf"))[:, None]', "(lse > 1e9)[:, None]"),
]
WRONG_SAMPLE = [
    ("maximum + tl.log(sum_exp)", "maximum"),
    ("(cols < V)[None, :], z, -3e38", "(cols <= V)[None, :], z, 0.0"),
    ("tl.where(is_column, z * scale, -3e38)", "tl.where(is_column, z, -3e38)"),
    ("cumulated <= share * total", "cumulated <= share"),
    ("tokens_ptr + sequence, first + chosen", "tokens_ptr + sequence, chosen"),
    ("tile_max.argmax(1)", "tile_max.argmin(1)"),
    ("before = torch.where(tile > 0,", "before = 0 * torch.where(tile > 0,"),
    ("z_chosen - tl.load", "tl.max(z, 0) - tl.load"),
    ("GREEDY, share).float()", "0.5, share).float()"),
]


@kernel_test
@pytest.mark.parametrize("old, new", WRONG_ATTENTION, ids=[x[0] for x in WRONG_ATTENTION])
def test_wrong_attention_is_red(old, new, tmp_path):
    module = mutated(attention_module.__file__, old, new, tmp_path)
    with pytest.raises(AssertionError, match="off by|not finite"):
        require_attention(module, (6, 2, 16, 70), torch.float32, [5000, 1, 257, 90])
        require_attention(module, (6, 2, 16, 0), torch.float32, [5000, 1, 257, 90])


@kernel_test
@pytest.mark.parametrize("old, new", WRONG_SAMPLE, ids=[x[0] for x in WRONG_SAMPLE])
def test_a_wrong_sample_is_red(old, new, tmp_path):
    module = mutated(sample_module.__file__, old, new, tmp_path)
    with pytest.raises(AssertionError, match="off by|not finite"):
        require_sample(module, (37, 48, 1187), torch.float32, 2.0)
