"""The CUDA branches of sampling, of both halves of a step, of the optimiser and of loading, without
a GPU.

Fake tensors have a device, a dtype and a shape, but no values. On a fake GPU a mixture of devices
or a wrong dtype is an error as on a real one, and launches of Triton's kernels are left out. What
this cannot show: numbers, speed, launches, backward passes (autograd's engine wants a real
accelerator), NCCL.

A torch without CUDA cannot index tensors on a fake GPU until something stands in for the guard that
switches devices; it is two lines of C++, and stays for good. So the tests run in a process of their
own.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import groups as groups_module
import kernels.group_loss
import rollout
import train
from config import Config
from groups import Group
from hf import weights as weights_module
from model import ModelConfig, Transformer, load_model, save_model
from step_records import ir_groups_of, samples_of
from training.optimizer import make_optimizer, optimizer_step

GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace c10::impl { C10_REGISTER_GUARD_IMPL(CUDA, NoOpDeviceGuardImpl<DeviceType::CUDA>) }
"""
LIBRARY = os.environ.get("OORL_FAKE_GUARD")
fake_gpu_test = pytest.mark.skipif(not LIBRARY, reason="runs in test_in_a_process_of_its_own")
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
CONFIG = ModelConfig(61, 32, 40, 2, 4, 2, 16, tie_word_embeddings=True)


@pytest.mark.skipif(bool(LIBRARY), reason="this is it")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real one")
def test_in_a_process_of_its_own(tmp_path):
    torch_folder = Path(torch.__file__).parent
    source, library = tmp_path / "guard.cpp", tmp_path / "guard.so"
    source.write_text(GUARD)
    compile_it = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder}/include", source]
    subprocess.run([*compile_it, "-o", library, f"-L{torch_folder}/lib", "-lc10"], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        capture_output=True,
        text=True,
        env={**os.environ, "OORL_FAKE_GUARD": str(library)},
        timeout=300,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-6000:] + done.stderr


class Values(TorchDispatchMode):
    """Gives the host a 1 where it reads a value, and counts how often it waits for the GPU."""

    def __init__(self):
        super().__init__()
        self.waits = 0
        self.sizes = []  # of the results of repeat_interleave, as the test knows them

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.waits += args[0].is_cuda
            return torch.tensor(1, dtype=args[0].dtype).item()
        if function is torch.ops.aten.repeat_interleave.Tensor:  # its size is a value
            assert not args[0].is_cuda, "waits for the GPU"
            return torch.zeros(self.sizes.pop(0), dtype=torch.int64)
        if function in INDEXING:
            indices = [index for index in args[1] if index is not None]
            self.waits += args[0].is_cuda and not all(index.is_cuda for index in indices)
            if not args[0].is_cuda and indices[0].dtype == torch.bool:
                return args[0][:1]  # its size is a value
        if function in PRODUCTS:  # fake tensors do not look
            dtypes = {x.dtype for x in args if isinstance(x, torch.Tensor)}
            assert len(dtypes) == 1, f"{function} of {dtypes}"
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default:
            self.waits += args[0].is_cuda and not result.is_cuda
        return result


@pytest.fixture
def gpu(monkeypatch):
    """A fake GPU, on which values are 1."""
    from triton.runtime import jit

    ctypes.CDLL(LIBRARY)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    launched = []

    def launch(kernel, *args, grid, **options):
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        assert tensors and all(x.is_cuda for x in tensors), f"{kernel}: a tensor on the host"
        launched.append(kernel.__name__)

    monkeypatch.setattr(jit.JITFunction, "run", launch)
    # autograd's engine wants a real accelerator
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, inputs: (torch.zeros_like(inputs),))
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)
    with FakeTensorMode(allow_non_fake_inputs=True), Values() as values:
        values.launched = launched
        yield values


@pytest.fixture
def policy(gpu):
    with torch.device("cuda"):
        model = Transformer(CONFIG)
    weights = {name: p.detach().bfloat16() for name, p in model.named_parameters()}
    return model._set_weights(weights, "cuda")


def draw(tokens):
    return torch.zeros(tokens, dtype=torch.int64)


GROUP_SIZES = [(5, [7, 1, 4]), (9, [6, 2])]


def groups():
    return [Group(draw(p), [draw(n) for n in sizes]) for p, sizes in GROUP_SIZES]


