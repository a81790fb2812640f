"""Triton kernels of the losses against their eager twins, by the rule of rule.py."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from rule import (
    ATOL,
    DEVICE,
    DTYPES,
    INTERPRETED,
    in_the_interpreter,
    kernel_test,
    mutated,
    not_in_the_interpreter,
    require,
)

import kernels
import kernels.group_loss
import kernels.head
import kernels.head_eager
import kernels.head_fused
import kernels.head_slab
from conftest import ROOT

SHAPES = [
    (37, 48, 1187),
    (1, 64, 300),
    (130, 80, 520),
]  # T, D, V: ragged, one row, D and V past a tile's end
MANY_ROW_BLOCKS = (1100, 16, 200)  # more than the 8 that go along V together


@not_in_the_interpreter
def test_in_the_interpreter():
    in_the_interpreter(__file__)


def tolerance(eager, truth, dtype):
    return 2 * (eager.double() - truth).abs().max() + ATOL[dtype] * truth.abs().max()


# ------------------------------------------------------------------ linear_logprob


def head_inputs(T, D, V, dtype, scale=0.3):
    g = torch.Generator().manual_seed(T + V)
    targets = torch.randint(0, V, (T,), generator=g)
    targets[0] = V - 1  # the last column, in the last tile
    hidden = torch.randn(T, D, generator=g).to(DEVICE, dtype)
    weight = (scale * torch.randn(V, D, generator=g)).to(DEVICE, dtype)
    upstream = torch.randn(T, generator=g).to(DEVICE)
    return hidden, weight, targets.to(DEVICE), upstream


def run_head(function, hidden, weight, targets, upstream, temperature=1.0, **more):
    hidden, weight = (x.detach().clone().requires_grad_() for x in (hidden, weight))
    logp, entropy = function(hidden, weight, targets, temperature, entropy=True, **more)
    logp.backward(upstream.to(logp.dtype))
    return {
        "logp": logp.detach(),
        "entropy": entropy,
        "d_hidden": hidden.grad,
        "d_weight": weight.grad,
    }


def require_head(backend, shape, dtype, temperature=1.0, unit=1.0, shift=0.0):
    hidden, weight, targets, upstream = head_inputs(*shape, dtype)
    upstream = upstream * unit
    hidden[:, 0], weight[:, 0] = 1.0, weight[:, 0] + shift  # all logits of a row moved alike
    twin = kernels.linear_logprob_eager
    truth = run_head(twin, hidden.double(), weight.double(), targets, upstream, temperature)
    eager = run_head(twin, hidden, weight, targets, upstream, temperature)
    kernel = run_head(
        kernels.linear_logprob, hidden, weight, targets, upstream, temperature, backend=backend
    )
    require(kernel, eager, truth, dtype)


@pytest.fixture(params=["whole", "cut"])
def slices(request, monkeypatch):
    """cut: slabs and slices of the vocabulary are so small that each shape has several of them,
    the last of another size."""
    if request.param == "cut":
        monkeypatch.setattr(kernels.head_eager, "SLAB_TOKENS", 24)
        monkeypatch.setattr(kernels.head_eager, "SLAB_COLUMNS", 200)
        monkeypatch.setattr(kernels.head, "WORKSPACE", 1)  # 128 columns, the least


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("shape", SHAPES)
def test_eager_twin_is_the_one_liner(slices, shape, temperature):
    hidden, weight, targets, upstream = head_inputs(*shape, torch.float64)
    got = run_head(kernels.linear_logprob_eager, hidden, weight, targets, upstream, temperature)
    h, w = (x.detach().clone().requires_grad_() for x in (hidden, weight))
    logp = (h @ w.T / temperature).log_softmax(-1)
    picked = logp[torch.arange(len(targets)), targets]
    picked.backward(upstream.double())
    want = {
        "logp": picked.detach(),
        "entropy": -(logp.exp() * logp).sum(1).detach(),
        "d_hidden": h.grad,
        "d_weight": w.grad,
    }
    for name in want:
        torch.testing.assert_close(got[name], want[name], msg=name)


@kernel_test
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["fused", "slab"])
def test_head(slices, backend, dtype, shape, temperature):
    require_head(backend, shape, dtype, temperature)


@kernel_test
@pytest.mark.parametrize("backend", ["fused", "slab"])
@pytest.mark.parametrize(
    "more",
    [{"unit": 1 / 16384}, {"shift": 40.0}, {"shift": -200.0}, {"shape": MANY_ROW_BLOCKS}],
    ids=str,
)
def test_head_in_rougher_country(backend, more, slices):
    """Upstream of a mean over tokens, which float16 cannot hold; logits far from 0; more row
    blocks than go together."""
    # a column that all of weight shares shows the rounding of dlogits, not an error
    dtypes = DTYPES[:1] if "shift" in more else DTYPES
    for dtype in dtypes:
        if more.get("shape") and (dtype == torch.float32 or backend == "slab") and INTERPRETED:
            continue  # a row a program takes the interpreter too long
        require_head(backend, **{"shape": (37, 48, 1187), "dtype": dtype, **more})


@kernel_test
@pytest.mark.parametrize("backend", ["fused", "slab"])
def test_head_at_qwen3s_vocabulary(backend):
    if DEVICE == "cuda":
        dtype = torch.bfloat16
    elif backend == "fused":
        dtype = torch.float16  # float32's tiles take half a minute
    else:
        dtype = torch.float32
    require_head(backend, (3, 32, 151_936), dtype)


@pytest.mark.parametrize(
    "backend", ["eager", *([] if DEVICE == "cpu" and not INTERPRETED else ["fused", "slab"])]
)
def test_a_logprob_is_never_above_0(backend):
    hidden, weight, targets, _ = head_inputs(64, 48, 300, torch.float32, scale=20.0)
    likeliest = (hidden @ weight.T).argmax(1)
    for temperature in (1.0, 0.7, 1.3):
        logp = kernels.linear_logprob(hidden, weight, likeliest, temperature, backend=backend)
        assert (logp <= 0).all() and (logp > -1e-6).any()


def test_entropy_has_no_gradient_and_nothing_a_second_one():
    hidden, weight, targets, _ = head_inputs(5, 16, 40, torch.float32)
    hidden.requires_grad_()
    logp, entropy = kernels.linear_logprob(hidden, weight, targets, entropy=True)
    assert not entropy.requires_grad and (entropy >= 0).all()
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(logp.sum(), hidden, create_graph=True)


@pytest.mark.parametrize(
    "dtype, major, size, backend",
    [
        (torch.bfloat16, 8, 4096, "fused"),
        (torch.float16, 8, 1024, "fused"),
        (torch.bfloat16, 9, 1024, "fused"),
        (torch.bfloat16, 9, 2048, "slab"),
        (torch.float16, 9, 4096, "slab"),
        (torch.bfloat16, 10, 1024, "slab"),
        (torch.float32, 8, 1024, "slab"),
        (torch.float32, 9, 1024, "slab"),
        (torch.float64, 9, 1024, "eager"),
    ],
)
def test_choose_backend_on_a_gpu(dtype, major, size, backend, monkeypatch):
    """What docs/kernels.md says, on a GPU that need not be there."""
    monkeypatch.setattr(kernels.head, "compute_capability_major", lambda hidden: major)
    hidden = SimpleNamespace(dtype=dtype, is_cuda=True, shape=(8, size))
    assert kernels.head.choose_backend(hidden) == backend


@pytest.mark.skipif(DEVICE == "cuda", reason="on the CPU")
def test_bfloat16_without_a_gpu_is_the_twins():
    hidden, weight, targets, _ = head_inputs(9, 32, 70, torch.bfloat16)
    got = kernels.linear_logprob(hidden, weight, targets)
    assert torch.equal(got, kernels.linear_logprob_eager(hidden, weight, targets))
    with torch.autocast("cpu", torch.bfloat16):
        wide = hidden.float().requires_grad_()
        again = kernels.linear_logprob(wide, weight.float(), targets)
        again.sum().backward()
    torch.testing.assert_close(again, got)


@kernel_test
@pytest.mark.parametrize("backend", ["fused", "slab"])
def test_tied_weight_gets_both_gradients(backend):
    """The head's weight is the embedding: .grad is the sum over both uses."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(300, 48, generator=g, dtype=torch.float64).to(DEVICE)
    tokens = torch.randint(0, 300, (20,), generator=g).to(DEVICE)

    def grad(function, dtype, **more):
        table = start.to(dtype).clone().requires_grad_()
        function(table[tokens[:-1]].tanh(), table, tokens[1:], **more).sum().backward()
        return {"table": table.grad}

    require(
        grad(kernels.linear_logprob, torch.float32, backend=backend),
        grad(kernels.linear_logprob_eager, torch.float32),
        grad(kernels.linear_logprob_eager, torch.float64),
        torch.float32,
    )


