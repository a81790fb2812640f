"""OORL: on-policy reinforcement learning and off-policy group preference in one optimiser step.

    python train.py                              the embedded world: two cores, seven minutes
    torchrun --nproc_per_node=8 train.py --model DIR --problems P.jsonl --ir-groups G.jsonl \\
        --out RUN                                your own model and data on eight GPUs
    python train.py --help                       every flag (config.py); defaults are the paper's

Wu et al., arXiv 2505.12723. train_step() is the paper's algorithm, top to bottom: sample
translations of a few problems, hand them to the judge, back-propagate GEPO on IR groups while the
judge works, turn its verdicts into advantages, back-propagate the policy loss into the same .grad,
one AdamW step. Every rank samples, judges and back-propagates its share of the batch. Denominators
and statistics are computed over the batch of all ranks. A folder --out that holds an unfinished run
is continued. Ctrl-C ends after the step, with a checkpoint. Left out: asynchronous sampling, and
sampling with a separate inference engine. This is not a framework: copy it and change it.

Shapes: R tokens of a response (EOS included), N tokens of several responses end to end, k members
of a group. Log-probs are float32 and per token unless a name says sum.
"""

import gc
import os
import sys
import time
from dataclasses import dataclass

# How long torch's threads wait for each other awake. If they sleep at once small products are slow,
# and if they never do they hold the cores that the judge needs (dev/LOG.md). Before torch.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if int(os.environ.get("RANK", 0)) > 0:
    os.environ["TQDM_DISABLE"] = "1"  # only rank 0 speaks

import torch
from tqdm import tqdm

import gepo
from config import Config, parse_config
from distributed import ranks
from groups import Group, backward_tokens, frozen_logprobs
from judge.limits import SandboxError
from kernels import gepo_group_loss
from model import Transformer, unsharded_copy
from rollout import generate
from training.checkpoint import saved_checkpoints
from training.inputs import IRGroup, ir_groups_of_step, problems_of_step, read_inputs
from training.log import Stopwatch, print_report, progress, score_held_out, step_row
from training.optimizer import gradient_norm, learning_rate, optimizer_step
from training.rhat import (
    length_scale,
    margin_of,
    rhat_logprobs,
    score_ir_groups,
    warn_of_noise,
)
from training.run import (
    Run,
    garbage_kept,
    judge_is_broken,
    raise_judge_errors,
    record_step,
    save_if_due,
    set_up,
    stop_requests,
)
from training.samples import (
    PendingVerdicts,
    Sample,
    column,
    flatten,
    group_by_prompt,
    judged_samples,
    make_samples,
    nest,
    sample_row,
)


def main(arguments: list[str] | None = None) -> int:
    """Trains, or continues, the run that the flags describe. Returns the exit code."""
    config = parse_config(arguments)
    device = ranks.start(mixed_precision=config.dtype == "bfloat16")
    if ranks.rank() > 0:
        sys.stdout = open(os.devnull, "w")  # only rank 0 speaks
    if "offload" in config.engine and device.type == "cpu":
        raise ValueError(
            "--engine offload moves what a GPU cannot hold to the CPU; there is no GPU here, "
            "leave it out"
        )
    inputs = read_inputs(config)
    with set_up(config, inputs, device) as run:
        score_held_out(run, "before")
        gc.collect()  # FSDP's units are cycles: a reference without use would stay on the GPU
        steps_done = train(run)
        if steps_done < run.total_steps:
            print(
                f"stopped after step {steps_done} of {run.total_steps}; the same command "
                f"continues from {saved_checkpoints(run.folder)[-1]}"
            )
            return 130  # as a shell reports a program that Ctrl-C ended
        score_held_out(run, "after")
        score_ir_groups(run)
    print_report(run)
    ranks.shut_down()
    return 0


def train(run: Run) -> int:
    """Takes all steps that are left, or fewer if the user asks for an end. Returns the steps done.

    Raises SandboxError when the judge is broken, ValueError when nothing can be updated."""
    steps = range(run.first_step, run.total_steps)
    bar = tqdm(steps, initial=run.first_step, total=run.total_steps, unit="step")
    steps_done = run.total_steps
    run.training_began_at = time.time()
    with garbage_kept(), stop_requests() as requests, bar:
        for step in bar:
            row, sample_rows = train_step(run, step)
            record_step(run, row, sample_rows)
            warn_of_noise(run, row)
            bar.set_postfix_str(progress(row))
            stop = len(ranks.all_gather_list(requests)) > 0
            is_last = stop or step + 1 == run.total_steps
            save_if_due(run, step + 1, at_once=is_last or judge_is_broken(run))
            if judge_is_broken(run):
                raise_judge_errors(run, sample_rows)
            if stop:
                steps_done = step + 1
                break
    return steps_done


