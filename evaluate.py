"""pass@k of a model on translation problems and MultiPL-E, per source and target language, with 95 % intervals.

    python evaluate.py --model DIR --problems P.jsonl [--samples 1] [--temperature 0] [--k 1] [--out EVAL.jsonl]
                       [--form chat|completion]

pass@k is the unbiased estimator of Chen et al. (arXiv 2107.03374): 1 - C(n - c, k) / C(n, k) for c passes in n samples.
The interval is Wilson's, over problems. Judge errors are left out of the numbers and counted; so are problems of a
language whose tools are missing. Harness problems (harness.py) count by the official rule; the guarded one and the gap
stand below the table. A MultiPL-E row has "prompt" for its source language.
"""

import argparse
import math
import os
from collections import defaultdict
from pathlib import Path

import torch
from tqdm import tqdm

from data import load_tokenizer, question, read_problems
from judge.harnesses import FORMS, is_harness, is_multipl_e, unsupported_languages
from judge.languages import LANGUAGES, installed_toolchains
from judge.pool import check_canaries
from judge.sandbox import SandboxError, probe
from model import load_model
from reward import judge_pool
from rollout import generate
from training.checkpoint import append_rows


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that at least one of k samples passes, from c passes in n >= k samples."""
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def wilson(p: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a proportion p seen in n trials (Wilson 1927)."""
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def evaluate(
    model,
    tokenizer,
    problems,
    pool,
    samples=1,
    temperature=0.0,
    max_new_tokens=1024,
    seed=0,
    desc="evaluate",
    form="chat",
):
    """Samples and judges. -> rows {"id", "source_language", "target_language", "completions", "verdicts", "n", "passed"}
    in the order of `problems`; n counts verdicts other than JE. Harness problems have "guarded" beside "verdicts"."""
    # Without the last line break, which the model's tokens mostly hold together with the indent that follows.
    prompts = [
        tokenizer.plain_prompt(p["prompt"].rstrip())
        if form == "completion" and is_multipl_e(p)
        else tokenizer.chat_prompt(question(p))
        for p in problems
    ]
    with tqdm(total=len(problems) * samples, desc=desc + ": sampling", unit="sample") as bar:
        groups = generate(
            model,
            prompts,
            samples,
            max_new_tokens,
            temperature,
            tokenizer.eos_ids,
            seed,
            progress=bar.update,
        )
    texts = [[tokenizer.decode(y.tolist()) for y in group.responses] for group in groups]
    futures = [
        [pool.submit(p, text, *[form] * is_multipl_e(p)) for text in of]
        for p, of in zip(problems, texts)
    ]
    rows = []
    with tqdm(total=len(problems) * samples, desc=desc + ": judging", unit="program") as bar:
        for problem, of, text in zip(problems, futures, texts):
            verdicts, guarded = [], []
            for future in of:
                verdicts.append(future.result().status)
                guarded.append(future.result().guarded)
                bar.update()
            rows.append(
                {
                    "id": problem["id"],
                    "source_language": problem["source_language"],
                    "target_language": problem["target_language"],
                    "completions": text,
                    "verdicts": verdicts,
                    "n": sum(v != "JE" for v in verdicts),
                    "passed": verdicts.count("AC"),
                    **({"guarded": guarded} if is_harness(problem) else {}),
                }
            )
    return rows


def scores(rows, k=1) -> dict:
    """{(source or "all", target or "all"): (pass@k, problems)} over the rows that have at least k verdicts."""
    cells = defaultdict(list)
    for row in rows:
        if row["n"] >= k:
            value = pass_at_k(row["n"], row["passed"], k)
            for source in (row["source_language"], "all"):
                for target in (row["target_language"], "all"):
                    cells[source, target].append(value)
    return {cell: (sum(v) / len(v), len(v)) for cell, v in cells.items()}


def table(columns: dict, k=1) -> str:
    """A table, a row per target language, of runs over the same problems. columns: title -> rows of evaluate()."""
    per = {title: scores(rows, k) for title, rows in columns.items()}
    cells = {
        cell: max(of.get(cell, (0, 0))[1] for of in per.values())
        for of in per.values()
        for cell in of
    }
    lines = [f"{'pass@' + str(k):<24}{'problems':>9}  " + "".join(f"{title:>24}" for title in per)]
    order = [
        (s, t)
        for t in (*LANGUAGES, "all")
        for s in (*LANGUAGES, "prompt", "all")
        if (s, t) in cells
    ]
    for source, target in order:
        if source != "all" and (target == "all" or sum(t == target for _, t in cells) < 3):
            continue  # one source only: the "all" row says it
        name = f"{'any' if source == 'all' else source} -> {'any' if target == 'all' else target}"
        line = f"{name:<24}{cells[source, target]:>9}  "
        for values in per.values():
            p, n = values.get((source, target), (0.0, 0))
            low, high = wilson(p, n) if n else (0.0, 0.0)
            line += (
                f"{100 * p:>10.1f} % [{100 * low:4.1f}, {100 * high:4.1f}]" if n else f"{'-':>24}"
            )
        lines.append(line)
    errors = {
        title: sum(len(r["verdicts"]) - r["n"] for r in rows) for title, rows in columns.items()
    }
    if any(errors.values()):
        lines.append(f"judge errors, left out: {errors}")
    lines += [
        f"{title}: {official_minus_guarded(rows, k)}"
        for title, rows in columns.items()
        if any("guarded" in row for row in rows)
    ]
    return "\n".join(lines)