@pytest.mark.parametrize(
    "backend", ["eager", *([] if DEVICE == "cpu" and not INTERPRETED else ["fused", "slab"])]
)
def test_what_is_frozen_costs_nothing(backend, monkeypatch):
    hidden, weight, targets, upstream = head_inputs(9, 32, 70, torch.float32)
    want = run_head(kernels.linear_logprob_eager, hidden, weight, targets, upstream)
    products = []

    def recorded(a, b):
        products.append((a.shape[0], b.shape[1]))
        return kernels.matmul32(a, b)

    for module in (kernels.head, kernels.head_eager, kernels.head_slab):
        monkeypatch.setattr(module, "matmul32", recorded)
    of_hidden, of_weight = (9, 32), (70, 32)
    for frozen in ("hidden", "weight"):
        h = hidden.clone().requires_grad_(frozen != "hidden")
        w = weight.clone().requires_grad_(frozen != "weight")
        logp = kernels.linear_logprob(h, w, targets, backend=backend)
        products.clear()
        logp.backward(upstream)
        if frozen == "hidden":
            assert sorted(products)[-1] != of_hidden and h.grad is None
            assert of_hidden not in products and of_weight in products
            torch.testing.assert_close(w.grad, want["d_weight"])
        else:
            assert sorted(products)[-1] != of_weight and h.grad is not None
            assert of_hidden in products and of_weight not in products
            torch.testing.assert_close(h.grad, want["d_hidden"])


