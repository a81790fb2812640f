"""Makes everything in toy/ from one seed: data, tokenizer, warm start, IR groups.

    python -m toy.make [--seed 0]

    problems.jsonl    training problems, with right tests
    heldout.jsonl     other programs: no shape in common with the training problems
    functions.jsonl   C functions, the source of ir_groups.jsonl (built by ir.py; losers are
                      verified by running them)
    heldout_functions.jsonl, heldout_groups.jsonl
                      the same of held-out shapes
    corpus/           210 C functions and programs written by hand, the source of
                      corpus_groups.jsonl (-O3 and -Oz)
    model/            SentencePiece tokenizer and a converged warm start of about a million
                      parameters, Qwen3 layout

The warm start is converged on a corpus in which every target language has wrong habits at its own
rate (RATES). The right and the wrong form are both in the policy, so that a reward can choose
between them; an undertrained model gives RL nothing to choose from (dev/LOG.md). Needs clang-19 and
about half an hour of two cores.
"""

import argparse
import hashlib
import io
import itertools
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
from llvm import winners
from model import ModelConfig, Transformer, save_model
from toy.render import render
from toy.world import (
    HABITS,
    MISREAD_EASY,
    MISREAD_HARD,
    TARGETS,
    generate,
    make_tests,
    misread,
    shape,
    with_habits,
    with_other_division,
)

HERE = Path(__file__).parent
SOURCES = ("python", "cpp")
# target -> probability of the wrong form at every site of a habit, in the warm start's corpus
RATES = {"python": 0.30, "java": 0.38, "cpp": 0.55, "javascript": 0.58, "php": 0.60, "bash": 0.65}
# target -> its share of the training problems; few of Java, whose programs take 1 s to judge
PRACTICE = {"python": 15, "java": 2, "cpp": 12, "javascript": 22, "php": 24, "bash": 25}
IR_SHARE = 0.08  # of the warm start's corpus


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2200, help="of the warm start")
    parser.add_argument("--batch", type=int, default=40, help="pairs a step of the warm start")
    parser.add_argument("--lr", type=float, default=4e-3, help="of the warm start")
    parser.add_argument(
        "--only", choices=("data", "model", "groups"), help="one part (default: all)"
    )
    parser.add_argument("--model", type=Path, default=HERE / "model", help="where the model goes")
    parser.add_argument("--ir-share", type=float, default=IR_SHARE, help="of the model's corpus")
    parser.add_argument("--ir-rows", type=int, default=1000, help="functions compiled for it")
    parser.add_argument(
        "--ir-habits", type=float, default=0, help="chance of each wrong habit in its IR"
    )
    parser.add_argument(
        "--misread",
        action="store_true",
        help="the model's corpus, IR included, has a reader's errors in place of a writer's: "
        f"chances {MISREAD_HARD} at hard constructs and {MISREAD_EASY} at others (toy/world.py)",
    )
    args = parser.parse_args()
    if args.misread and (args.ir_habits or args.only != "model" or args.model == HERE / "model"):
        parser.error("--misread takes --only model and --model DIR, and no --ir-habits")
    directory = args.model
    directory.mkdir(parents=True, exist_ok=True)
    if args.only in (None, "data"):
        make_data(args.seed)
    if args.only in (None, "model"):
        ir_rows = make_ir_rows(args.seed, args.ir_rows, args.ir_habits, args.misread)
        sample = pairs(args.seed, ir_rows, args.ir_share, args.misread)
        tokenizer = make_tokenizer(sample, directory)
        torch.manual_seed(args.seed)
        corpus = pairs(args.seed, ir_rows, args.ir_share, args.misread)
        warm_start(new_model(tokenizer), corpus, directory, tokenizer, args)
    if args.only in (None, "groups"):
        make_groups("functions.jsonl", "ir_groups.jsonl", "O1,Oz", args.seed)
        make_groups("heldout_functions.jsonl", "heldout_groups.jsonl", "O1,Oz", args.seed)
        make_groups("corpus", "corpus_groups.jsonl", "O3,Oz", args.seed)


# -------------------------------------------------------------------------------------------- data


