"""Sampling (rollout.generate) against transformers.generate and against reading memory once.

    python bench/rollout.py [--dtype bfloat16] [--sequences 16,64] [--new-tokens 64]
    python bench/rollout.py --shape Qwen3-8B --prompt-tokens 1792 --new-tokens 256 --sequences 64

Random weights, the same on both sides; 4 samples of each prompt, temperature 1. Two cases: "even",
where all sequences get all their tokens, and "ragged", where each token ends its sequence with a
chance of 4 / --new-tokens, so that most stop early. Both sides have the same prompts, dtype, EOS
ids and limits; theirs draws other tokens. Tokens a second are those of the responses, prompts
included in the time. Floor: the bytes of all weights, and of the keys and values in use, once a
token step, at the rate of a plain read that is measured in the same run. The share of it "decoding"
leaves out a run of one new token, which is mostly reading the prompts. Roofline: of each step
reading or arithmetic, what takes longer, and the arithmetic of the prompts; at the rates of a plain
read and of a large matrix product. Ours also returns the log-prob of every token. Prints a table,
then a line of JSON.
Left out: sampling from a sharded model, other peers (vLLM).
"""

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.head import DEVICE, environment, print_table, timed_ms
from bench.shapes import add_shape_flags, shape_of
from model import Transformer
from rollout import generate

SAMPLES = 4
CACHE_TOKENS = 2**18  # so that all sequences run together


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add_shape_flags(parser, {"cpu": "SmolLM2-135M", "cuda": "Qwen3-0.6B"}[DEVICE])
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--sequences", default="16,64", help="with commas, multiples of 4")
    parser.add_argument("--prompt-tokens", type=int, default=150)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest is taken")
    args = parser.parse_args()
    torch.manual_seed(0)
    shape = shape_of(args)
    ours, theirs = both_models(shape, getattr(torch, args.dtype))
    rates = read_bytes_per_s(), products_per_s(getattr(torch, args.dtype))
    rows = {}
    for sequences in map(int, args.sequences.split(",")):
        for case in ("even", "ragged"):
            name = f"{sequences} sequences, {case}"
            rows[name] = compare(ours, theirs, sequences, case, args, *rates)
    title = f"{args.shape}, {args.dtype}; a plain read: {rates[0] / 1e9:.0f} GB/s, a product: "
    print_table(f"{title}{rates[1] / 1e9:.0f} GFLOP/s", rows)
    result = {"bench": "rollout", **vars(args), "read bytes/s": rates[0], "FLOP/s": rates[1]}
    result["rows"] = rows
    print("\n" + json.dumps({**result, **environment()}))


def both_models(shape, dtype):
    """Our Transformer, and transformers' model on the same tensors."""
    import transformers

    ours = random_model(shape, dtype)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(shape.to_json(dtype)))
        config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device(DEVICE):
        theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    theirs.tie_weights()
    return ours, theirs.eval()


def random_model(shape, dtype):
    with torch.device(DEVICE):
        model = Transformer(shape).to(DEVICE)  # the rotary frequencies are made on the CPU
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.requires_grad_(False)


