"""Sampling (rollout.generate) against transformers.generate and against reading memory once.

    python bench/rollout.py [--dtype bfloat16] [--sequences 16,64] [--new-tokens 64]

Random weights of SmolLM2-135M's shape on a CPU, of Qwen3-0.6B's on CUDA; prompts of 150 tokens, 4
samples each, temperature 1. Two cases: "even", where all sequences get all their tokens, and
"ragged", where each token ends its sequence with a chance of 4 / --new-tokens, so that most stop
early. Both sides have the same prompts, dtype, EOS ids and limits; theirs draws other tokens.
Tokens a second are those of the responses, prompts included in the time. Floor: the bytes of all
weights, and of the keys and values in use, once a token step, at the rate of a plain read that is
measured in the same run. Ours also returns the log-prob of every token. Prints a table, then a line
of JSON.
Left out: sampling from a sharded model, other peers (vLLM).
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.head import DEVICE, environment, print_table
from model import ModelConfig, Transformer, load_model, save_model
from rollout import generate

SHAPE = {
    "cpu": {
        "model_type": "llama",
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "cuda": {
        "model_type": "qwen3",
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
}[DEVICE]
PROMPT_TOKENS = 150
SAMPLES = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--sequences", default="16,64", help="with commas, multiples of 4")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest is taken")
    args = parser.parse_args()
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    ours, theirs = both_models(dtype)
    rate = read_bytes_per_s()
    rows = {}
    for sequences in map(int, args.sequences.split(",")):
        for case in ("even", "ragged"):
            name = f"{sequences} sequences, {case}"
            rows[name] = compare(ours, theirs, sequences, case, args, rate)
    print_table(args.dtype, rows)
    print(
        "\n" + json.dumps({"bench": "rollout", "dtype": args.dtype, "rows": rows, **environment()})
    )


def both_models(dtype):
    """The same weights in our Transformer and in transformers."""
    import tempfile

    import transformers

    with tempfile.TemporaryDirectory() as folder:
        save_model(Transformer(ModelConfig(**SHAPE)).to(dtype), folder)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        return load_model(folder, DEVICE, dtype), theirs.to(DEVICE).eval()


def compare(ours, theirs, sequences, case, args, rate):
    """The row of the table."""
    vocab = SHAPE["vocab_size"]
    prompts = torch.randint(vocab, (sequences // SAMPLES, PROMPT_TOKENS)).tolist()
    # An untrained model draws every id about as often.
    eos_ids = [vocab - 1] if case == "even" else list(range(4 * vocab // args.new_tokens))

    def run_ours():
        groups = generate(ours, prompts, SAMPLES, args.new_tokens, 1.0, eos_ids, seed=0)
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
        return [length_until(tokens, eos_ids) for tokens in outputs[:, PROMPT_TOKENS:]]

    row = {}
    lengths, row["ours tokens/s"] = fastest(run_ours, args.repeats)
    _, row["transformers tokens/s"] = fastest(run_theirs, args.repeats)
    row["ratio"] = row["ours tokens/s"] / row["transformers tokens/s"]
    floor_s = bytes_to_read(ours, lengths) / rate
    row["share of the floor"] = row["ours tokens/s"] * floor_s / sum(lengths)
    return row


def length_until(tokens, eos_ids):
    """The tokens of a response, its EOS included, without padding."""
    ends = torch.isin(tokens, torch.tensor(eos_ids, device=tokens.device)).nonzero()
    return int(ends[0]) + 1 if len(ends) else len(tokens)


def fastest(run, repeats):
    """(lengths of the responses, tokens a second) of the fastest run."""
    best = 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        lengths = run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        best = max(best, sum(lengths) / (time.perf_counter() - began))
    return lengths, best


def bytes_to_read(model, lengths):
    """Of all steps: the weights each, and the keys and values of the sequences that still run."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    per_token = SHAPE["num_key_value_heads"] * SHAPE["head_dim"] * SHAPE["num_hidden_layers"]
    per_token *= 2 * model.lm_head.weight.element_size()
    steps = max(lengths)
    cached = 0
    for step in range(steps):
        running = sum(length > step for length in lengths)
        cached += running * (PROMPT_TOKENS + step)
    return steps * weights + cached * per_token


def read_bytes_per_s():
    """The rate at which 256 MiB are summed, the best of five."""
    data = torch.ones(1 << 25, dtype=torch.int64, device=DEVICE)
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        data.sum().item()
        best = max(best, data.nbytes / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    main()
