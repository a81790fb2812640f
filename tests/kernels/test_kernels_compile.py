"""Every kernel compiles ahead of time, without a GPU, for Ampere, Hopper and Blackwell.

Its tensor-core instruction is there, its shared memory fits and no register spills.
`pytest -s tests/kernels/test_kernels_compile.py` prints the numbers.
"""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import decode, group_loss, head_eager, head_fused, head_slab, sample

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
NAME = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
# KiB a block may have (CUDA programming guide, compute capabilities)
SHARED = {80: 163, 90: 227, 100: 227}
MMA = {80: "mma.sync", 90: "wgmma", 100: "tcgen05.mma"}


# of the dtype of the inputs
INPUTS = ("hidden_ptr", "weight_ptr", "out_ptr", "q_ptr", "keys_ptr", "values_ptr")
INT64 = ("targets_ptr", "response_ptr", "group_ptr", "first_token_ptr", "first_response_ptr")
INT64 += ("lengths_ptr", "tile_ptr", "tokens_ptr")
FLOATS = ("scale", "beta")
SIZES = (
    "T",
    "V",
    "D",
    "v",
    "out_stride",
    "key_stride",
    "value_stride",
)  # multiples of 16 at real sizes


@dataclass
class Compiled:
    shared: int  # bytes of shared memory
    registers: int  # per thread
    spilled: int  # bytes of stack and local memory
    ptx: str


def argument_type(name, dtype, constants):
    if name in constants:
        return "constexpr"
    if name in INPUTS:
        return "*" + NAME[dtype]
    if name in INT64:
        return "*i64"
    if name == "winner_ptr":
        return "*i8"
    if name.endswith("_ptr"):
        return "*fp32"
    return "fp32" if name in FLOATS else "i32"


def compiled(kernel, arch, dtype, constants, options, tmp_path):
    # A launch takes as constants only what is annotated so; here they are handed over.
    assert {p.name for p in kernel.params if p.is_constexpr} == set(constants)
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        signature[name] = argument_type(name, dtype, constants)
        if name.endswith("_ptr") or name in SIZES:
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
        f"sm_{arch} {kernel.__name__:15} {NAME[dtype]} {constants} {options}: "
        f"{got.metadata.shared / 1024:.0f} KiB shared, {registers} registers, "
        f"{stack + local} bytes spilled"
    )
    return Compiled(got.metadata.shared, registers, stack + local, got.asm["ptx"])


# float16 on one architecture: its tiles are bfloat16's, as the next test says.
TILES = [(arch, dtype) for arch in SHARED for dtype in NAME if dtype != torch.float16 or arch == 90]


@pytest.mark.parametrize("arch", SHARED)
def test_float16_is_laid_out_as_bfloat16(arch):
    half = head_fused._tile_config(torch.float16, arch // 10)
    assert half == head_fused._tile_config(torch.bfloat16, arch // 10)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("arch, dtype", TILES, ids=str)
def test_tiles(arch, dtype, even, tmp_path):
    config = head_fused._tile_config(dtype, arch // 10)
    options = {k: config.pop(k) for k in ("num_warps", "num_stages", "enable_fp_fusion")}
    for kernel, more in (
        (head_fused._forward_tile, {"ENTROPY": False}),
        (head_fused._forward_tile, {"ENTROPY": True}),
        (head_fused._dlogits_tile, {}),
    ):
        constants = {**config, "EVEN_D": even, **more}
        got = compiled(kernel, arch, dtype, constants, options, tmp_path)
        assert got.shared <= SHARED[arch] * 1024 and got.registers <= 255 and got.spilled == 0
        # float32 is multiplied as float32, not as tf32
        assert (MMA[arch] in got.ptx) == (dtype != torch.float32)


@pytest.mark.parametrize("arch", SHARED)
def test_rows_and_groups(arch, tmp_path):
    for kernel, constants in (
        (head_slab._forward_rows, {"ENTROPY": False, "BLOCK": head_slab.BLOCK}),
        (head_slab._forward_rows, {"ENTROPY": True, "BLOCK": head_slab.BLOCK}),
        (head_slab._dlogits_rows, {"BLOCK": head_slab.BLOCK}),
        (group_loss._forward_groups, {"BLOCK": group_loss.BLOCK}),
        (group_loss._backward_tokens, {"BLOCK": group_loss.BLOCK}),
    ):
        options = {"num_warps": 4, "enable_fp_fusion": kernel is head_slab._dlogits_rows}
        got = compiled(kernel, arch, torch.bfloat16, constants, options, tmp_path)
        assert got.shared <= 4096 and got.spilled == 0


def test_the_slab_kernels_are_not_compiled_per_slab():
    """A kernel is compiled anew for each divisibility of an integer argument; all slabs but the
    last are alike."""
    assert head_eager.SLAB_TOKENS % 16 == 0
    assert head_eager.SLAB_COLUMNS % 16 == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("arch", SHARED)
def test_decoding(arch, dtype, tmp_path):
    launches = []
    for group, head_dim in ((4, 128), (8, 256)):
        config = decode._part_config(dtype, group, head_dim)
        constants = {"GROUP": group, "E": head_dim, **config}
        launches.append((decode._attend_part, constants))
        merged = {"E": head_dim, "BLOCK_E": head_dim, **decode.MERGE_CONFIG}
        launches.append((decode._merge_parts, merged))
    for sequences in (1, 256):
        constants = {"EVEN_D": True, **sample._tile_config(dtype, sequences)}
        launches.append((sample._summarise_tile, constants))
    launches.append((sample._draw_in_tile, dict(sample.DRAW_CONFIG)))
    for kernel, constants in launches:
        options = {k: constants.pop(k) for k in ("num_warps", "num_stages") if k in constants}
        got = compiled(kernel, arch, dtype, constants, options, tmp_path)
        assert got.shared <= SHARED[arch] * 1024 and got.registers <= 255 and got.spilled == 0
