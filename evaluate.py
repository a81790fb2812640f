"""pass@k of a model on translation problems and on MultiPL-E, with 95 % intervals.

    python evaluate.py --model DIR --problems P.jsonl [--samples 1] [--temperature 0] [--k 1]
                       [--out EVAL.jsonl] [--form chat|completion]

Prints a table with a line for each pair of source and target language. pass@k is the unbiased
estimator of Chen et al. (arXiv 2107.03374): 1 - C(n - c, k) / C(n, k) for c passes in n samples.
The interval is Wilson's, over problems. Judge errors are left out of the numbers and counted, and
so are problems of a language whose tools are missing. A problem's row goes into --out once it is
judged, and at the end the rows are put into order: a run that is cut off keeps what is there, but
no command continues it. Harness problems (judge/harnesses.py) count by the official rule; below the
table stand the guarded rule and the gap between the two, and the languages whose tools are older
than what models write. MultiPL-E rows have "prompt" for their source language.
"""

import argparse
import json
import math
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from data import (
    append_rows,
    load_tokenizer,
    question,
    read_problems,
    runnable,
    write_atomically,
)
from judge import view
from judge.harnesses import FORMS, is_harness, is_multipl_e
from judge.languages import LANGUAGES, installed_toolchains
from judge.limits import SandboxError
from judge.pool import check_canaries
from judge.sandbox import UNSAFE_VARIABLE, probe
from model import load_model
from reward import judge_pool
from rollout import generate

# The first version of each language's tool that takes what models write.
MODELS_WRITE = {
    "python": "3.10",  # match
    "cpp": "20",  # the standard, which stands first in the line
    "java": "17",  # records, text blocks, sealed classes
    "php": "8.1",  # match, enums, readonly
    "bash": "5.0",
    "javascript": "18",  # ES2022
    "typescript": "5.0",
    "go": "1.21",  # slices, maps, min, max
    "csharp": "8",  # .NET 8; mono ends at 6.12, which knows C# 7
    "scala": "2.13",
    "haskell": "9.0",
}


def main():
    parser = _parser()
    args = parser.parse_args()
    _check_arguments(parser, args)
    if args.unsafe_no_sandbox:
        os.environ[UNSAFE_VARIABLE] = "1"
    try:
        print(probe())
        for file in filter(None, (args.problems, args.out)):
            view.hide(Path(file).parent)
        problems = read_problems(args.problems, harness=True)
        versions, missing = installed_toolchains()
        problems = runnable(problems, missing)
        tokenizer = load_tokenizer(args.model)
        if torch.cuda.is_available():
            model = load_model(args.model, "cuda", torch.bfloat16)  # as train.py samples
        else:
            model = load_model(args.model, "cpu")
        with judge_pool(args.workers) as pool:
            check_canaries(pool, sorted({problem["target_language"] for problem in problems}))
            rows = evaluate(
                model,
                tokenizer,
                problems,
                pool,
                samples=args.samples,
                temperature=args.temperature,
                max_new_tokens=args.max_new_tokens,
                seed=args.seed,
                form=args.form,
                out=args.out,
            )
        if args.out:
            write_atomically(Path(args.out), "".join(json.dumps(row) + "\n" for row in rows))
    except (ValueError, OSError, SandboxError, KeyboardInterrupt) as error:
        kept = ""
        if args.out and Path(args.out).exists():
            count = Path(args.out).read_bytes().count(b"\n")
            kept = f"; {args.out} has the rows of {count} problems"
        parser.exit(2, f"evaluate.py: {str(error) or 'interrupted'}{kept}\n")
    print(table({Path(args.model).name: rows}, args.k))
    for language in sorted({problem["target_language"] for problem in problems}):
        print(old_tool(language, versions[language]), end="")


