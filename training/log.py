"""What a run says: times, a step's row of metrics.jsonl, held-out scores, the closing report.

docs/metrics.md defines every key of a row; a test compares the two.
"""

import json
import resource
import time
from collections import Counter, defaultdict

import torch

from data import write_atomically
from distributed import ranks
from evaluate import evaluate, scores, table
from judge.limits import SandboxError
from model import unsharded_copy
from training.checkpoint import saved_checkpoints
from training.rhat import describe_ir_scores
from training.samples import column, group_by_prompt, judged_samples

PHASES = ("rollout", "gepo", "logprob", "judge_wait", "policy", "optimizer", "save")
MAX_JUDGE_ERRORS = 0.01  # share of verdicts; above it the judge is broken


class Stopwatch:
    """Seconds of each phase of a step, once the device has done what it was asked to."""

    def __init__(self, device):
        self.device = device
        self.seconds = {}  # "rollout_s" -> seconds, ...
        self.began_at = self.lap_began_at = self.now()

    def now(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, phase):
        """Ends a lap and adds it to the phase's seconds."""
        now = self.now()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.lap_began_at
        self.lap_began_at = now

    def finish(self):
        self.seconds["step_s"] = self.now() - self.began_at


def step_row(config, step, samples, metrics, updates, seconds):
    """A row of metrics.jsonl. samples: all of the step, of all ranks; metrics: of the two halves;
    updates: one for each inner epoch."""
    judged = judged_samples(samples, step)
    verdicts = column(samples, "verdict")
    rewards = torch.tensor(column(judged, "reward"))
    logp_old = torch.cat(column(judged, "logp_old"))  # [N]
    logp_gap = logp_old - torch.cat(column(judged, "logp_sampler"))  # [N]
    sampled_tokens = sum(map(len, column(samples, "tokens")))
    kl = {}
    if config.kl_coef:
        kl["kl"] = float(torch.cat(column(judged, "kl")).mean())
    return {
        "step": step,
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(unbiased=False)),
        "mixed_prompts": _share_of_mixed_prompts(judged),
        "rewards": _mean_reward_by_target(judged),
        **metrics,
        **kl,
        "logp_gap": float(logp_gap.abs().max()),
        "logp_gap_clipped": share_over_clip(logp_gap, config.clip_eps),
        "grad_norm": updates[-1].grad_norm,
        "lr": updates[-1].lr,
        "skipped": sum(column(updates, "skipped")),
        "response_tokens": sampled_tokens / config.rollout_batch,
        "truncated": sum(column(samples, "truncated")) / config.rollout_batch,
        "verdicts": dict(Counter(column(verdicts, "status"))),
        **seconds,
        "judge_cpu_s": sum(column(verdicts, "cpu_s")),
        "tokens_per_s": sampled_tokens / seconds["step_s"],
    }


def _mean_reward_by_target(judged):
    rewards = defaultdict(list)
    for sample in judged:
        rewards[sample.target_language].append(sample.reward)
    return {target: sum(values) / len(values) for target, values in sorted(rewards.items())}


def share_over_clip(log_ratio, clip_eps):
    """The share of tokens whose ratio exp(log_ratio [N]) Eq. 5 would clip."""
    return float((log_ratio.expm1().abs() > clip_eps).float().mean())


def _share_of_mixed_prompts(judged):
    """Prompts whose samples differ in reward; the others are compared with other prompts only."""
    by_prompt = group_by_prompt(judged)
    mixed = [len(set(column(of_prompt, "reward"))) > 1 for of_prompt in by_prompt]
    return sum(mixed) / len(mixed)


def progress(row):
    """A step on the progress bar."""
    text = f"reward {row['reward']:.2f}, {row['step_s']:.1f} s"
    if "gepo_preference" in row:
        text += f", pref {row['gepo_preference']:.4f}, var {row['gepo_variance']:.1e}"
    return text


# ---------------------------------------------------------------------------- held-out problems


def score_held_out(run, title):
    """Greedy pass@1 on --eval-problems into eval-TITLE.jsonl, unless it is there already.

    title: "before" (the initial policy) or "after". The ranks share the problems.
    Raises SandboxError if too many verdicts are judge errors."""
    problems = run.inputs.held_out
    path = run.folder / f"eval-{title}.jsonl"
    if not problems or ranks.broadcast_from_rank_0(path.exists):
        return
    own_rows = evaluate(
        unsharded_copy(run.initial_policy() if title == "before" else run.policy),
        run.inputs.tokenizer,
        [problems[i] for i in ranks.share_of(len(problems))],
        run.judge,
        max_new_tokens=run.config.max_new_tokens,
        desc=f"held-out, {title}",
    )
    rows = ranks.all_gather_list(own_rows)
    judge_errors = sum(row["verdicts"].count("JE") for row in rows)
    if too_many(judge_errors, len(rows)):
        raise SandboxError(
            f"{judge_errors} of {len(rows)} held-out verdicts are judge errors; "
            "python reward.py --probe says more"
        )
    if ranks.rank() == 0:
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
    ranks.barrier()


def too_many(judge_errors, verdicts):
    """Whether more than 1 % of the verdicts (and more than one) are judge errors."""
    return judge_errors > max(1, MAX_JUDGE_ERRORS * verdicts)


# ---------------------------------------------------------------------------- the closing report


def print_report(run):
    """Rewards, times, memory and held-out scores of a finished run."""
    rows = _read_rows(run.folder / "metrics.jsonl")
    trained = "this run is finished already"
    if run.total_steps > run.first_step:
        seconds = time.time() - run.training_began_at
        trained = f"trained {run.total_steps - run.first_step} step(s) in {seconds:.0f} s"
    device = run.policy.device
    memory_of = "GPU" if device.type == "cuda" else "process"
    print(
        f"{trained}; reward from {rows[0]['reward']:.2f} to {rows[-1]['reward']:.2f}; "
        f"the model is in {saved_checkpoints(run.folder)[-1]}\n"
        f"{describe_times(rows)}\n"
        f"memory at most: {peak_memory_gib(device):.2f} GiB of rank 0's {memory_of}"
    )
    if run.inputs.held_out:
        before = _read_rows(run.folder / "eval-before.jsonl")
        after = _read_rows(run.folder / "eval-after.jsonl")
        gain = scores(after)["all", "all"].pass_at_k - scores(before)["all", "all"].pass_at_k
        print(table({"before": before, "after": after}))
        print(f"held-out greedy pass@1: {100 * gain:+.1f} points")
    if run.inputs.held_out_ir_groups:
        print(describe_ir_scores(_read_rows(run.folder / "eval-ir.jsonl")))


def _read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def describe_times(rows):
    """Where the time of a step goes, from rows of metrics.jsonl."""

    def mean(key):
        return sum(row[key] for row in rows) / len(rows)

    phases = [f"{phase.replace('_', ' ')} {mean(phase + '_s'):.2f}" for phase in PHASES]
    hidden = max(0, mean("judge_s") - mean("judge_wait_s"))
    seconds = mean("step_s") + mean("save_s")
    return (
        f"seconds a step: {seconds:.2f} = {', '.join(phases)}\n"
        f"the judge took {mean('judge_s'):.2f} of them, {hidden:.2f} behind the off-policy half "
        "and the log-probs"
    )


def peak_memory_gib(device):
    """GiB at most in use so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # ru_maxrss is in KiB
