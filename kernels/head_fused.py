"""The `fused` backend of kernels/head.py: Triton, a tile of logits in the registers of a program.

Only what is wanted of a tile leaves the chip: forward stores its log-sum-exp and the target's
logit, backward stores the gradient in its logits.

    _forward_tile      per tile and token: log-sum-exp, mean of the logits; the target's logit
    _dlogits_tile      the gradient in the logits of one slice of the vocabulary
    _logits_tile       the matrix product that both begin with
    _tile_of_program   which tile a program works on

    T   tokens            BLOCK_T   tokens of a tile
    V   vocabulary, or the slice of it that backward works on            BLOCK_V   columns of a tile
    D   hidden size       BLOCK_D   how much of it is multiplied at a time
"""

import torch
import triton
import triton.language as tl


def forward(hidden, weight, targets, temperature, entropy):
    """As head_eager.forward."""
    T, D = hidden.shape
    V = len(weight)
    config = _tile_config(hidden.dtype, compute_capability_major(hidden))
    column_tiles = triton.cdiv(V, config["BLOCK_V"])
    tile_lse = torch.empty(column_tiles, T, device=hidden.device, dtype=torch.float32)
    tile_mean = torch.empty_like(tile_lse) if entropy else tile_lse  # not written without entropy
    target_logit = torch.empty(T, device=hidden.device, dtype=torch.float32)
    _forward_tile[_grid(T, V, config)](
        hidden,
        weight,
        targets,
        tile_lse,
        tile_mean,
        target_logit,
        T,
        V,
        D,
        1 / temperature,
        ENTROPY=entropy,
        EVEN_D=D % config["BLOCK_D"] == 0,
        **config,
    )
    lse = tile_lse.logsumexp(0)
    logp = target_logit - lse
    if not entropy:
        return logp, lse, None
    # -sum_v p_v log p_v = sum_v p_v (lse - z_v), summed tile by tile
    tile_probability = (tile_lse - lse).exp()
    return logp, lse, (tile_probability * (lse - tile_mean)).sum(0)


def dlogits(hidden, weight, first_column, targets, lse, grad, temperature):
    """As head_eager.dlogits, in the dtype of hidden."""
    T, D = hidden.shape
    V = len(weight)
    config = _tile_config(hidden.dtype, compute_capability_major(hidden))
    out = torch.empty(T, V, device=hidden.device, dtype=hidden.dtype)
    _dlogits_tile[_grid(T, V, config)](
        hidden,
        weight,
        targets,
        lse,
        grad,
        out,
        T,
        V,
        D,
        1 / temperature,
        first_column,
        EVEN_D=D % config["BLOCK_D"] == 0,
        **config,
    )
    return out


def compute_capability_major(x):
    """8 on Ampere, 9 on Hopper, 10 on Blackwell; 9 for a tensor on the CPU (the interpreter)."""
    if not x.is_cuda:
        return 9
    return torch.cuda.get_device_capability(x.device)[0]


def _tile_config(dtype, major):
    """Tile sizes and launch options for a dtype and a compute capability.

    tests/kernels/test_kernels_compile.py holds them free of register spills."""
    if dtype == torch.float32:
        tile = {"BLOCK_T": 64, "BLOCK_V": 64, "BLOCK_D": 32, "num_warps": 4, "num_stages": 3}
    elif major == 9:
        # Hopper: 192 KiB of its 228 KiB of shared memory. With 8 warps what follows the matrix
        # product spills.
        tile = {"BLOCK_T": 128, "BLOCK_V": 256, "BLOCK_D": 64, "num_warps": 16, "num_stages": 4}
    else:
        tile = {"BLOCK_T": 128, "BLOCK_V": 128, "BLOCK_D": 64, "num_warps": 8, "num_stages": 3}
    # enable_fp_fusion is set here because its default changes in Triton 3.10
    return {**tile, "enable_fp_fusion": True}


def _grid(T, V, config):
    """One program per tile of the [T, V] logits."""
    return (triton.cdiv(T, config["BLOCK_T"]) * triton.cdiv(V, config["BLOCK_V"]),)


@triton.jit
def _forward_tile(
    hidden_ptr,  # [T, D], e.g. 8192 x 4096, bfloat16
    weight_ptr,  # [V, D], e.g. 151936 x 4096, of the same dtype
    targets_ptr,  # [T] int64
    tile_lse_ptr,  # out: [column tiles, T] float32: log-sum-exp over a tile's columns
    tile_mean_ptr,  # out: [column tiles, T] float32: mean of z under the softmax within the tile
    target_logit_ptr,  # out: [T] float32
    T,
    V,
    D,
    scale,  # 1 / temperature
    ENTROPY: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EVEN_D: tl.constexpr,
):
    """Forward for one tile. tile_mean is written only with ENTROPY."""
    rows, cols, column_tile, z = _logits_tile(
        hidden_ptr, weight_ptr, T, V, D, scale, BLOCK_T, BLOCK_V, BLOCK_D, EVEN_D
    )
    is_token = rows < T
    # V is rarely a multiple of BLOCK_V. Not -inf: 0 * -inf would be NaN in the mean
    z = tl.where((cols < V)[None, :], z, -3e38)

    # the target's logit comes from the same z as the log-sum-exp: both are rounded alike
    target = tl.load(targets_ptr + rows, mask=is_token, other=-1)
    target_logit = tl.sum(tl.where(cols[None, :] == target[:, None], z, 0.0), 1)
    has_target = target // BLOCK_V == column_tile  # true in one tile of a row: one writer
    tl.store(target_logit_ptr + rows, target_logit, mask=is_token & has_target)

    maximum = tl.max(z, 1)
    z = z - maximum[:, None]
    exp_z = tl.exp(z)
    sum_exp = tl.sum(exp_z, 1)  # >= 1, so that a log-prob is <= 0
    out = column_tile.to(tl.int64) * T + rows
    tl.store(tile_lse_ptr + out, maximum + tl.log(sum_exp), mask=is_token)
    if ENTROPY:
        tl.store(tile_mean_ptr + out, maximum + tl.sum(exp_z * z, 1) / sum_exp, mask=is_token)