# -------------------------------------------------------------------------------------- one step


def train_step(run: Run, step: int) -> tuple[dict, list[dict]]:
    """One step of OORL: AdamW on the gradient of L_OORL = w_rl * L_OnP + w_gepo * L_GEPO (Eq. 10).

    The two terms of the sum are back-propagated one after the other into the same .grad.
    Returns the row of metrics.jsonl and the rows of samples.jsonl, of the global batch."""
    config, policy, tokenizer = run.config, run.policy, run.inputs.tokenizer
    watch = Stopwatch(policy.device)

    # y ~ pi_theta( . | x): translations of a few problems. The judge begins at once.
    problems = problems_of_step(config, run.inputs.problems, step)
    groups = generate(
        unsharded_copy(policy),
        column(problems, "prompt"),
        config.samples_per_prompt,
        config.max_new_tokens,
        config.temperature,
        tokenizer.eos_ids,
        seed=config.seed * 1_000_003 + step,  # runs with other seeds share no random numbers
        share=ranks.share_of(config.rollout_batch),
    )
    samples = make_samples(ranks.rank(), problems, groups, tokenizer)
    pending = PendingVerdicts(run.judge, problems, samples, submitted_at=watch.now())
    ranks.barrier()  # fast samplers wait here for slow ones: FSDP's collectives have a time limit
    watch.lap("rollout_s")

    # This half needs no reward, so it fills the time in which the judge works.
    ir_groups = ir_groups_of_step(config, run.inputs.ir_groups, step)
    metrics = off_policy_half(policy, config, ir_groups)  # .grad = w_gepo * dL_GEPO
    if metrics:
        metrics["gepo_noise"] = run.gepo_noise
        metrics["gepo_grad_norm"] = gradient_norm(policy)
    watch.lap("gepo_s")

    set_logprobs(run, groups, samples)  # under pi_old and pi_ref
    watch.lap("logprob_s")

    for sample, verdict in zip(samples, pending.wait()):
        sample.verdict = verdict  # sample.reward is Eq. 4
    all_samples = ranks.all_gather_list(samples)
    watch.lap("judge_wait_s")
    watch.seconds["judge_s"] = pending.judge_s()

    set_advantages(config, judged_samples(all_samples, step))
    # With judge errors, which have no weight: the pack must be the one that gave logp_old.
    own_samples = [sample for sample in all_samples if sample.rank == ranks.rank()]

    updates = []
    for epoch in range(config.inner_epochs):
        if epoch > 0:
            off_policy_half(policy, config, ir_groups)  # again, at the new theta; not logged
        metrics |= on_policy_half(policy, config, own_samples)  # .grad += w_rl * dL_OnP: Eq. 10
        watch.lap("policy_s")
        optimizer_steps_done = step * config.inner_epochs + epoch
        lr = learning_rate(config, optimizer_steps_done, run.total_steps * config.inner_epochs)
        losses = [metrics["policy_loss"], metrics.get("gepo_loss", 0.0)]
        updates.append(optimizer_step(policy, run.optimizer, lr, losses))
        watch.lap("optimizer_s")
    watch.finish()

    all_samples = ranks.all_gather_list(own_samples)  # again: now all have logp_old
    row = step_row(config, step, all_samples, metrics, updates, watch.seconds)
    return row, [sample_row(step, sample) for sample in all_samples]


def set_logprobs(run: Run, groups: list[Group], samples: list[Sample]):
    """Sets logp_old and kl of this rank's samples, whose Groups are `groups`.

    logp_old is the policy's by the trainer's own forward: the sampler's may differ by rounding, and
    then the ratio of Eq. 5 would not begin at 1. Without a KL term rewards need neither, and
    on_policy_half sets logp_old by the forward that it does anyway."""
    config = run.config
    if run.reference is None:
        return
    logps_old = frozen_logprobs(run.policy, groups, config.token_budget, config.temperature)
    logps_ref = frozen_logprobs(run.reference, groups, config.token_budget, config.temperature)
    for sample, logp_old, logp_ref in zip(samples, flatten(logps_old), flatten(logps_ref)):
        sample.logp_old = logp_old  # [R]
        sample.kl = logp_old - logp_ref  # [R] k1 of Eq. 1