def official_minus_guarded(rows, k=1) -> str:
    """pass@k by the official and by the guarded rule, over the harness problems that have a guard and k verdicts."""
    judged = [row for row in rows if "guarded" in row and row["n"] >= k]
    both = [row for row in judged if any(g is not None for g in row["guarded"])]
    official = [pass_at_k(row["n"], row["passed"], k) for row in both]
    guarded = [pass_at_k(row["n"], row["guarded"].count(True), k) for row in both]
    mean = lambda values: 100 * sum(values) / max(1, len(values))
    return (
        f"harness problems: official {mean(official):.1f} %, guarded {mean(guarded):.1f} %, gap {mean(official) - mean(guarded):.1f} points "
        f"over {len(both)}; {len(judged) - len(both)} take no guard"
    )


def runnable(problems, missing, what="problems"):
    """The problems whose target language can be judged here; says what is left out. missing: name -> what to install."""
    missing = missing | unsupported_languages(problems)
    for language, mend in missing.items():
        if count := sum(p["target_language"] == language for p in problems):
            print(f"{count} of {len(problems)} {what} left out: {language} is missing ({mend})")
    kept = [p for p in problems if p["target_language"] not in missing]
    if not kept:
        raise ValueError(
            f"none of the {len(problems)} {what} has a target language that is installed here"
        )
    return kept


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", required=True, help="a model directory, of a run: RUN/step-NNNNNN"
    )
    parser.add_argument("--problems", required=True, help="problems.jsonl")
    parser.add_argument("--samples", type=int, default=1, help="answers a problem")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument(
        "--form",
        choices=FORMS,
        default="chat",
        help="of answers to MultiPL-E: a block, or the prompt continued",
    )
    parser.add_argument("--k", type=int, default=1, help="of pass@k")
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=1024,
        help="longer answers are cut (the embedded run takes 192)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of sampling")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="programs judged at a time"
    )
    parser.add_argument(
        "--unsafe-no-sandbox", action="store_true", help="run programs WITHOUT isolation"
    )
    parser.add_argument("--out", help="one row a problem; refused when it exists")
    args = parser.parse_args()
    if (
        not 1 <= args.k <= args.samples
        or args.max_new_tokens < 1
        or args.workers < 1
        or not 0 <= args.temperature < math.inf
    ):
        parser.error(
            "need 1 <= --k <= --samples, --max-new-tokens and --workers of at least 1, --temperature of at least 0"
        )
    if args.samples > 1 and not args.temperature:
        parser.error(
            f"--samples {args.samples} at --temperature 0 are {args.samples} times the same; give a temperature"
        )
    if args.out and (Path(args.out).exists() or not Path(args.out).absolute().parent.is_dir()):
        parser.error(f"--out {args.out} exists, or its folder does not; give another name")
    if (Path(args.model) / "metrics.jsonl").exists():
        parser.error(f"--model {args.model} is a run; its models are {args.model}/step-NNNNNN")
    if args.unsafe_no_sandbox:
        os.environ["OORL_UNSAFE_NO_SANDBOX"] = "1"
    try:
        print(probe())
        problems = runnable(read_problems(args.problems, harness=True), installed_toolchains()[1])
        tokenizer = load_tokenizer(args.model)
        model = load_model(
            args.model, *(("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu",))
        )  # as train.py samples
        with judge_pool(args.workers) as pool:
            check_canaries(pool, sorted({p["target_language"] for p in problems}))
            rows = evaluate(
                model,
                tokenizer,
                problems,
                pool,
                args.samples,
                args.temperature,
                args.max_new_tokens,
                args.seed,
                form=args.form,
            )
    except (ValueError, FileNotFoundError, SandboxError) as e:
        parser.exit(2, f"evaluate.py: {e}\n")
    if args.out:
        append_rows(args.out, rows)
    print(table({Path(args.model).name: rows}, args.k))


if __name__ == "__main__":
    main()