def test_nothing_to_predict():
    hidden = torch.zeros(0, 16, device=DEVICE, requires_grad=True)
    weight = torch.randn(40, 16, device=DEVICE, requires_grad=True)
    logp = kernels.linear_logprob(hidden, weight, torch.zeros(0, dtype=torch.int64, device=DEVICE))
    logp.sum().backward()
    assert logp.shape == (0,) and (weight.grad == 0).all() and hidden.grad.shape == (0, 16)


def on_device(arguments):
    """Moves tensors to DEVICE with their strides, but for those that a test has put on meta.

    x.to(DEVICE) would close the gaps of a view such as x[::2], and make it contiguous."""
    moved = dict(arguments)
    for name, x in arguments.items():
        if isinstance(x, torch.Tensor) and x.device.type not in ("meta", DEVICE):
            there = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=DEVICE)
            moved[name] = there.copy_(x)
    return moved


@pytest.mark.parametrize("function", [kernels.linear_logprob, kernels.linear_logprob_eager])
@pytest.mark.parametrize(
    "change, error",
    [
        ({"hidden": torch.zeros(4)}, r"hidden is \[4\]; it must be \[T, D\]"),
        ({"weight": torch.zeros(8, 5)}, r"weight is \[8, 5\] and hidden \[4, 6\]"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, r"targets is \[3\] and hidden"),
        (
            {"targets": torch.zeros(4, dtype=torch.int32)},
            "targets is torch.int32; it must be int64",
        ),
        ({"targets": torch.tensor([0, 1, 8, 2])}, r"targets has 8; it must be in 0 \.\. 7"),
        ({"targets": torch.tensor([0, -100, 3, 2])}, r"targets has -100; it must be in 0 \.\. 7"),
        ({"targets": [0, 1, 2, 3]}, "targets is a list"),
        ({"hidden": torch.zeros(4, 6, dtype=torch.int64)}, "hidden is torch.int64"),
        (
            {"weight": torch.zeros(8, 6, dtype=torch.float16)},
            "weight is torch.float16 and hidden torch.float32",
        ),
        (
            {"weight": torch.zeros(6, 8).T},
            r"weight is not contiguous .*call weight.contiguous\(\)",
        ),
        ({"hidden": torch.zeros(4, 12)[:, ::2]}, "hidden is not contiguous"),
        ({"weight": torch.zeros(8, 6, device="meta")}, "weight is on meta and hidden on"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be a number above 0"),
        ({"temperature": None}, "temperature is None"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"hidden": [1.0]}, "hidden is a list"),
        ({"temperature": float("nan")}, "temperature is nan"),
    ],
)
def test_bad_input_of_the_head(function, change, error):
    good = {
        "hidden": torch.zeros(4, 6),
        "weight": torch.zeros(8, 6),
        "targets": torch.zeros(4, dtype=torch.int64),
        "temperature": 1.0,
    }
    with pytest.raises((TypeError, ValueError), match=error):
        function(**on_device({**good, **change}))