def set_advantages(config: Config, judged: list[Sample]):
    """Sets the advantages of the judged samples of the global batch."""
    advantages = gepo.advantages(  # Eq. 1, REINFORCE++
        rewards=torch.tensor(column(judged, "reward")),
        groups=torch.tensor(column(judged, "prompt_index")),
        kl=column(judged, "kl"),
        kl_coef=config.kl_coef,
        method=config.advantage,
    )
    for sample, advantage in zip(judged, advantages):
        sample.advantage = advantage


# -------------------------------------------------------------------------------------- on-policy


def on_policy_half(policy: Transformer, config: Config, samples: list[Sample]) -> dict[str, float]:
    """Back-propagates w_rl * L_OnP (Eq. 5) of this rank's samples. Returns metrics of the batch.

    The mean is over all response tokens of the global batch. All ranks must call."""
    by_prompt = group_by_prompt(samples)
    groups = [Group(of_prompt[0].prompt, column(of_prompt, "tokens")) for of_prompt in by_prompt]
    # One denominator, counted before the batch is cut into micro-batches.
    lengths = [len(sample.tokens) for sample in samples if sample.is_judged]
    n_tokens = sum(ranks.all_gather_list(lengths))
    entropies = []

    def loss(group_index, response_index, logp):
        sample = by_prompt[group_index][response_index]
        if not sample.is_judged:
            return 0.0 * logp.sum()
        if sample.logp_old is None:  # before the first update pi_old is the policy itself
            sample.logp_old = logp.detach().cpu()
        per_token = gepo.clipped_policy_loss(  # Eq. 5
            logp,
            sample.logp_old.to(logp.device),
            sample.advantage.to(logp.device),
            config.clip_eps,
        )
        return config.w_rl / n_tokens * per_token.sum()  # first term of Eq. 10

    logps = backward_tokens(
        policy, groups, config.token_budget, loss, config.temperature, entropies
    )
    # The gradient is done. The rest is for the log.
    for sample, logp in zip(flatten(by_prompt), flatten(logps)):
        sample.logp = logp
    judged = [sample for sample in samples if sample.is_judged]
    logp = torch.cat(ranks.all_gather_list(column(judged, "logp")))  # [N]
    logp_old = torch.cat(ranks.all_gather_list(column(judged, "logp_old")))  # [N]
    advantage = torch.cat(ranks.all_gather_list(column(judged, "advantage")))  # [N]
    ratio = (logp - logp_old).exp()
    per_token = gepo.clipped_policy_loss(logp, logp_old, advantage, config.clip_eps)
    return {
        "policy_loss": float(per_token.mean()),
        "ratio_max": float(ratio.max()),
        "ratio_min": float(ratio.min()),
        "clip_fraction": float(((ratio - 1).abs() > config.clip_eps).float().mean()),
        "entropy": float(torch.cat(ranks.all_gather_list(entropies)).mean()),
    }


# -------------------------------------------------------------------------------------- off-policy


def off_policy_half(
    policy: Transformer, config: Config, ir_groups: list[IRGroup]
) -> dict[str, float]:
    """Back-propagates w_gepo * L_GEPO (Eq. 9, or Eq. 3) of this rank's IR groups. Returns metrics.

    Eq. 9 couples the members of a group, so one graph would have to hold them all. Two passes do
    without: pass 1 computes log-probs without a graph, and from them c = dL/dlogp (all tokens of a
    member share one c). Pass 2 back-propagates sum(c * logp), a few members at a time. This is
    exact, and its memory does not depend on the size of a group. Pass 1 is in --rhat-dtype: rhat is
    a small difference, which bfloat16 would drown; pass 2 computes as the model does. All ranks
    must call."""
    groups = column(ir_groups, "group")
    n_groups = sum(ranks.all_gather_list([len(groups)]))
    if n_groups == 0:  # --off-policy none
        return {}
    logps = rhat_logprobs(config, policy, groups)
    terms, coefficients = [], []
    if ir_groups:
        terms, coefficients = gepo_terms(policy.device, config, ir_groups, logps, n_groups)

    def loss(group_index, response_index, logp):
        return (coefficients[group_index][response_index] * logp).sum()

    backward_tokens(policy, groups, config.token_budget, loss)
    return gepo_metrics(config, ranks.all_gather_list(terms))


@dataclass
class GroupTerms:
    """What the log needs of one IR group, on the CPU."""

    preference: torch.Tensor  # first term of Eq. 9
    variance: torch.Tensor  # second term, before lambda
    margin: torch.Tensor  # mean rhat of the winners minus mean rhat of the losers
    logp_margin: float  # the same of their log-probs
    deviation: torch.Tensor  # [k] of rhat (Eq. 8) from its mean in the group