def make_data(seed):
    """Writes problems.jsonl, heldout.jsonl, functions.jsonl and heldout_functions.jsonl."""
    sources = set()  # of both files: no program is in them twice
    make_problems("problems", 640, False, PRACTICE, seed, sources)
    make_problems("heldout", 240, True, dict.fromkeys(TARGETS, 1), seed, sources)
    make_functions("functions", "toy-f", 240, False, seed)
    make_functions("heldout_functions", "toy-h", 120, True, seed)


def make_problems(name, count, held, shares, seed, sources):
    """Writes about `count` problems with their targets in the given shares.

    held: whether their programs are of the held-out shapes.
    sources: the source texts that are taken; those of the new problems are added."""
    rng = random.Random(f"{name} {seed}")
    targets = []
    for target in TARGETS:
        targets += [target] * round(count * shares[target] / sum(shares.values()))
    rng.shuffle(targets)
    rows = []
    for target in targets:
        _, row = make_problem(rng, target, held)
        while row["source"] in sources:
            _, row = make_problem(rng, target, held)
        sources.add(row["source"])
        rows.append({"id": f"toy-{name}-{len(rows):03d}", **row})
    write_rows(f"{name}.jsonl", rows)


def make_problem(rng, target, held):
    """(program, row) of one problem with right tests.

    held: whether its program is of a held-out shape, however it divides."""
    source = draw_source(rng, target)
    while True:
        program = generate(rng, floor=source == "python")
        if held:
            wanted = heldout(program) and heldout(with_other_division(program))
        else:
            wanted = not heldout(program)
        tests = make_tests(program, rng) if wanted else None
        if tests:
            return program, {
                **untested_problem(program, source, target),
                "tests": [row_of_test(inputs, output) for inputs, output in tests],
            }


def heldout(program) -> bool:
    """A fifth of all shapes is never trained on, neither by the warm start nor by RL."""
    return hashlib.sha256(shape(program).encode()).digest()[0] < 52


def draw_source(rng, target):
    return rng.choice([language for language in SOURCES if language != target])


def untested_problem(program, source, target):
    return {
        "source_language": source,
        "target_language": target,
        "source": render(program, source),
    }


def row_of_test(inputs, output):
    return {"stdin": " ".join(map(str, inputs)) + "\n", "stdout": f"{output}\n"}


def make_functions(name, prefix, count, held, seed):
    """Writes `count` different C functions. held: whether they are of the held-out shapes."""
    rng = random.Random(f"{name} {seed}")
    functions = set()
    while len(functions) < count:
        program = generate(rng, floor=rng.random() < 0.5)
        if heldout(program) == held and make_tests(program, rng):
            functions.add(render(program, "c"))
    rows = [
        {"id": f"{prefix}-{i:03d}", "source": source} for i, source in enumerate(sorted(functions))
    ]
    write_rows(f"{name}.jsonl", rows)


def write_rows(name, rows):
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"toy/{name}: {len(rows)} rows")


def make_groups(source, out, levels, seed):
    """Runs ir.py, which builds the IR groups of a file or folder of toy/ and verifies them."""
    command = [sys.executable, "ir.py", "--source", HERE / source, "--out", HERE / out]
    command += ["--levels", levels, "--seed", str(seed)]
    subprocess.run(command, check=True, cwd=HERE.parent)


# -------------------------------------------------------------------- the corpus of the warm start


def pairs(seed, ir_rows, ir_share=IR_SHARE, misreads=False):
    """An endless corpus of (user message, answer): translations with habits, and C to IR.

    misreads: whether the errors are a reader's, not a writer's."""
    rng = random.Random(f"warm start {seed}")
    while True:
        if rng.random() < ir_share:
            source, ir = rng.choice(ir_rows)
            yield ir_prompt(source), ir_response(ir)
            continue
        target = rng.choice(TARGETS)
        source = draw_source(rng, target)
        program = generate(rng, floor=source == "python")
        if not heldout(program):
            problem = untested_problem(program, source, target)
            if misreads:
                written = misread(program, rng)
            else:
                written = with_habits(program, rng, dict.fromkeys(HABITS, RATES[target]))
            yield translation_prompt(problem), f"```{target}\n{render(written, target)}\n```"