def test_a_dtensor_is_refused(monkeypatch):
    from torch.distributed.tensor import DeviceMesh, distribute_tensor

    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "0")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        weight = distribute_tensor(torch.zeros(8, 6), DeviceMesh("cpu", [0]))
        with pytest.raises(
            TypeError, match="weight is a DTensor.*forward of the module that owns the weight"
        ):
            kernels.linear_logprob(torch.zeros(4, 6), weight, torch.zeros(4, dtype=torch.int64))
        with pytest.raises(TypeError, match="logp is a DTensor"):
            kernels.gepo_group_loss(
                distribute_tensor(torch.zeros(4), DeviceMesh("cpu", [0])),
                torch.zeros(2),
                torch.zeros(4, dtype=torch.int64),
                torch.zeros(2, dtype=torch.int64),
                torch.tensor([True, False]),
                0.1,
                1.0,
            )
    finally:
        torch.distributed.destroy_process_group()


# ------------------------------------------------------------------ gepo_group_loss


def group_inputs(groups, longest, seed=0):
    """Ragged: 1 .. 5 winners and 1 .. 4 losers a group, 0 .. longest tokens a response, rhat of
    some nats."""
    g = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high + 1, (1,), generator=g))

    group, winner = [], []
    for i in range(groups):
        n, m = draw(1, 5), draw(1, 4)
        group += [i] * (n + m)
        winner += [True] * n + [False] * m
    sizes = torch.tensor([draw(0, longest) for _ in group])
    response = torch.arange(len(group)).repeat_interleave(sizes)
    logp = -torch.rand(len(response), generator=g)
    sum_logp = torch.zeros(len(group)).index_add_(0, response, logp)
    ref = sum_logp + 3 * torch.randn(len(group), generator=g)
    upstream = torch.randn(2, groups, generator=g)
    inputs = (logp, ref, response, torch.tensor(group), torch.tensor(winner), *upstream)
    return [x.to(DEVICE) for x in inputs]


def run_group_loss(function, logp, ref, response, group, winner, up_p, up_v, beta=0.3):
    logp = logp.detach().clone().requires_grad_()
    preference, variance = function(logp, ref, response, group, winner, beta, 1.0)
    torch.autograd.backward([preference, variance], [up_p.to(logp.dtype), up_v.to(logp.dtype)])
    return {"preference": preference.detach(), "variance": variance.detach(), "d_logp": logp.grad}


def require_group_loss(module, inputs, **more):
    logp, ref, *others = inputs
    twin = kernels.gepo_group_loss_eager
    truth = run_group_loss(twin, logp.double(), ref.double(), *others, **more)
    eager = run_group_loss(twin, *inputs, **more)
    kernel = run_group_loss(module.gepo_group_loss, *inputs, **more)
    require(kernel, eager, truth, torch.float32)


@kernel_test
@pytest.mark.parametrize(
    "groups, longest", [(1, 5), (40, 30), (3, 2500)]
)  # 2500: several blocks a response
@pytest.mark.parametrize("beta", [0.1, 30.0])  # 30: saturated on either side
def test_group_loss(groups, longest, beta):
    require_group_loss(kernels.group_loss, group_inputs(groups, longest), beta=beta)


@kernel_test
def test_group_loss_of_any_order():
    """Responses of a group apart from each other, tokens of a response apart from each other."""
    logp, ref, response, group, winner, *up = group_inputs(12, 20)
    g = torch.Generator().manual_seed(1)
    tokens, responses = (torch.randperm(len(x), generator=g).to(DEVICE) for x in (logp, ref))
    shuffled = [
        logp[tokens],
        ref[responses],
        responses.argsort()[response[tokens]],
        group[responses],
        winner[responses],
        *up,
    ]
    require_group_loss(kernels.group_loss, shuffled)
    straight = run_group_loss(kernels.gepo_group_loss, logp, ref, response, group, winner, *up)
    mixed = run_group_loss(kernels.gepo_group_loss, *shuffled)
    torch.testing.assert_close(mixed["d_logp"], straight["d_logp"][tokens])
    torch.testing.assert_close(mixed["preference"], straight["preference"])
    require_group_loss(
        kernels.group_loss, [logp[tokens], ref, response[tokens], group, winner, *up]
    )  # tokens alone
    places = responses.argsort()[response]
    order = places.argsort(stable=True)  # responses alone
    require_group_loss(
        kernels.group_loss,
        [logp[order], ref[responses], places[order], group[responses], winner[responses], *up],
    )