def compare(ours, theirs, sequences, case, args, read_rate, product_rate):
    """The row of the table. Rates: bytes and FLOPs a second."""
    vocab = ours.config.vocab_size
    prompts = torch.randint(vocab, (sequences // SAMPLES, args.prompt_tokens)).tolist()
    # An untrained model draws every id about as often.
    eos_ids = [vocab - 1] if case == "even" else list(range(4 * vocab // args.new_tokens))

    def run_ours(new_tokens=args.new_tokens):
        groups = generate(ours, prompts, SAMPLES, new_tokens, 1.0, eos_ids, 0, CACHE_TOKENS)
        return [len(response) for group in groups for response in group.responses]

    def run_theirs():
        tokens = torch.tensor(prompts, device=DEVICE)
        outputs = theirs.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=True,
            top_k=0,
            temperature=1.0,
            num_return_sequences=SAMPLES,
            max_new_tokens=args.new_tokens,
            eos_token_id=eos_ids,
            pad_token_id=0,
        )
        return [length_until(tokens, eos_ids) for tokens in outputs[:, args.prompt_tokens :]]

    ours_s, lengths = fastest(run_ours, args.repeats)
    first_token_s, _ = fastest(lambda: run_ours(new_tokens=1), args.repeats)
    if DEVICE == "cuda":
        torch.cuda.empty_cache()  # of our cache
    theirs_s, their_lengths = fastest(run_theirs, args.repeats)
    floor_s = bytes_to_read(ours, lengths, args.prompt_tokens) / read_rate
    first_floor_s = bytes_to_read(ours, [1] * sequences, args.prompt_tokens) / read_rate
    roofline = roofline_s(ours, lengths, args.prompt_tokens, read_rate, product_rate)
    row = {
        "ours tokens/s": sum(lengths) / ours_s,
        "transformers tokens/s": sum(their_lengths) / theirs_s,
        "share of the floor": floor_s / ours_s,
        "of the roofline": roofline / ours_s,
        "decoding": (floor_s - first_floor_s) / (ours_s - first_token_s),
    }
    row["ratio"] = row["ours tokens/s"] / row["transformers tokens/s"]
    return row


def length_until(tokens, eos_ids):
    """The tokens of a response, its EOS included, without padding."""
    ends = torch.isin(tokens, torch.tensor(eos_ids, device=tokens.device)).nonzero()
    return int(ends[0]) + 1 if len(ends) else len(tokens)


def fastest(run, repeats):
    """(seconds, lengths of the responses) of the fastest run."""
    runs = []
    for _ in range(repeats):
        began = time.perf_counter()
        lengths = run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        runs.append((time.perf_counter() - began, lengths))
    return min(runs)


def bytes_to_read(model, lengths, prompt_tokens):
    """Of all steps: the weights each, and the keys and values of the sequences that still run."""
    steps = token_steps(lengths, prompt_tokens)
    return sum(step_cost(model, running, keys)[0] for running, keys in steps)


def roofline_s(model, lengths, prompt_tokens, read_rate, product_rate):
    """The least seconds for these responses, SAMPLES of each prompt. Rates: bytes, FLOPs a s."""
    prompts = len(lengths) // SAMPLES
    pairs = prompts * prompt_tokens * (prompt_tokens + 1) // 2  # of a token and a key
    read, products = step_cost(model, prompts * prompt_tokens, pairs)
    products -= 2 * prompts * (prompt_tokens - 1) * model.lm_head.weight.numel()
    costs = [(read, products)]  # of the prompts, which give the first tokens
    for running, keys in itertools.islice(token_steps(lengths, prompt_tokens), 1, None):
        costs.append(step_cost(model, running, keys))
    return sum(max(read / read_rate, products / product_rate) for read, products in costs)


def token_steps(lengths, prompt_tokens):
    """Of each step: how many sequences run, and how many keys of theirs are cached."""
    for step in range(max(lengths)):
        running = sum(length > step for length in lengths)
        yield running, running * (prompt_tokens + step)


def step_cost(model, rows, keys):
    """(bytes to read, FLOPs) of a step of `rows` tokens that look at `keys` keys in all.

    Of an embedding a step reads a few rows only."""
    shape = model.config
    weights = sum(p.numel() for p in model.parameters())
    if not shape.tie_word_embeddings:
        weights -= model.model.embed_tokens.weight.numel()
    per_key = 2 * shape.num_key_value_heads * shape.head_dim * shape.num_hidden_layers
    itemsize = model.lm_head.weight.element_size()
    products = 2 * rows * weights
    products += 4 * keys * shape.num_attention_heads * shape.head_dim * shape.num_hidden_layers
    return (weights + keys * per_key) * itemsize, products


def read_bytes_per_s():
    """The rate at which a large tensor is summed, the best of five."""
    numbers = {"cpu": 2**25, "cuda": 2**28}[DEVICE]
    data = torch.ones(numbers, dtype=torch.int64, device=DEVICE)
    data.sum()
    return 1000 * data.nbytes / min(timed_ms(data.sum) for _ in range(5))


def products_per_s(dtype):
    """FLOPs a second of a large matrix product, the best of five."""
    size = {"cpu": 2048, "cuda": 8192}[DEVICE]
    matrix = torch.randn(size, size, device=DEVICE).to(dtype)
    matrix @ matrix
    return 1000 * 2 * size**3 / min(timed_ms(lambda: matrix @ matrix) for _ in range(5))


if __name__ == "__main__":
    main()