def make_ir_rows(seed, count=1000, habits=0, misreads=False):
    """(C source, IR at one level) of `count` functions outside the held-out shapes.

    Long IRs are left out. Compiled in the sandbox. habits: the chance of each wrong habit; what is
    compiled has them, the source has not. misreads: it has a reader's errors."""
    rng = random.Random(f"ir {seed}")
    sources, written = [], []
    while len(sources) < count:
        program = generate(rng, floor=rng.random() < 0.5)
        if not heldout(program):
            sources.append(render(program, "c"))
            if misreads:
                program = misread(program, rng)
            elif habits:
                program = with_habits(program, rng, dict.fromkeys(HABITS, habits))
            written.append(render(program, "c"))
    compiled = ThreadPoolExecutor(os.cpu_count()).map(_irs, written)
    rows = []
    for source, irs in zip(
        sources, tqdm(compiled, total=count, desc="compiling IR", unit="function")
    ):
        rows += [(source, ir) for ir in irs if ir.count("\n") < 32]
    return rows


def _irs(source):
    return winners(source, ["O1", "Oz", "O0"]).values()


def make_tokenizer(corpus, directory, vocab_size=1024):
    """Trains SentencePiece on the first 6,000 pairs, writes it and loads it."""
    texts = []
    for question, answer in itertools.islice(corpus, 6000):
        texts += ["user\n" + question, "assistant\n" + answer]
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
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    end = processor.piece_to_id("<|im_end|>")
    # What load_tokenizer needs; save_model replaces it.
    (directory / "config.json").write_text(json.dumps({"eos_token_id": end}))
    return load_tokenizer(directory)


# -------------------------------------------------------------------------------------- warm start


def warm_start(model, corpus, directory, tokenizer, args):
    """Trains a model on the corpus and saves it. args: steps, batch, lr."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    size = sum(p.numel() for p in model.parameters())
    print(f"warm start: {size:,} parameters, {args.steps} steps of {args.batch} pairs")
    bar = tqdm(range(args.steps), desc="warm start")
    start = time.time()
    mean_loss = None  # of the last steps, as a moving average
    for step in bar:
        for parameters in optimizer.param_groups:
            parameters["lr"] = learning_rate(step, args.steps, args.lr)
        batch = [as_group(tokenizer, *next(corpus)) for _ in range(args.batch)]
        loss, tokens = backward(model, batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean_loss = loss if mean_loss is None else 0.98 * mean_loss + 0.02 * loss
        bar.set_postfix(loss=f"{mean_loss:.4f}", tokens=tokens)
        if (step + 1) % 250 == 0:
            tqdm.write(f"step {step + 1}: loss {mean_loss:.4f}, {time.time() - start:.0f} s")
            save_model(model, directory)
    save_model(model, directory)


def new_model(tokenizer):
    """A random Qwen3 of about a million parameters, with what config.json of such a model says."""
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
    fields = dict(vars(config))
    for not_in_config_json in ("raw", "model_type", "rope", "windows", "mlp_bias"):
        fields.pop(not_in_config_json, None)
    config.raw = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_act": "silu",
        "eos_token_id": tokenizer.end_id,
        "bos_token_id": None,
        "attention_bias": False,
        "max_position_embeddings": 2048,
        **fields,
    }
    return Transformer(config)


def learning_rate(step, steps, peak):
    """At most 100 steps of warm-up, then a cosine down to 2 % of the peak."""
    warm_up = min(1, (step + 1) / min(100, steps / 10))
    cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return peak * warm_up * (0.02 + 0.98 * cosine)


def as_group(tokenizer, question, answer):
    """A pair as a Group of one response."""
    prompt = torch.tensor(tokenizer.chat_prompt(question))
    response = torch.tensor(tokenizer.encode(answer) + [tokenizer.end_id])
    return Group(prompt, [response])


def backward(model, batch):
    """Adds the gradient of the mean loss per answer token. -> (that loss, number of tokens)"""
    tokens = sum(len(group.responses[0]) for group in batch)
    logps = backward_tokens(model, batch, 4096, lambda g, i, logp: -logp.sum() / tokens)
    return -sum(float(logp.sum()) for (logp,) in logps) / tokens, tokens


if __name__ == "__main__":
    main()