@kernel_test
def test_group_loss_of_one_sum_and_of_large_rhat():
    """An expanded upstream, one output unused; rhat in the thousands, where squares cancel."""
    logp, ref, response, group, winner, *up = group_inputs(12, 20)
    gradients = []
    for function in (kernels.gepo_group_loss, kernels.gepo_group_loss_eager):
        leaf = logp.clone().requires_grad_()
        function(leaf, ref, response, group, winner, 0.3, 1.0)[1].sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
    require_group_loss(kernels.group_loss, [logp, ref + 3000, response, group, winner, *up])


@kernel_test
def test_group_loss_is_the_same_bits_every_time():
    inputs = group_inputs(20, 1500)
    first, second = (run_group_loss(kernels.gepo_group_loss, *inputs) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"logp": torch.zeros(4, dtype=torch.bfloat16)}, "logp is torch.bfloat16"),
        ({"logp_ref": torch.zeros(2, dtype=torch.float64)}, "logp_ref is torch.float64"),
        (
            {"response": torch.tensor([0, 0, 1])},
            r"response is \[3\]; it must be \[N\] for N = 4 tokens in R = 2 responses",
        ),
        (
            {"response": torch.tensor([0, 0, 1, 2])},
            r"response goes from 0 to 2; it must be in 0 \.\. 1",
        ),
        ({"group": torch.tensor([-1, 0])}, "group goes from -1 to 0"),
        (
            {"group": torch.tensor([0, 1])},
            "group 0 has 1 winners and 0 losers; it needs one of each",
        ),
        ({"group": torch.tensor([1, 1])}, "group 0 has 0 winners and 0 losers"),
        ({"winner": torch.tensor([1, 0])}, "winner is torch.int64"),
        ({"logp": torch.zeros(8)[::2]}, "logp is not contiguous"),
        ({"logp": [0.0]}, "logp is a list"),
        ({"winner": None}, "winner is a NoneType"),
        ({"beta": float("nan")}, "beta is nan; it must be a finite number"),
        (
            {"winner": torch.zeros(2, dtype=torch.bool, device="meta")},
            "winner is on meta and logp on",
        ),
        (
            {
                "logp_ref": torch.zeros(0),
                "group": torch.zeros(0, dtype=torch.int64),
                "winner": torch.zeros(0, dtype=torch.bool),
            },
            "group is empty",
        ),
    ],
)
@pytest.mark.parametrize("function", [kernels.gepo_group_loss, kernels.gepo_group_loss_eager])
def test_bad_input_of_the_group_loss(function, change, error):
    good = {
        "logp": torch.zeros(4),
        "logp_ref": torch.zeros(2),
        "response": torch.tensor([0, 0, 1, 1]),
        "group": torch.tensor([0, 0]),
        "winner": torch.tensor([True, False]),
        "beta": 0.1,
        "lam": 1.0,
    }
    with pytest.raises((TypeError, ValueError), match=error):
        function(**on_device({**good, **change}))


# ------------------------------------------------------------------ would a wrong kernel be seen?


def test_the_rule_is_red_one_tolerance_off():
    """One element of one result moved by twice its tolerance: the rule must name it."""
    hidden, weight, targets, upstream = head_inputs(37, 48, 1187, torch.float32)
    truth = run_head(
        kernels.linear_logprob_eager, hidden.double(), weight.double(), targets, upstream
    )
    eager = run_head(kernels.linear_logprob_eager, hidden, weight, targets, upstream)
    kernel = run_head(kernels.linear_logprob, hidden, weight, targets, upstream)
    require(kernel, eager, truth, torch.float32)
    for name in truth:
        wrong = {k: v.clone() for k, v in kernel.items()}
        wrong[name].view(-1)[0] += 2 * tolerance(eager[name], truth[name], torch.float32)
        with pytest.raises(AssertionError, match=name):
            require(wrong, eager, truth, torch.float32)


