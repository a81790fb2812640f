"""What the tests of all kernels share: where kernels run, and the rule they are held to.

Truth is the eager twin in float64, e the twin and k the kernel in the dtype, and
|k - truth| <= 2 |e - truth| + atol * max|truth|, at its maximum and in its mean.

On a GPU the kernels run there, in float32, float16 and bfloat16. Without one they run in Triton's
interpreter, which must be asked for before triton is imported: in_the_interpreter starts a file of
tests again with TRITON_INTERPRET=1 (bfloat16 is left out there: the interpreter multiplies its bit
patterns).
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
kernel_test = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED, reason="runs in test_in_the_interpreter"
)
not_in_the_interpreter = pytest.mark.skipif(
    DEVICE == "cuda" or INTERPRETED, reason="the kernels run here"
)
ATOL = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
DTYPES = list(ATOL)[: None if DEVICE == "cuda" else 2]


def in_the_interpreter(file):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        timeout=500,
    )
    assert done.returncode == 0 and " passed" in done.stdout, (
        done.stdout[-6000:] + done.stderr[-2000:]
    )


def require(kernel, eager, truth, dtype):
    """The rule. dict of tensors each -> AssertionError naming what is off."""
    for name in truth:
        t = truth[name].double()
        k = (kernel[name].double() - t).abs()
        e = (eager[name].double() - t).abs()
        atol = ATOL[dtype] * t.abs().max()
        assert k.isfinite().all(), f"{name}: not finite"
        assert k.max() <= 2 * e.max() + atol and k.mean() <= 2 * e.mean() + atol, (
            f"{name}: off by {k.max():.2e} (mean {k.mean():.2e}), "
            f"the twin by {e.max():.2e} ({e.mean():.2e}), atol {atol:.2e}"
        )


def mutated(path, old, new, folder):
    """The module in the file `path` with one place of its text changed."""
    source = Path(path).read_text()
    assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {path}"
    (folder / "wrong.py").write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location("wrong", folder / "wrong.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
