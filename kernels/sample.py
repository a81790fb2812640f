"""The next token of every sequence, drawn from its hidden row without the [B, V] logits.

    z = hidden @ weight.T / temperature      p = softmax(z)      cumulated[v] = p[0] + ... + p[v]
    the token is the first v with cumulated[v] > u      its log-prob is z[v] - logsumexp(z)

One uniform number u decides a token, by the inverse of the distribution function: the distribution
is exactly the softmax. (Adding Gumbel noise is as exact, but takes a number for every column.)

The kernels go over the vocabulary once and keep of every tile of columns its log-sum-exp and its
maximum, [B, tiles]. These tell in which tile u falls, and the logits of that tile alone are
computed again.

    B   sequences        D   hidden size        V   vocabulary

Left out: top-k and top-p, after which samples are not those of the policy that is trained.
"""

import torch
import triton
import triton.language as tl

from kernels.checks import check_sample
from kernels.head_eager import matmul32
from kernels.head_fused import _logits_tile

GREEDY = -1.0  # in place of u: the most probable token
BLOCK_V = 128  # columns of a tile
DRAW_CONFIG = {"BLOCK_V": BLOCK_V, "BLOCK_D": 128, "num_warps": 8}
BELOW_ONE = 1 - 2**-24  # the largest float32 under 1


def sample_tokens(hidden, weight, uniform, temperature=1.0):
    """The next tokens [B] int64 and their log-probs [B] float32.

    hidden [B, D], weight [V, D]: float32, bfloat16 or float16. On a CPU the weight may be wider
    than hidden. uniform [B] float64, each in [0, 1) or GREEDY. temperature: above 0.
    Triton on CUDA and under TRITON_INTERPRET=1, the eager twin elsewhere and for float64. Nothing
    is read back, so that a CUDA graph can hold the call. NaN in the logits gives a log-prob of NaN.
    Raises TypeError or ValueError that names the argument."""
    check_sample(hidden, weight, uniform, temperature)
    interpreted = triton.knobs.runtime.interpret and hidden.dtype != torch.bfloat16
    if hidden.dtype == torch.float64 or not (hidden.is_cuda or interpreted):
        return sample_tokens_eager(hidden, weight, uniform, temperature)
    with torch.cuda.device_of(hidden):  # Triton launches on the current device
        return _sample_by_tiles(hidden, weight, uniform, temperature)


def sample_tokens_eager(hidden, weight, uniform, temperature=1.0):
    """sample_tokens in torch alone, on any device; it holds the logits."""
    logits = matmul32(hidden, weight.T)
    if temperature != 1:
        logits = logits / temperature
    return draw_tokens(logits, uniform)


def draw_tokens(logits, uniform):
    """sample_tokens from logits [B, V] float32, in torch alone."""
    logp = torch.log_softmax(logits, dim=-1)
    cumulated = logp.exp().double().cumsum(-1)
    threshold = uniform * cumulated[:, -1]
    drawn = torch.searchsorted(cumulated, threshold[:, None], right=True)[:, 0]
    drawn = drawn.clamp(max=logits.shape[1] - 1)
    tokens = torch.where(uniform < 0, logits.argmax(-1), drawn)
    return tokens, logp.gather(1, tokens[:, None])[:, 0]


def _sample_by_tiles(hidden, weight, uniform, temperature):
    B, D = hidden.shape
    V = len(weight)
    tiles = triton.cdiv(V, BLOCK_V)
    tile_lse = torch.empty(B, tiles, device=hidden.device, dtype=torch.float32)
    tile_max = torch.empty_like(tile_lse)
    config = _tile_config(hidden.dtype, B)
    grid = (triton.cdiv(B, config["BLOCK_T"]) * tiles,)
    _summarise_tile[grid](
        hidden,
        weight,
        tile_lse,
        tile_max,
        B,
        V,
        D,
        1 / temperature,
        EVEN_D=D % config["BLOCK_D"] == 0,
        **config,
    )
    lse = tile_lse.logsumexp(1)
    cumulated = (tile_lse - lse[:, None]).exp().double().cumsum(1)  # [B, tiles]
    threshold = uniform[:, None] * cumulated[:, -1:]
    tile = torch.searchsorted(cumulated, threshold, right=True).clamp(max=tiles - 1)
    tile = torch.where(uniform[:, None] < 0, tile_max.argmax(1)[:, None], tile)  # [B, 1]
    after = cumulated.gather(1, tile)
    before = torch.where(tile > 0, cumulated.gather(1, (tile - 1).clamp(min=0)), 0.0)
    share = (threshold - before) / (after - before)  # of the tile's probability, that u passes
    share = share.clamp(0, BELOW_ONE)
    share = torch.where(uniform[:, None] < 0, GREEDY, share).float()

    tokens = torch.empty(B, device=hidden.device, dtype=torch.int64)
    logp = torch.empty(B, device=hidden.device, dtype=torch.float32)
    _draw_in_tile[(B,)](
        hidden,
        weight,
        tile,
        share,
        lse,
        tokens,
        logp,
        V,
        D,
        1 / temperature,
        **DRAW_CONFIG,
    )
    return tokens, logp