HEAD = [
    # columns past V counted
    ("fused", "z, -3e38)", "z, 0.0)"),
    ("fused", "target // BLOCK_V == column_tile", "target // BLOCK_V == 0"),
    ("fused", "maximum + tl.sum(exp_z * z, 1) / sum_exp", "tl.sum(exp_z * z, 1) / sum_exp"),
    # one upstream for all
    (
        "fused",
        "scaled_grad = tl.load(grad_ptr + rows, mask=is_token, other=0.0) * scale",
        "scaled_grad = tl.load(grad_ptr + rows * 0) * scale",
    ),
    (
        "fused",
        "tl.load(grad_ptr + rows, mask=is_token, other=0.0) * scale",
        "tl.load(grad_ptr + rows, mask=is_token, other=0.0)",
    ),
    # the target of a later slice
    ("fused", "(cols + first_column)[None, :]", "cols[None, :]"),
    # the ragged end of D
    ("fused", "range(0, D, BLOCK_D)", "range(0, D - BLOCK_D + 1, BLOCK_D)"),
    ("fused", "z * scale\n", "z\n"),
    ("slab", "sum_exp = sum_exp * shrink", "sum_exp = sum_exp"),
    ("slab", "sum_exp_x = sum_exp_x * shrink", "sum_exp_x = sum_exp_x"),
    ("slab", "tl.load(targets_ptr + row) - first_column", "tl.load(targets_ptr + row)"),
    ("slab", 'mask=cols < v, other=-float("inf")) * scale', "mask=cols < v, other=0.0) * scale"),
    ("slab", "is_target = cols + first_column ==", "is_target = cols =="),
]
GROUPS = [
    ("rhat = sum_logp - tl.load(logp_ref_ptr + r)", "rhat = sum_logp"),
    ("deviation * (x - mean)", "deviation * deviation"),
    ("mask=token < end, other=0.0", "mask=token >= 0, other=0.0"),
    ("squares / n)", "squares / tl.maximum(n - 1, 1.0))"),
    ("2 * d_variance *", "d_variance *"),
    ("d_preference * slope / m", "d_preference * slope / n"),
    ("tl.where(z > 0, e, 1.0)", "1.0"),
    ("tl.maximum(-z, 0.0)", "tl.maximum(z, 0.0)"),
]


@kernel_test
@pytest.mark.parametrize("backend, old, new", HEAD, ids=[x[1] for x in HEAD])
def test_a_wrong_head_is_red(backend, old, new, tmp_path, monkeypatch):
    right = kernels.head.BACKENDS[backend]
    wrong = mutated(right.__file__, old, new, tmp_path)
    monkeypatch.setitem(kernels.head.BACKENDS, backend, wrong)
    monkeypatch.setattr(kernels.head_eager, "SLAB_TOKENS", 24)
    monkeypatch.setattr(kernels.head_eager, "SLAB_COLUMNS", 700)
    monkeypatch.setattr(kernels.head, "WORKSPACE", 1)
    with pytest.raises(AssertionError, match="off by|not finite"):
        require_head(backend, (37, 48, 1187), torch.float32, temperature=0.7)


@kernel_test
@pytest.mark.parametrize("old, new", GROUPS, ids=[x[0] for x in GROUPS])
def test_a_wrong_group_loss_is_red(old, new, tmp_path):
    module = mutated(kernels.group_loss.__file__, old, new, tmp_path)
    with pytest.raises(AssertionError, match="off by|not finite"):
        require_group_loss(module, group_inputs(12, 30))


# ------------------------------------------------------------------ on the training path

PEAK = """
import resource, torch
from groups import Group, backward_tokens
from model import ModelConfig, Transformer

def draw(tokens):
    return torch.randint(0, 151_936, (tokens,))

def upstream(g, i, logp):
    return (logp * torch.linspace(-1, 1, len(logp))).sum()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

model = Transformer(ModelConfig(
    vocab_size=151_936, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=1, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True))
small = [Group(draw(9), [draw(9)])]
groups = [Group(draw(20), [draw(400) for _ in range(5)])]
backward_tokens(model, small, 10_000, upstream)
before = peak()
backward_tokens(model, groups, 10_000, upstream)
print(peak() - before)
"""


@pytest.mark.skipif(INTERPRETED, reason="the eager twin's memory")
def test_no_logits_on_the_training_path():
    """2,000 tokens x 151,936 float32 are 1,159 MiB; forward and backward of all may take little
    more than WORKSPACE."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 256 + 150, f"{done.stdout.strip()} MiB"