# ----------------------------------------------------------------------- sampling and judging


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
    out=None,
):
    """Samples answers and judges them. Returns a row for each problem, in the order of `problems`:

        {"id", "source_language", "target_language", "completions", "verdicts", "n", "passed"}

    n counts the verdicts other than JE, passed those that are AC. A harness problem also has
    "guarded", a list as long as "verdicts". desc: the title of the progress bars. form: "chat" or
    "completion", the form of answers to MultiPL-E. out: a file that gets each row when its verdicts
    are there, in any order. Raises OSError if that fails.
    """
    prompts = [_prompt(tokenizer, problem, form) for problem in problems]
    total = len(problems) * samples
    completions = {}  # by the number of the problem
    futures = {}  # likewise, of problems without a row
    rows = [None] * len(problems)

    def submit(number, group):
        """Its samples are judged while the next batch is sampled."""
        is_continued = _is_continued(problems[number], form)
        decode = tokenizer.decode_continuation if is_continued else tokenizer.decode
        texts = [decode(response.tolist()) for response in group.responses]
        completions[number] = texts
        futures[number] = [pool.submit(problems[number], text, form) for text in texts]
        take_judged()

    def take_judged():
        """Makes the rows of the problems whose verdicts are all there."""
        for number in list(futures):
            if all(future.done() for future in futures[number]):
                verdicts = []
                for future in futures.pop(number):
                    verdicts.append(future.result())
                rows[number] = _row(problems[number], completions[number], verdicts)
                if out:
                    append_rows(out, [rows[number]])

    with tqdm(total=total, desc=f"{desc}: sampling", unit="sample") as bar:
        generate(
            model,
            prompts,
            samples,
            max_new_tokens,
            temperature,
            tokenizer.eos_ids,
            seed,
            progress=bar.update,
            finished=submit,
        )
    for left in tqdm(list(futures.values()), desc=f"{desc}: judging", unit="problem"):
        for future in left:
            future.result()
        take_judged()
    return rows


def _is_continued(problem, form):
    """Whether the answer continues the prompt, in place of a chat."""
    return form == "completion" and is_multipl_e(problem)


def _prompt(tokenizer, problem, form):
    """The tokens of the prompt."""
    if _is_continued(problem, form):
        # Without the last line break, which the model's tokens mostly hold together with the
        # indent that follows.
        return tokenizer.plain_prompt(problem["prompt"].rstrip())
    return tokenizer.chat_prompt(question(problem))


def _row(problem, completions, verdicts):
    statuses = [verdict.status for verdict in verdicts]
    row = {
        "id": problem["id"],
        "source_language": problem["source_language"],
        "target_language": problem["target_language"],
        "completions": completions,
        "verdicts": statuses,
        "n": len(statuses) - statuses.count("JE"),
        "passed": statuses.count("AC"),
    }
    if is_harness(problem):
        row["guarded"] = [verdict.guarded for verdict in verdicts]
    return row


# --------------------------------------------------------------------------- pass@k and its table


def pass_at_k(n, c, k):
    """Probability that at least one of k samples passes, from c passes in n >= k samples."""
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def wilson(p, n, z=1.96):
    """95 % interval of a proportion p that was seen in n trials (Wilson 1927)."""
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (centre - spread) / scale, (centre + spread) / scale


class Score(NamedTuple):
    pass_at_k: float  # mean over problems
    problems: int


def scores(rows, k=1):
    """{(source or "all", target or "all"): Score}, over the rows with at least k verdicts."""
    values = defaultdict(list)
    for row in rows:
        if row["n"] >= k:
            value = pass_at_k(row["n"], row["passed"], k)
            for source in (row["source_language"], "all"):
                for target in (row["target_language"], "all"):
                    values[source, target].append(value)
    return {pair: Score(sum(each) / len(each), len(each)) for pair, each in values.items()}