@fake_gpu_test
def test_it_is_as_strict_as_a_gpu(gpu):
    on_gpu, on_cpu = torch.zeros(3, device="cuda"), torch.zeros(3)
    with pytest.raises(RuntimeError, match="device"):
        on_gpu + on_cpu
    with pytest.raises(AssertionError, match="bfloat16"):
        torch.zeros(3, 3, device="cuda") @ torch.zeros(3, 3, device="cuda", dtype=torch.bfloat16)
    assert gpu.waits == 0
    on_gpu.sum().item()
    on_gpu.cpu()
    assert gpu.waits == 2
    with pytest.raises(DynamicOutputShapeException):
        on_gpu.nonzero()


@fake_gpu_test
def test_sampling(gpu, policy, monkeypatch):
    monkeypatch.setattr(rollout.Engine, "_uses_graphs", lambda engine: False)
    out = rollout.generate(policy, [[1, 2, 3], [4]], 3, 20, 1.0, [60], seed=0)
    assert [len(response) for group in out for response in group.responses] == [20] * 6
    layers = CONFIG.num_hidden_layers
    steps = 24  # 19 tokens after the first, looked at every 8
    assert gpu.launched.count("_attend_part") == layers * steps
    assert gpu.launched.count("_draw_in_tile") == steps + 1


@fake_gpu_test
def test_a_step_of_sampling_waits_for_nothing(gpu, policy):
    engine = rollout.Engine(policy, rollout.Settings(9, 1.0, {0}, 0), rows=5, capacity=20)
    gpu.waits = 0
    with torch.no_grad():
        engine._draw_next(3, end=20)
    assert gpu.waits == 0


@fake_gpu_test
@pytest.mark.parametrize("rhat_dtype", ["compute", "float32"])
def test_the_off_policy_half(gpu, policy, rhat_dtype, monkeypatch):
    monkeypatch.setattr(groups_module, "_varlen_is_right", lambda *arguments: False)
    sizes = [len(responses) for _, responses in GROUP_SIZES]
    winners = [torch.arange(size) < 1 for size in sizes]
    gpu.sizes = [5, 20]  # members, tokens
    monkeypatch.setattr(train, "margin_of", lambda *arguments: 0.0)  # a value, for the log
    count = len(GROUP_SIZES)  # what the check of values returns
    monkeypatch.setattr(kernels.group_loss, "check_group_loss", lambda *arguments: count)
    ir_groups = ir_groups_of(groups(), winners, [torch.zeros(size) for size in sizes])
    metrics = train.off_policy_half(policy, Config(rhat_dtype=rhat_dtype), ir_groups)
    assert "gepo_loss" in metrics


@fake_gpu_test
def test_the_on_policy_half_and_the_optimiser(gpu, policy, monkeypatch):
    monkeypatch.setattr(groups_module, "_varlen_is_right", lambda *arguments: False)
    config = Config()
    logps = groups_module.frozen_logprobs(policy, groups(), 50, 0.7)
    assert all(x.device.type == "cpu" for of_group in logps for x in of_group)
    samples = samples_of(groups(), logps, logps)
    for sample in samples:
        sample.verdict = None
    monkeypatch.setattr(type(samples[0]), "is_judged", True)
    metrics = train.on_policy_half(policy, config, samples)
    assert metrics["policy_loss"] == 1
    assert gpu.launched
    optimizer = make_optimizer(config, policy)
    for p in policy.parameters():
        p.grad = torch.zeros_like(p)
    assert optimizer.defaults["fused"]
    update = optimizer_step(policy, optimizer, 1e-3, [metrics["policy_loss"]])
    assert not update.skipped and all(p.grad is None for p in policy.parameters())


class FakeFile:
    """safetensors' file, whose tensors are fake."""

    def __init__(self, path, framework, device):
        self.device = device
        self.file = safe_open(path, framework)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.__exit__(None, None, None)

    def keys(self):
        return self.file.keys()

    def get_slice(self, name):
        self.shape = self.file.get_slice(name).get_shape()
        return self

    def get_shape(self):
        return self.shape

    def __getitem__(self, rows):
        return torch.zeros(self.shape, device=self.device)[rows]


@fake_gpu_test
def test_loading_to_it(gpu, tmp_path, monkeypatch):
    with torch.utils._python_dispatch._disable_current_modes():
        save_model(Transformer(CONFIG), tmp_path)
    monkeypatch.setattr(weights_module, "safe_open", FakeFile)
    model = load_model(tmp_path, "cuda", torch.bfloat16)
    assert model.device.type == "cuda" and model.dtype == torch.bfloat16
    assert all(p.is_cuda for p in model.parameters())