def gepo_terms(device, config: Config, ir_groups: list[IRGroup], nested_logps, n_groups: int):
    """Eq. 9 (or 3) of each group, and its gradient in each token's log-prob, weighted as in Eq. 10.

    nested_logps: for each group a list of [R]; n_groups: of the global batch. The members of all
    groups are laid end to end, M of them with N tokens.
    Returns (a GroupTerms for each group, coefficients: nested like the log-probs)."""
    sizes = list(map(len, nested_logps))  # members of each group
    logps = flatten(nested_logps)  # M of [R]
    lengths = list(map(len, logps))  # tokens of each member
    group_of_member = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(device)
    member_of_token = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(device)
    is_winner = torch.cat(column(ir_groups, "is_winner")).to(device)  # [M] bool
    scale = torch.tensor([length_scale(config, logp) for logp in logps], device=device)  # [M]
    logps_ref = flatten(column(ir_groups, "logp_ref"))  # M of [R]

    # [N] Eq. 8 token by token: its sums are rhat. A leaf: no model stands behind it.
    log_ratio = gepo.rhat(torch.cat(logps), torch.cat(logps_ref)).float()
    log_ratio = log_ratio.to(device).requires_grad_()
    scaled = log_ratio * scale[member_of_token]
    rhat = torch.stack([of_member.sum() for of_member in scaled.split(lengths)])  # [M] Eq. 8
    if config.off_policy == "dpo":
        preference = [
            gepo.dpo_group_loss(of_group[winner], of_group[~winner], config.beta)
            for of_group, winner in zip(rhat.split(sizes), is_winner.split(sizes))
        ]
        preference = torch.stack(preference)  # [groups] Eq. 3
        variance = torch.zeros_like(preference)
    else:
        preference, variance = gepo_group_loss(  # [groups] each: the two terms of Eq. 9
            scaled,
            torch.zeros_like(scale),  # pi_ref is subtracted already
            member_of_token,
            group_of_member,
            is_winner,
            config.beta,
            config.lam,
        )
    loss = config.w_gepo / n_groups * (preference + config.lam * variance).sum()  # Eq. 9 in Eq. 10
    (gradient,) = torch.autograd.grad(loss, log_ratio)  # [N] of log_ratio, so of logp
    coefficients = nest(gradient.split(lengths), sizes)

    terms = []
    for g, (ir_group, rhat_of_group) in enumerate(zip(ir_groups, rhat.detach().cpu().split(sizes))):
        winner = ir_group.is_winner
        terms.append(
            GroupTerms(
                preference=preference[g].detach().cpu(),
                variance=variance[g].detach().cpu(),
                margin=rhat_of_group[winner].mean() - rhat_of_group[~winner].mean(),
                logp_margin=margin_of(config, ir_group, nested_logps[g]),
                deviation=rhat_of_group - rhat_of_group.mean(),
            )
        )
    return terms, coefficients


def gepo_metrics(config: Config, terms: list[GroupTerms]) -> dict[str, float]:
    """Means over the groups of the global batch.

    The two terms of Eq. 9 are logged apart: where rhat is a sum over tokens, the gradient of the
    variance can be 10 to 40 times that of the preference."""
    preference = torch.stack(column(terms, "preference"))  # [groups]
    variance = torch.stack(column(terms, "variance"))  # [groups]
    margin = torch.stack(column(terms, "margin"))  # [groups]
    logp_margin = torch.tensor(column(terms, "logp_margin"))  # [groups]
    deviation = torch.cat(column(terms, "deviation"))  # [members]
    return {
        "gepo_loss": float((preference + config.lam * variance).mean()),  # Eq. 9
        "gepo_preference": float(preference.mean()),
        "gepo_variance": float(variance.mean()),
        "gepo_margin": float(margin.mean()),
        "gepo_accuracy": float((margin > 0).float().mean()),
        "gepo_logp_accuracy": float((logp_margin > 0).float().mean()),
        "gepo_rhat_spread": float(deviation.square().mean().sqrt()),
    }


if __name__ == "__main__":
    try:
        sys.exit(ranks.report_rank_failure(main)())
    except (ValueError, OSError, SandboxError) as error:
        sys.exit(f"train.py: {error}")
    except KeyboardInterrupt:
        sys.exit(
            "train.py: interrupted; the same command continues from the last checkpoint, or from "
            "the start if there is none"
        )
