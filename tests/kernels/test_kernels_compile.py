"""Every kernel compiles ahead of time, without a GPU, for Ampere, Hopper and Blackwell: its tensor-core instruction is there,
its shared memory fits and no register spills. `pytest -s tests/test_kernels_compile.py` prints the numbers."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import kernels.group_loss as groups
import kernels.head as head

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
NAME = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
SHARED = {
    80: 163,
    90: 227,
    100: 227,
}  # KiB a block may have (CUDA programming guide, compute capabilities)
MMA = {80: "mma.sync", 90: "wgmma", 100: "tcgen05.mma"}


def compiled(kernel, arch, dtype, constants, options, tmp_path):
    """-> (shared bytes, registers, bytes of stack and local memory: what spills, PTX)"""
    kind, signature, attributes = "*" + NAME[dtype], {}, {}
    pointers = {
        **dict.fromkeys(("hidden", "weight", "out"), kind),
        "z": "*fp32",
        "winner": "*i8",
        **dict.fromkeys(("targets", "response", "group", "first_token", "first_response"), "*i64"),
    }
    scalars = {
        "scale": "fp32",
        "beta": "fp32",
        **dict.fromkeys(("T", "V", "D", "n", "N", "G", "first", "stride"), "i32"),
    }
    for i, name in enumerate(kernel.arg_names):
        signature[name] = (
            "constexpr" if name in constants else scalars.get(name) or pointers.get(name, "*fp32")
        )
        if signature[name].startswith("*") or name in ("T", "V", "D", "n", "stride"):
            attributes[i,] = [["tt.divisibility", 16]]  # as the launcher finds them at real sizes
    got = triton.compile(
        ASTSource(kernel, signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", arch, 32),
        options=options,
    )
    (tmp_path / "kernel.cubin").write_bytes(got.asm["cubin"])
    usage = subprocess.run(
        [CUOBJDUMP, "-res-usage", tmp_path / "kernel.cubin"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    registers, stack, local = (
        int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK", "LOCAL")
    )
    print(
        f"sm_{arch} {kernel.__name__:15} {NAME[dtype]} {constants} {options}: {got.metadata.shared / 1024:.0f} KiB shared, "
        f"{registers} registers, {stack + local} bytes spilled"
    )
    return got.metadata.shared, registers, stack + local, got.asm["ptx"]


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("dtype", NAME, ids=str)
@pytest.mark.parametrize("arch", SHARED)
def test_tiles(arch, dtype, even, tmp_path):
    config = head._tile_config(dtype, arch // 10)
    options = {k: config.pop(k) for k in ("num_warps", "num_stages", "enable_fp_fusion")}
    for kernel, more in (
        (head._forward_tile, {"ENTROPY": False}),
        (head._forward_tile, {"ENTROPY": True}),
        (head._dlogits_tile, {}),
    ):
        shared, registers, spilled, ptx = compiled(
            kernel, arch, dtype, {**config, "EVEN_D": even, **more}, options, tmp_path
        )
        assert shared <= SHARED[arch] * 1024 and registers <= 255 and spilled == 0
        assert (MMA[arch] in ptx) == (
            dtype != torch.float32
        )  # float32 is multiplied as float32, not as tf32


@pytest.mark.parametrize("arch", SHARED)
def test_rows_and_groups(arch, tmp_path):
    for kernel, constants in (
        (head._forward_rows, {"ENTROPY": False, "BLOCK": 1024}),
        (head._forward_rows, {"ENTROPY": True, "BLOCK": 1024}),
        (head._dlogits_rows, {"BLOCK": 1024}),
        (groups._forward_groups, {"BLOCK": groups.BLOCK}),
        (groups._backward_tokens, {"BLOCK": groups.BLOCK}),
    ):
        options = dict(num_warps=4, enable_fp_fusion=kernel is head._dlogits_rows)
        shared, _, spilled, _ = compiled(kernel, arch, torch.bfloat16, constants, options, tmp_path)
        assert shared <= 4096 and spilled == 0


def test_the_slab_kernels_are_not_compiled_per_slab():
    """A kernel is compiled anew for each divisibility of an integer argument; all slabs but the last are alike."""
    assert all(v % 16 == 0 for v in head.SLAB)