@triton.jit
def _dlogits_tile(
    hidden_ptr,  # [T, D], e.g. 8192 x 4096, bfloat16
    weight_ptr,  # [V, D], one slice of the weight, e.g. 5376 x 4096, of the same dtype
    targets_ptr,  # [T] int64, in the whole vocabulary
    lse_ptr,  # [T] float32, saved by forward
    grad_ptr,  # [T] float32, the upstream gradient
    out_ptr,  # out: [T, V], of the dtype of hidden
    T,
    V,
    D,
    scale,  # 1 / temperature
    first_column,  # where the slice begins in the vocabulary
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EVEN_D: tl.constexpr,
):
    """The gradient in the logits (before the temperature) of one tile."""
    rows, cols, _, z = _logits_tile(
        hidden_ptr, weight_ptr, T, V, D, scale, BLOCK_T, BLOCK_V, BLOCK_D, EVEN_D
    )
    is_token = rows < T
    lse = tl.load(lse_ptr + rows, mask=is_token, other=0.0)
    p = tl.exp(z - lse[:, None])
    target = tl.load(targets_ptr + rows, mask=is_token, other=-1)
    is_target = (cols + first_column)[None, :] == target[:, None]
    scaled_grad = tl.load(grad_ptr + rows, mask=is_token, other=0.0) * scale
    gradient = (tl.where(is_target, 1.0, 0.0) - p) * scaled_grad[:, None]
    tl.store(
        out_ptr + rows.to(tl.int64)[:, None] * V + cols[None, :],
        gradient.to(out_ptr.dtype.element_ty),
        mask=is_token[:, None] & (cols < V)[None, :],
    )


@triton.jit
def _logits_tile(
    hidden_ptr,  # [T, D], e.g. 8192 x 4096, bfloat16
    weight_ptr,  # [V, D], e.g. 151936 x 4096, of the same dtype
    T,
    V,
    D,
    scale,  # 1 / temperature
    BLOCK_T,
    BLOCK_V,
    BLOCK_D,
    EVEN_D,
):
    """This program's tile of the logits z = hidden @ weight.T * scale.

    -> rows [BLOCK_T], columns [BLOCK_V], the column tile's number, z [BLOCK_T, BLOCK_V] float32."""
    row_tile, column_tile = _tile_of_program(T, V, BLOCK_T, BLOCK_V)
    rows = row_tile * BLOCK_T + tl.arange(0, BLOCK_T)
    cols = column_tile * BLOCK_V + tl.arange(0, BLOCK_V)
    d = tl.arange(0, BLOCK_D)
    # Past the end of T and V addresses wrap around: the memory is valid, and the caller masks the
    # result. That spares a mask on every load. int64, because T * D may pass 2^31.
    hidden_tile = hidden_ptr + (rows % T).to(tl.int64)[:, None] * D + d[None, :]
    weight_tile = weight_ptr + (cols % V).to(tl.int64)[None, :] * D + d[:, None]
    z = tl.zeros((BLOCK_T, BLOCK_V), tl.float32)
    for start in range(0, D, BLOCK_D):
        if EVEN_D:
            h = tl.load(hidden_tile)
            w = tl.load(weight_tile)
        else:
            h = tl.load(hidden_tile, mask=d[None, :] < D - start, other=0.0)
            w = tl.load(weight_tile, mask=d[:, None] < D - start, other=0.0)
        z = tl.dot(h, w, z, input_precision="ieee")  # float32 is multiplied as float32, not tf32
        hidden_tile += BLOCK_D
        weight_tile += BLOCK_D
    return rows, cols, column_tile, z * scale


@triton.jit
def _tile_of_program(T, V, BLOCK_T, BLOCK_V):
    """Which tile of the [T, V] logits this program works on. -> its row tile, its column tile.

    Programs start about in the order of their numbers, and those that run at the same time share
    the L2 cache. So row tiles are taken in bands of BAND = 8. Within a band the numbers go down
    the BAND tiles of a column before they go one column on:

        band 0:   0  8 16 ...        The row tiles of a band move along V together. A piece of
                  1  9 17 ...        weight that the first of them has read from memory is in L2
                  :  :  :            when the other 7 read it, so weight is read from memory once
                  7 15 23 ...        per band and not once per row tile.
    """
    BAND: tl.constexpr = 8  # row tiles of a band
    row_tiles = tl.cdiv(T, BLOCK_T)
    column_tiles = tl.cdiv(V, BLOCK_V)
    programs_in_band = BAND * column_tiles
    program = tl.program_id(0)
    band = program // programs_in_band
    first_row_tile = band * BAND
    band_height = min(row_tiles - first_row_tile, BAND)  # the last band may be lower
    number_in_band = program % programs_in_band
    row_tile = first_row_tile + number_in_band % band_height
    column_tile = number_in_band // band_height
    return row_tile, column_tile