def table(columns, k=1):
    """A table of runs over the same problems: a line for each pair of languages and a column for
    each run.

    columns: {title: rows of evaluate()}.
    """
    scores_by_title = {title: scores(rows, k) for title, rows in columns.items()}
    problem_counts = defaultdict(int)  # of each pair of languages
    for run_scores in scores_by_title.values():
        for pair, score in run_scores.items():
            problem_counts[pair] = max(problem_counts[pair], score.problems)
    titles = "".join(f"{title:>24}" for title in columns)
    lines = [f"{f'pass@{k}':<24}{'problems':>9}  {titles}"]
    for pair in _pairs_to_show(problem_counts):
        source, target = ["any" if language == "all" else language for language in pair]
        line = f"{f'{source} -> {target}':<24}{problem_counts[pair]:>9}  "
        for run_scores in scores_by_title.values():
            line += _cell(run_scores.get(pair))
        lines.append(line)
    judge_errors = {title: _count_judge_errors(rows) for title, rows in columns.items()}
    if any(judge_errors.values()):
        lines.append(f"judge errors, left out: {judge_errors}")
    for title, rows in columns.items():
        if any("guarded" in row for row in rows):
            lines.append(f"{title}: {official_minus_guarded(rows, k)}")
    return "\n".join(lines)


def _pairs_to_show(pairs):
    """(source, target) in the order of the lines. A target with one source has one line, "all"."""
    sources_of_target = defaultdict(set)
    for source, target in pairs:
        sources_of_target[target].add(source)
    for target in (*LANGUAGES, "all"):
        sources = sources_of_target[target]
        # With one source only, its line would be the same as that of "all".
        if target != "all" and len(sources - {"all"}) > 1:
            for source in (*LANGUAGES, "prompt"):
                if source in sources:
                    yield source, target
        if sources:
            yield "all", target


def _cell(score):
    if score is None:
        return f"{'-':>24}"
    low, high = wilson(score.pass_at_k, score.problems)
    return f"{100 * score.pass_at_k:>10.1f} % [{100 * low:4.1f}, {100 * high:4.1f}]"


def _count_judge_errors(rows):
    return sum(len(row["verdicts"]) - row["n"] for row in rows)


def official_minus_guarded(rows, k=1):
    """pass@k by the official and by the guarded rule, over harness problems with k verdicts.

    Problems that take no guard are left out and counted.
    """
    official_scores = []
    guarded_scores = []
    without_guard = 0
    for row in rows:
        if "guarded" not in row or row["n"] < k:
            continue
        if set(row["guarded"]) == {None}:
            without_guard += 1
            continue
        official_scores.append(pass_at_k(row["n"], row["passed"], k))
        guarded_scores.append(pass_at_k(row["n"], row["guarded"].count(True), k))
    official = _mean_percent(official_scores)
    guarded = _mean_percent(guarded_scores)
    return (
        f"harness problems: official {official:.1f} %, guarded {guarded:.1f} %, "
        f"gap {official - guarded:.1f} points over {len(official_scores)}; "
        f"{without_guard} take no guard"
    )


def _mean_percent(values):
    return 100 * sum(values) / max(1, len(values))


def old_tool(language, version):
    """A line if the tool is older than MODELS_WRITE says, else nothing.

    version: its line in installed_toolchains().
    """
    needed = MODELS_WRITE.get(language, "")
    if _numbers(version) >= _numbers(needed):
        return ""
    return f"{language}: models write for {needed} and later, so that this is low: {version}\n"


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


# ------------------------------------------------------------------------------- command line


def _parser():
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
    return parser


def _check_arguments(parser, args):
    if (
        not 1 <= args.k <= args.samples
        or args.max_new_tokens < 1
        or args.workers < 1
        or not 0 <= args.temperature < math.inf
    ):
        parser.error(
            "need 1 <= --k <= --samples, --max-new-tokens and --workers of at least 1, "
            "--temperature of at least 0"
        )
    if args.samples > 1 and not args.temperature:
        parser.error(
            f"--samples {args.samples} at --temperature 0 are {args.samples} times the same; "
            "give a temperature"
        )
    if args.out and (Path(args.out).exists() or not Path(args.out).absolute().parent.is_dir()):
        parser.error(f"--out {args.out} exists, or its folder does not; give another name")
    if (Path(args.model) / "metrics.jsonl").exists():
        parser.error(f"--model {args.model} is a run; its models are {args.model}/step-NNNNNN")


if __name__ == "__main__":
    main()