def _tile_config(dtype, B):
    """Tile sizes and launch options for B sequences: as few rows as the tensor cores take.

    tests/kernels/test_kernels_compile.py holds them free of register spills."""
    return {
        "BLOCK_T": min(128, max(16, triton.next_power_of_2(B))),
        "BLOCK_V": BLOCK_V,
        "BLOCK_D": 32 if dtype == torch.float32 else 64,
        "num_warps": 8,
        "num_stages": 3,
    }


@triton.jit
def _summarise_tile(
    hidden_ptr,  # [T, D], e.g. 64 x 4096, bfloat16
    weight_ptr,  # [V, D], e.g. 151936 x 4096, of the same dtype
    tile_lse_ptr,  # out: [T, column tiles] float32: log-sum-exp over a tile's columns
    tile_max_ptr,  # out: [T, column tiles] float32
    T,  # sequences
    V,
    D,
    scale,  # 1 / temperature
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    EVEN_D: tl.constexpr,
):
    """What is kept of one tile of the logits."""
    rows, cols, column_tile, z = _logits_tile(
        hidden_ptr, weight_ptr, T, V, D, scale, BLOCK_T, BLOCK_V, BLOCK_D, EVEN_D
    )
    z = tl.where((cols < V)[None, :], z, -3e38)
    maximum = tl.max(z, 1)
    sum_exp = tl.sum(tl.exp(z - maximum[:, None]), 1)
    out = rows.to(tl.int64) * tl.cdiv(V, BLOCK_V) + column_tile
    tl.store(tile_lse_ptr + out, maximum + tl.log(sum_exp), mask=rows < T)
    tl.store(tile_max_ptr + out, maximum, mask=rows < T)


@triton.jit
def _draw_in_tile(
    hidden_ptr,  # [B, D]
    weight_ptr,  # [V, D]
    tile_ptr,  # [B] int64: the tile of columns that u falls in
    share_ptr,  # [B] float32: how much of its probability u passes, or below 0: greedy
    lse_ptr,  # [B] float32, over the whole vocabulary
    tokens_ptr,  # out: [B] int64
    logp_ptr,  # out: [B] float32
    V,
    D,
    scale,  # 1 / temperature
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The token of one sequence, from the logits of one tile."""
    sequence = tl.program_id(0).to(tl.int64)
    first = tl.load(tile_ptr + sequence) * BLOCK_V
    inside = tl.arange(0, BLOCK_V)
    is_column = first + inside < V
    d = tl.arange(0, BLOCK_D)
    weight_rows = weight_ptr + (first + inside)[:, None] * D
    products = tl.zeros((BLOCK_V, BLOCK_D), tl.float32)  # added up once, after the loop
    for start in range(0, D, BLOCK_D):
        is_d = d < D - start
        h = tl.load(hidden_ptr + sequence * D + start + d, mask=is_d, other=0.0)
        mask = is_column[:, None] & is_d[None, :]
        w = tl.load(weight_rows + start + d[None, :], mask=mask, other=0.0)
        products += w.to(tl.float32) * h.to(tl.float32)[None, :]
    z = tl.sum(products, 1)
    z = tl.where(is_column, z * scale, -3e38)
    maximum = tl.max(z, 0)
    cumulated = tl.cumsum(tl.exp(z - maximum), 0)
    total = tl.sum(tl.where(inside == BLOCK_V - 1, cumulated, 0.0), 0)
    share = tl.load(share_ptr + sequence)
    # A GPU adds up in another order for each column, so that sums may fall where p is 0.
    is_passed = is_column & (cumulated <= share * total)
    passed = tl.sum(is_passed.to(tl.int32), 0)
    # Where rounding leaves none beyond u, the most probable stands in, as it does for greedy.
    is_greedy = (share < 0) | (passed == tl.sum(is_column.to(tl.int32), 0))
    chosen = tl.where(is_greedy, tl.argmax(z, 0), passed)
    z_chosen = tl.sum(tl.where(inside == chosen, z, 0.0), 0)
    tl.store(tokens_ptr + sequence, first + chosen)
    tl.store(logp_ptr + sequence, z_chosen - tl.load(lse_ptr + sequence))
