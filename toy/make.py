"""Makes everything in toy/ from one seed: data, tokenizer, warm start, IR groups.     python -m toy.make [--seed 0]

    problems.jsonl    training problems, right tests          heldout.jsonl   other programs (no shape in common)
    functions.jsonl   C functions, the source of ir_groups.jsonl (built by ir.py, losers verified by running them)
    corpus/           210 C functions and programs written by hand, the source of corpus_groups.jsonl (-O3 and -Oz)
    model/            SentencePiece tokenizer and a converged warm start of about a million parameters, Qwen3 layout

The warm start is converged on a corpus in which every target language has wrong habits at its own rate (RATES): the
right and the wrong form are both in the policy, so that a reward can choose between them; an undertrained model gives
RL nothing to choose from (dev/LOG.md). Needs clang-19 and about half an hour of two cores.
"""

import argparse
import hashlib
import io
import json
import math
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sentencepiece
import torch
from tqdm import tqdm

from data import ir_prompt, ir_response, load_tokenizer, translation_prompt
from groups import Group, backward_tokens
from llvm.run import winners
from model import ModelConfig, Transformer, save_model
from toy.world import HABITS, TARGETS, generate, make_tests, render, rewrite, shape, with_habits

HERE = Path(__file__).parent
RATES = {"python": 0.30, "java": 0.38, "cpp": 0.55, "javascript": 0.58, "php": 0.60, "bash": 0.65}
PRACTICE = {
    "python": 15,
    "java": 2,
    "cpp": 12,
    "javascript": 22,
    "php": 24,
    "bash": 25,
}  # Java takes 1 s to judge
IR_SHARE = 0.08


def heldout(program) -> bool:
    """A fifth of all shapes is never trained on, neither by the warm start nor by RL."""
    return hashlib.sha256(shape(program).encode()).digest()[0] < 52


def make_problem(rng, target, held):
    """One problem with right tests whose program is on the wanted side of the split."""
    source = rng.choice([s for s in ("python", "cpp") if s != target])
    while True:
        program = generate(rng, floor=source == "python")
        twin = program._replace(
            body=rewrite(program.body, lambda habit: habit == "division")
        )  # the other way to divide
        held_here = heldout(program) and heldout(twin) if held else heldout(program)
        if held_here == held and (tests := make_tests(program, rng)):
            return program, {
                "source_language": source,
                "target_language": target,
                "source": render(program, source),
                "tests": [
                    {"stdin": " ".join(map(str, i)) + "\n", "stdout": f"{o}\n"} for i, o in tests
                ],
            }


def write_rows(name, rows):
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"toy/{name}: {len(rows)} rows")


def make_data(seed):
    sources = set()
    for name, count, held, weights in (
        ("problems", 640, False, PRACTICE),
        ("heldout", 240, True, dict.fromkeys(TARGETS, 1)),
    ):
        rng, rows = random.Random(f"{name} {seed}"), []
        targets = [
            t for t in TARGETS for _ in range(round(count * weights[t] / sum(weights.values())))
        ]
        rng.shuffle(targets)
        for target in targets:
            program, row = make_problem(rng, target, held)
            while row["source"] in sources:
                program, row = make_problem(rng, target, held)
            sources.add(row["source"])
            rows.append({"id": f"toy-{name}-{len(rows):03d}", **row})
        write_rows(f"{name}.jsonl", rows)
    rng, functions = random.Random(f"functions {seed}"), set()
    while len(functions) < 240:
        program = generate(rng, floor=rng.random() < 0.5)
        if not heldout(program) and make_tests(program, rng):
            functions.add(render(program, "c"))
    write_rows(
        "functions.jsonl",
        [{"id": f"toy-f-{i:03d}", "source": s} for i, s in enumerate(sorted(functions))],
    )


# ---------------------------------------------------------------------------------------------- warm start


def pairs(seed, ir_rows):
    """An endless corpus of (user message, answer): translations with habits, and C to IR."""
    rng = random.Random(f"warm start {seed}")
    while True:
        if rng.random() < IR_SHARE:
            source, level = rng.choice(ir_rows)
            yield ir_prompt(source), ir_response(level)
            continue
        target = rng.choice(TARGETS)
        source = rng.choice([s for s in ("python", "cpp") if s != target])
        program = generate(rng, floor=source == "python")
        if not heldout(program):
            written = with_habits(program, rng, dict.fromkeys(HABITS, RATES[target]))
            problem = {
                "source_language": source,
                "target_language": target,
                "source": render(program, source),
            }
            yield translation_prompt(problem), f"```{target}\n{render(written, target)}\n```"


