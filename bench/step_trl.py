"""Whole training steps of train.py against those of TRL's GRPOTrainer, one after the other.

    pip install trl
    python bench/step_trl.py MODEL [--problems toy/problems.jsonl] [--steps 3] [--dtype float32]

Both train the model in the directory MODEL on the same prompts, on this machine, policy gradient
alone: 8 samples of 2 prompts a step, at most --new-tokens each, temperature 1, no KL, AdamW. Ours
runs the judge on them; TRL's reward is a number made of the length, which costs nothing. The two
draw other samples, so seconds are given per sampled token too. The first step of each is left out.
Prints a table, then a line of JSON. Left out: GPUs, TRL with vLLM.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.head import environment, print_table
from data import question, read_jsonl, read_problems

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = 2  # a step
SAMPLES = 4  # of each


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("model", type=Path, help="directory of a Hugging Face checkpoint")
    parser.add_argument("--problems", type=Path, default=ROOT / "toy" / "problems.jsonl")
    parser.add_argument("--steps", type=int, default=3, help="that are timed")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--dtype", default="float32", choices=("bfloat16", "float32"))
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.theirs:
        return print(json.dumps(run_theirs(args)))
    with tempfile.TemporaryDirectory() as folder:
        steps = {"ours": run_ours(args, Path(folder)), "TRL": theirs_in_its_own_process(args)}
    rows = {"ours": row_of(steps["ours"][1:]), "TRL": row_of(steps["TRL"][1:])}
    rows["ratio"] = {key: rows["TRL"][key] / rows["ours"][key] for key in rows["TRL"]}
    print_table(f"{args.model.name}, {args.dtype}", rows)
    print(
        "\n" + json.dumps({"bench": "step_trl", "dtype": args.dtype, "rows": rows, **environment()})
    )


def row_of(steps):
    """The row of the table. steps: list of (seconds, sampled tokens)."""
    seconds = sum(step[0] for step in steps)
    tokens = sum(step[1] for step in steps)
    return {
        "s a step": seconds / len(steps),
        "tokens a step": tokens / len(steps),
        "ms a token": 1000 * seconds / tokens,
    }


def run_ours(args, folder):
    """Runs train.py. -> list of (seconds, sampled tokens) of each step."""
    problems = folder / "problems.jsonl"
    lines = args.problems.read_text().splitlines(keepends=True)
    problems.write_text("".join(lines[: PROMPTS * (args.steps + 1)]))
    command = [sys.executable, "train.py", "--model", str(args.model), "--dtype", args.dtype]
    command += ["--problems", str(problems), "--off-policy", "none", "--kl-coef", "0"]
    command += ["--steps", str(args.steps + 1), "--rollout-batch", str(PROMPTS * SAMPLES)]
    command += ["--samples-per-prompt", str(SAMPLES), "--max-new-tokens", str(args.new_tokens)]
    command += ["--out", str(folder / "run")]
    subprocess.run(command, cwd=ROOT, check=True)
    steps = []
    for _, row in read_jsonl(folder / "run" / "metrics.jsonl", {}):
        steps.append((row["step_s"], row["response_tokens"] * PROMPTS * SAMPLES))
    return steps


def theirs_in_its_own_process(args):
    """run_theirs, beside nothing else. -> list of (seconds, sampled tokens) of each step."""
    command = [sys.executable, __file__, *sys.argv[1:], "--theirs"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def run_theirs(args):
    """Runs GRPOTrainer. -> list of (seconds, sampled tokens) of each step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(os.cpu_count())
    tokens = []
    seconds = []

    def reward(completion_ids, **_):
        lengths = [len(ids) for ids in completion_ids]
        tokens.append(sum(lengths))
        return [length % 7 / 7 for length in lengths]

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.began = time.monotonic()

        def on_step_end(self, *_, **__):
            seconds.append(time.monotonic() - self.began)

    problems = read_problems(args.problems)[: PROMPTS * (args.steps + 1)]
    prompts = []
    for problem in problems:
        prompts.append({"prompt": [{"role": "user", "content": question(problem)}]})
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=PROMPTS * SAMPLES,
            num_generations=SAMPLES,
            max_completion_length=args.new_tokens,
            max_steps=args.steps + 1,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            beta=0.0,  # no KL, and so no reference model
            learning_rate=2e-6,
            bf16=args.dtype == "bfloat16",
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
        )
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32),
            args=config,
            train_dataset=Dataset.from_list(prompts),
            reward_funcs=reward,
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return list(zip(seconds, tokens))


if __name__ == "__main__":
    main()