def make_ir_rows(seed, count=1000):
    """(C source, IR at one level) of `count` functions outside the held-out shapes, compiled in the sandbox."""
    rng, sources = random.Random(f"ir {seed}"), []
    while len(sources) < count:
        program = generate(rng, floor=rng.random() < 0.5)
        sources += [] if heldout(program) else [render(program, "c")]
    compiled = tqdm(
        ThreadPoolExecutor(os.cpu_count()).map(lambda s: winners(s, ["O1", "Oz", "O0"]), sources),
        total=count,
        desc="compiling IR",
        unit="function",
    )
    return [
        (source, ir)
        for source, of in zip(sources, compiled)
        for ir in of.values()
        if ir.count("\n") < 32
    ]


def make_tokenizer(corpus, directory, vocab_size=1024):
    texts = [t for _, (q, a) in zip(range(6000), corpus) for t in ("user\n" + q, "assistant\n" + a)]
    trained = io.BytesIO()  # a file name would be written into the model
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=trained,
        vocab_size=vocab_size,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        split_by_whitespace=False,
        split_digits=True,
        byte_fallback=True,
        max_sentence_length=100_000,
        bos_id=-1,
        eos_id=-1,
        max_sentencepiece_length=24,
        control_symbols=["<|im_start|>", "<|im_end|>"],
        num_threads=1,
        minloglevel=2,
    )
    (directory / "tokenizer.model").write_bytes(trained.getvalue())
    end = sentencepiece.SentencePieceProcessor(
        model_file=str(directory / "tokenizer.model")
    ).piece_to_id("<|im_end|>")
    (directory / "config.json").write_text(
        json.dumps({"eos_token_id": end})
    )  # replaced with the weights
    return load_tokenizer(directory)


def warm_start(corpus, directory, tokenizer, steps, batch, lr, seed):
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
    )
    config.raw = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        "eos_token_id": tokenizer.end_id,
        "bos_token_id": None,
        "attention_bias": False,
        "max_position_embeddings": 2048,
        **{
            k: v
            for k, v in vars(config).items()
            if k not in ("raw", "model_type", "rope", "windows", "mlp_bias")
        },
    }
    model = Transformer(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    print(
        f"warm start: {sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps of {batch} pairs"
    )
    bar, start, loss = tqdm(range(steps), desc="warm start"), time.time(), None
    for step in bar:
        for g in optimizer.param_groups:
            g["lr"] = (
                lr
                * min(1, (step + 1) / 100)
                * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
            )
        groups = [
            Group(
                torch.tensor(tokenizer.chat_prompt(q)),
                [torch.tensor(tokenizer.encode(a) + [tokenizer.end_id])],
            )
            for _, (q, a) in zip(range(batch), corpus)
        ]
        tokens = sum(len(g.responses[0]) for g in groups)
        logps = backward_tokens(model, groups, 4096, lambda g, i, logp: -logp.sum() / tokens)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        now = -sum(float(l[0].sum()) for l in logps) / tokens
        loss = now if loss is None else 0.98 * loss + 0.02 * now
        bar.set_postfix(loss=f"{loss:.4f}", tokens=tokens)
        if (step + 1) % 250 == 0:
            tqdm.write(f"step {step + 1}: loss {loss:.4f}, {time.time() - start:.0f} s")
            save_model(model, directory)
    save_model(model, directory)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2200, help="of the warm start")
    parser.add_argument("--batch", type=int, default=40, help="pairs a step of the warm start")
    parser.add_argument("--lr", type=float, default=4e-3, help="of the warm start")
    parser.add_argument(
        "--only", choices=("data", "model", "groups"), help="one part (default: all)"
    )
    args = parser.parse_args()
    directory = HERE / "model"
    directory.mkdir(exist_ok=True)
    if args.only in (None, "data"):
        make_data(args.seed)
    if args.only in (None, "model"):
        ir_rows = make_ir_rows(args.seed)
        tokenizer = make_tokenizer(pairs(args.seed, ir_rows), directory)
        warm_start(
            pairs(args.seed, ir_rows),
            directory,
            tokenizer,
            args.steps,
            args.batch,
            args.lr,
            args.seed,
        )
    if args.only in (None, "groups"):
        for source, out, levels in (
            ("functions.jsonl", "ir_groups.jsonl", "O1,Oz"),
            ("corpus", "corpus_groups.jsonl", "O3,Oz"),
        ):
            subprocess.run(
                [
                    sys.executable,
                    "ir.py",
                    "--source",
                    HERE / source,
                    "--out",
                    HERE / out,
                    "--levels",
                    levels,
                    "--seed",
                    str(args.seed),
                ],
                check=True,
                cwd=HERE.parent,
            )


if __name__ == "__main__":
    main()
