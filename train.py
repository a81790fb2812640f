"""OORL: on-policy reinforcement learning and off-policy group preference in one optimiser step (arXiv 2505.12723).

    python train.py                                                      the embedded world: two cores, seven minutes
    torchrun --nproc_per_node=8 train.py --model DIR --problems P.jsonl --ir-groups G.jsonl --out RUN [--steps N ...]
    python train.py --help                                               every knob (config.py); defaults are the paper's

One step, top to bottom in train_step(): sample translations of a few problems, hand them to the judge, back-propagate GEPO on
IR groups while the judge works, turn its verdicts into advantages, back-propagate the policy loss into the same .grad,
one AdamW step. Every rank samples, judges and back-propagates its share of the batch; what is divided by or normalised with is
the global batch's. A --out that holds an unfinished run is continued. Ctrl-C ends after the step, with a checkpoint.
Left out: asynchronous sampling. Not a framework: copy and change it.
"""

import gc
import json
import math
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # torch's threads must not spin on the cores that judge (dev/LOG.md)
if int(os.environ.get("RANK", 0)) > 0:
    os.environ["TQDM_DISABLE"] = "1"  # rank 0 speaks
import torch
from tqdm import tqdm

import gepo
from config import MAY_CHANGE, parse_config, print_plan
from data import (
    ir_prompt,
    ir_response,
    load_tokenizer,
    read_groups,
    read_problems,
    translation_prompt,
)
from distributed import ranks, sharding
from evaluate import evaluate, runnable, scores, table
from groups import Group, backward_tokens, frozen_logprobs
from judge.languages import installed_toolchains
from judge.pool import check_canaries
from judge.sandbox import SandboxError, probe
from kernels import gepo_group_loss
from model import load_model, unsharded_copy
from reward import judge_pool
from rollout import generate
from training import checkpoint

CLIP_NORM = 1.0  # of the gradient; the paper does not say
SKIPPED = 5  # steps in a row without an update, because of NaN or infinity, end the run


# ---------------------------------------------------------------------------------------------- the two halves


def off_policy_half(model, c, groups, winner, ref):
    """Eq. 9 (or Eq. 3) of this rank's share of a batch of IR groups, back-propagated with weight w_gepo. -> metrics of the batch.

    The loss couples the members of a group, but only through one number each: take it on log-probs without a graph,
    and its gradient there is a coefficient for each token; the second pass back-propagates member by member (exact)."""
    logps = [y for ys in frozen_logprobs(model, groups, c.token_budget) for y in ys]
    of, mine, batch_size = [], [], sum(ranks.all_gather_list([len(groups)]))
    if groups:
        members = [(g, len(y)) for g, group in enumerate(groups) for y in group.responses]
        group, sizes = (torch.tensor(x).to(model.device) for x in zip(*members))
        winner, ref = (
            torch.cat(x).to(model.device) for x in (winner, ref)
        )  # [R] bool, [R] float32
        per_token = 1 / sizes.float() if c.gepo_logp == "mean" else torch.ones_like(sizes).float()
        response = torch.arange(len(sizes), device=model.device).repeat_interleave(
            sizes
        )  # [N] the response of each token
        leaf = torch.cat(logps).to(model.device).requires_grad_()  # [N]
        preference, variance = gepo_group_loss(
            leaf * per_token[response], ref * per_token, response, group, winner, c.beta, c.lam
        )
        (
            c.w_gepo / batch_size * (preference + c.lam * variance).sum()
        ).backward()  # Eq. 9, weighted as in Eq. 10
        coefficients = iter(leaf.grad.split(sizes.tolist()))
        of = [[next(coefficients) for _ in group.responses] for group in groups]
        rhat = (
            torch.stack([y.sum() for y in logps]).to(model.device) - ref
        ) * per_token  # [R] Eq. 8 (by length: --gepo-logp mean)
        mean = lambda g, w: rhat[(group == g) & (winner == w)].mean()
        mine = [
            (
                preference[g].detach().cpu(),
                variance[g].detach().cpu(),
                (mean(g, True) - mean(g, False)).cpu(),
                rhat[group == g].cpu(),
            )
            for g in range(len(groups))
        ]
    backward_tokens(model, groups, c.token_budget, lambda g, i, logp: (of[g][i] * logp).sum())
    *parts, rhat = zip(*ranks.all_gather_list(mine))
    preference, variance, margins = map(torch.stack, parts)
    return {
        "gepo_loss": float((preference + c.lam * variance).mean()),
        "gepo_preference": float(preference.mean()),
        "gepo_variance": float(variance.mean()),
        "gepo_margin": float(margins.mean()),
        "gepo_accuracy": float((margins > 0).float().mean()),
        "gepo_rhat_spread": float(torch.cat(rhat).std(unbiased=False)),
    }


def on_policy_half(model, c, groups, old, advantages):
    """Eq. 5 of this rank's samples, back-propagated with weight w_rl; mean over all response tokens of the batch. -> its metrics."""
    tokens = sum(
        ranks.all_gather_list([len(y) for group in groups for y in group.responses])
    )  # one denominator, before any cut
    to = lambda of: [[x.to(model.device) for x in xs] for xs in of]
    on, an = to(old), to(advantages)
    now = backward_tokens(
        model,
        groups,
        c.token_budget,
        temperature=c.temperature,
        loss=lambda g, i, logp: (
            c.w_rl / tokens * gepo.clipped_policy_loss(logp, on[g][i], an[g][i], c.clip_eps).sum()
        ),
    )  # Eq. 5, Eq. 10
    flat = [
        [x for xs in of for x in xs] for of in (now, old, advantages)
    ]  # back-propagated already; this is for the log
    now, old, advantages = map(torch.cat, zip(*ranks.all_gather_list(list(zip(*flat)))))
    ratio = (now - old).exp()
    loss = gepo.clipped_policy_loss(now, old, advantages, c.clip_eps).mean()
    return {
        "policy_loss": float(loss),
        "ratio_max": float(ratio.max()),
        "ratio_min": float(ratio.min()),
        "clip_fraction": float(((ratio - 1).abs() > c.clip_eps).float().mean()),
    }


# ---------------------------------------------------------------------------------------------- data


def load_ir_groups(c, tokenizer):
    """IR groups -> (list of Group, list of winner flags [k] bool); too long ones are left out and counted."""
    groups, winner, rows = [], [], read_groups(c.ir_groups)
    for row in rows:
        winners, losers = row["winners"], row["losers"]
        if c.off_policy == "dpo":
            winners, losers = winners[:1], losers[:1]  # Eq. 3 is Eq. 9 with n = m = 1
        responses = [
            torch.tensor(tokenizer.encode(ir_response(ir)) + [tokenizer.end_id])
            for ir in winners + losers
        ]
        prompt = torch.tensor(tokenizer.chat_prompt(ir_prompt(row["source"])))
        if len(prompt) + max(map(len, responses)) <= c.max_length:
            groups.append(Group(prompt, responses))
            winner.append(torch.tensor([True] * len(winners) + [False] * len(losers)))
    if len(groups) < len(rows):
        print(
            f"IR groups: {len(rows) - len(groups)} of {len(rows)} left out, longer than --max-length {c.max_length} tokens"
        )
    if not groups:
        raise ValueError(f"{c.ir_groups}: no group is within --max-length {c.max_length} tokens")
    return groups, winner


def load_problems(c, tokenizer, missing):
    problems = runnable(read_problems(c.problems), missing)
    prompts = [tokenizer.chat_prompt(translation_prompt(p)) for p in problems]
    fit = [i for i, p in enumerate(prompts) if len(p) + c.max_new_tokens <= c.max_length]
    if len(fit) < len(problems):
        print(
            f"problems: {len(problems) - len(fit)} of {len(problems)} left out, prompt and --max-new-tokens "
            f"{c.max_new_tokens} are over --max-length {c.max_length}"
        )
    if not fit:
        raise ValueError(
            f"{c.problems}: no problem fits --max-length {c.max_length} with --max-new-tokens {c.max_new_tokens}"
        )
    return [problems[i] for i in fit], [prompts[i] for i in fit]


def reference_sums(c, reference, groups, weights):
    """log pi_ref of every IR, summed over its tokens: list of [k] float32. Constant, so computed once (by reference(), whose
    files have the fingerprint `weights`) and kept."""

    def make():
        model = reference()
        turns = range(
            ranks.rank(), len(groups) + ranks.rank(), ranks.world_size()
        )  # equally many on every rank
        of = {
            i: torch.stack([y.sum() for y in ys])
            for i in tqdm(turns, desc="pi_ref of the IR groups", unit="group")
            for ys in frozen_logprobs(model, groups[i : i + 1], c.token_budget)
        }
        return [sums for _, sums in sorted(ranks.all_gather_list(list(of.items())))]

    key = checkpoint.fingerprint(
        [], [weights, *([g.prompt.tolist(), *(y.tolist() for y in g.responses)] for g in groups)]
    )
    return checkpoint.cached_on_disk(Path(c.out) / f"reference-{key}.pt", make)


def batch(step, size, count, seed):
    """Indices of step's batch: epoch after epoch, each in its own order. A function of the step, so it needs no state."""
    places = range(step * size, (step + 1) * size)
    generator = lambda epoch: torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = {
        e: torch.randperm(count, generator=generator(e)).tolist()
        for e in {k // count for k in places}
    }
    return [order[k // count][k % count] for k in places]


def learning_rate(c, step, total):
    """Linear warm-up, then cosine to 0. step counts optimiser steps from 0."""
    warm = max(1, round(c.warmup_ratio * total))
    return (
        c.lr * (step + 1) / warm
        if step < warm
        else c.lr * (0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, total - warm)))
    )


# ---------------------------------------------------------------------------------------------- the run


@contextmanager
def stop_after_step():
    """First Ctrl-C (or SIGTERM) asks for an end after the step, a second one ends at once. With more ranks SIGTERM always does:
    torchrun sends it when a rank has failed, and those that wait for that one must go."""
    asked = []

    def handler(signum, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)
        tqdm.write("stopping after this step (again: at once)")

    before = {
        s: signal.signal(s, handler)
        for s in (signal.SIGINT, signal.SIGTERM)[: 1 if ranks.world_size() > 1 else 2]
    }
    try:
        yield asked
    finally:
        for s, h in before.items():
            signal.signal(s, h)


def load(c, directory, device, frozen=False):
    """The policy (float32 master weights) or a frozen copy, as the ranks hold it: sharded, and computing in bfloat16 on a GPU."""
    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = load_model(
        directory,
        device,
        compute if frozen else torch.float32,
        compute if sharding.is_sharded() else None,
        "offload" in c.engine,
    )
    for block in model.model.layers:
        block.recompute = "recompute" in c.engine
        if "compile" in c.engine:
            block.before, block.after = (
                torch.compile(part, dynamic=True) for part in (block.before, block.after)
            )
    ranks.barrier()  # the ranks whose disk is quick wait here
    return model.requires_grad_(not frozen)


def seconds(device) -> float:
    """The clock, once the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main(argv=None) -> int:
    c = parse_config(argv)
    device = ranks.start()
    if ranks.rank() > 0:
        sys.stdout = open(os.devnull, "w")
    if "offload" in c.engine and device.type == "cpu":
        raise ValueError(
            "--engine offload moves what a GPU cannot hold to the CPU; there is no GPU here, leave it out"
        )
    mode, (available, missing) = probe(), installed_toolchains()
    if missing != (theirs := ranks.broadcast_from_rank_0(lambda: missing)):
        raise ValueError(
            f"this node lacks {list(missing)}, the first one {list(theirs)}: install the same toolchains on all"
        )
    tokenizer = load_tokenizer(c.model)
    problems, prompts = load_problems(c, tokenizer, missing)
    held_out = (
        runnable(read_problems(c.eval_problems), missing, "held-out problems")
        if c.eval_problems
        else []
    )
    ir_groups, winner = ([], []) if c.off_policy == "none" else load_ir_groups(c, tokenizer)
    total = c.steps or -(-len(problems) * c.samples_per_prompt // c.rollout_batch)
    weights = ranks.broadcast_from_rank_0(
        lambda: checkpoint.fingerprint(
            [Path(c.model) / "config.json", *sorted(Path(c.model).glob("*.safetensors"))], 0
        )
    )
    inputs = ranks.broadcast_from_rank_0(
        lambda: checkpoint.fingerprint(
            filter(None, (c.problems, c.eval_problems, ir_groups and c.ir_groups)),
            [weights, *(p["id"] for p in problems)],
        )
    )
    run, config = Path(c.out), {**asdict(c), "inputs": inputs}
    with checkpoint.run_lock(run):
        start, latest = checkpoint.open_run(run, config, MAY_CHANGE, c.resume)
        model = load(c, latest or c.model, device)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=c.lr,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=device.type == "cuda" or None,
        )
        if start:
            checkpoint.load_optimizer(latest, model, optimizer)
        print_plan(c, model, problems, ir_groups, total, start, mode, available, missing)
        reference = load(c, c.model, device, frozen=True) if c.kl_coef else None
        ref = (
            reference_sums(
                c, lambda: reference or load(c, c.model, device, frozen=True), ir_groups, weights
            )
            if ir_groups
            else []
        )

        with judge_pool(c.judge_workers) as pool:
            *_, past = ranks.broadcast_from_rank_0(
                lambda: [
                    checkpoint.drop_rows_from(run / name, start)
                    for name in ("samples.jsonl", "metrics.jsonl")
                ]
            )
            targets = sorted({p["target_language"] for p in problems + held_out})
            initial = lambda: (
                model if not start else reference or load(c, c.model, device, frozen=True)
            )

            def check_judge():  # one that has changed its mind must not go on
                if int(os.environ.get("LOCAL_RANK", 0)) == 0:
                    check_canaries(pool, targets)
                ranks.barrier()

            check_judge()
            score_held_out(c, "before", initial, tokenizer, held_out, pool)
            gc.collect()  # FSDP's units are cycles: a reference of no more use would stay on the GPU
            nothing = lambda row: row["skipped"] == c.inner_epochs  # was updated
            began, seen, stop, due, save_s, idle = (
                time.time(),
                Counter(),
                False,
                False,
                0.0,
                len([*takewhile(nothing, reversed(past))]),
            )
            with (
                stop_after_step() as asked,
                tqdm(range(start, total), initial=start, total=total, unit="step") as bar,
            ):
                for step in bar:
                    row, samples = train_step(
                        c,
                        step,
                        total,
                        model,
                        reference,
                        optimizer,
                        tokenizer,
                        pool,
                        problems,
                        prompts,
                        ir_groups,
                        winner,
                        ref,
                    )
                    if ranks.rank() == 0:
                        checkpoint.append_rows(run / "samples.jsonl", samples)
                        checkpoint.append_rows(run / "metrics.jsonl", [{**row, "save_s": save_s}])
                    bar.set_postfix_str(
                        f"reward {row['reward']:.2f}, {row['step_s']:.1f} s"
                        + (
                            f", pref {row['gepo_preference']:.4f}, var {row['gepo_variance']:.1e}"
                            if ir_groups
                            else ""
                        )
                    )
                    seen.update(row["verdicts"])
                    stop, broken, save_s = (
                        bool(ranks.all_gather_list(asked)),
                        seen["JE"] > max(1, 0.01 * seen.total()),
                        0.0,
                    )
                    idle, due = (
                        idle + 1 if nothing(row) else 0,
                        due or (step + 1) % c.save_every == 0,
                    )
                    if idle == SKIPPED:
                        raise ValueError(
                            f"the loss or the gradient was NaN or infinite in {idle} steps in a row, up to step {step}, and nothing "
                            f"was updated; the last checkpoint, {(checkpoint.saved_checkpoints(run) or ['none yet'])[-1]}, is from before; lower "
                            "--lr or --w-gepo in a new run"
                        )
                    if (due and not idle) or step + 1 == total or stop or broken:
                        at, due = time.time(), False
                        checkpoint.save(run, step + 1, model, optimizer, c.model, config)
                        check_judge()
                        save_s = time.time() - at
                    if broken:
                        raise SandboxError(
                            f"{seen['JE']} of {seen.total()} verdicts are judge errors, the last: "
                            + [s["detail"] for s in samples if s["verdict"] == "JE"][-1]
                        )
                    if stop:
                        break
            if stop and step + 1 < total:
                print(
                    f"stopped after step {step + 1} of {total}; the same command continues from {checkpoint.saved_checkpoints(run)[-1]}"
                )
                return 130
            score_held_out(c, "after", lambda: model, tokenizer, held_out, pool)
    rows = [json.loads(line) for line in open(run / "metrics.jsonl")]
    print(
        (
            f"trained {total - start} step(s) in {time.time() - began:.0f} s"
            if total > start
            else "this run is finished already"
        )
        + f"; reward from {rows[0]['reward']:.2f} to {rows[-1]['reward']:.2f}; the model is in {checkpoint.saved_checkpoints(run)[-1]}\n"
        + breakdown(rows)
        + f"\nmemory at most: {peak_memory(device):.2f} GiB of rank 0's {'GPU' if device.type == 'cuda' else 'process'}"
    )
    if held_out:
        rows = {
            title: [json.loads(line) for line in open(run / f"eval-{title}.jsonl")]
            for title in ("before", "after")
        }
        before, after = (scores(rows[title])["all", "all"][0] for title in ("before", "after"))
        print(f"{table(rows)}\nheld-out greedy pass@1: {100 * (after - before):+.1f} points")
    ranks.shut_down()
    return 0


def breakdown(rows) -> str:
    """Where the time of a step goes, from rows of metrics.jsonl."""
    mean = {
        k: sum(row[k] for row in rows) / len(rows)
        for k in rows[0]
        if k.endswith("_s") and not k.endswith("_per_s")
    }
    parts = ", ".join(
        f"{k.removesuffix('_s').replace('_', ' ')} {mean[k]:.2f}"
        for k in (
            "rollout_s",
            "gepo_s",
            "logprob_s",
            "judge_wait_s",
            "policy_s",
            "optimizer_s",
            "save_s",
        )
    )
    return (
        f"seconds a step: {mean['step_s']:.2f} = {parts}\nthe judge took {mean['judge_s']:.2f} of them, "
        f"{max(0, mean['judge_s'] - mean['judge_wait_s']):.2f} behind the off-policy half and the log-probs"
    )


def score_held_out(c, title, model, tokenizer, problems, pool):
    """Greedy pass@1 of model() into eval-TITLE.jsonl, unless it is there already; each rank takes a share of the problems."""
    path = Path(c.out) / f"eval-{title}.jsonl"
    if problems and not ranks.broadcast_from_rank_0(path.exists):
        rows = ranks.all_gather_list(
            evaluate(
                unsharded_copy(model()),
                tokenizer,
                [problems[i] for i in ranks.share_of(len(problems))],
                pool,
                max_new_tokens=c.max_new_tokens,
                desc=f"held-out, {title}",
            )
        )
        if (errors := sum(row["verdicts"].count("JE") for row in rows)) > 0.01 * len(rows):
            raise SandboxError(
                f"{errors} of {len(rows)} held-out verdicts are judge errors; python reward.py --probe says more"
            )
        if ranks.rank() == 0:
            checkpoint.write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
        ranks.barrier()


def train_step(
    c,
    step,
    total,
    model,
    reference,
    optimizer,
    tokenizer,
    pool,
    problems,
    prompts,
    ir_groups,
    winner,
    ref,
):
    """One step of OORL, Eq. 10. -> (row of metrics.jsonl, rows of samples.jsonl), of the global batch on every rank"""
    clock, times, entropies, began = lambda: seconds(model.device), {}, [], seconds(model.device)
    now = batch(step, c.rollout_batch // c.samples_per_prompt, len(prompts), c.seed)
    groups = generate(
        unsharded_copy(model),
        [prompts[i] for i in now],
        c.samples_per_prompt,
        c.max_new_tokens,
        c.temperature,
        tokenizer.eos_ids,
        seed=c.seed * 1_000_003 + step,
        share=ranks.share_of(c.rollout_batch),
    )
    texts, submitted = (
        [[tokenizer.decode(y.tolist()) for y in group.responses] for group in groups],
        clock(),
    )
    futures, ended = (
        [[pool.submit(problems[i], text) for text in of] for i, of in zip(now, texts)],
        [submitted],
    )
    for future in sum(futures, []):
        future.add_done_callback(lambda _: ended.append(time.perf_counter()))
    ranks.barrier()  # the ranks that sampled quickly wait here, not in FSDP's collectives
    times["rollout_s"], at = clock() - began, clock()

    def off_policy():  # needs no reward: it fills the time in which the judge runs
        if not ir_groups:
            return {}
        ids = batch(step, c.gepo_batch, len(ir_groups), c.seed + 1)
        return off_policy_half(
            model,
            c,
            *(
                [of[ids[k]] for k in ranks.share_of(c.gepo_batch)]
                for of in (ir_groups, winner, ref)
            ),
        )

    metrics = off_policy()  # Eq. 10: w_gepo * L_GEPO into .grad
    times["gepo_s"], at = clock() - at, clock()
    old = frozen_logprobs(model, groups, c.token_budget, c.temperature, entropies)
    base = frozen_logprobs(reference, groups, c.token_budget, c.temperature) if c.kl_coef else old
    times["logprob_s"], at = clock() - at, clock()
    mine = [
        SimpleNamespace(
            rank=ranks.rank(),
            prompt=g,
            i=i,
            text=texts[g][i],
            verdict=future.result(),
            old=old[g][i],
            kl=old[g][i] - base[g][i],
            sampled=groups[g].logps[i],
            truncated=int(groups[g].responses[i][-1]) not in tokenizer.eos_ids,
        )
        for g, of in enumerate(futures)
        for i, future in enumerate(of)
    ]
    everyone = ranks.all_gather_list(mine)  # all samples of the step, in order
    times["judge_wait_s"], times["judge_s"], at = clock() - at, max(ended) - submitted, clock()

    judged = [
        s for s in everyone if s.verdict.reward is not None
    ]  # a judge error is no sample at all
    if not judged:
        raise SandboxError(
            f"all verdicts of step {step} are judge errors: {everyone[0].verdict.detail}"
        )
    rewards, prompt = (
        torch.tensor([s.verdict.reward for s in judged]),
        torch.tensor([s.prompt for s in judged]),
    )
    advantages = gepo.advantages(
        rewards, prompt, [s.kl for s in judged], c.kl_coef, c.advantage
    )  # Eq. 1, REINFORCE++
    own = defaultdict(list)  # this rank's share again, by prompt
    for s, a in zip(judged, advantages):
        if s.rank == ranks.rank():
            own[s.prompt].append((groups[s.prompt].responses[s.i], s.old, a))
    responses, old, advantages = (
        ([list(x) for x in of] for of in zip(*(zip(*of) for of in own.values())))
        if own
        else ([], [], [])
    )
    samples = [Group(groups[g].prompt, ys) for g, ys in zip(own, responses)]

    skipped, times["policy_s"], times["optimizer_s"] = 0, 0.0, 0.0
    for epoch in range(c.inner_epochs):
        if epoch:
            off_policy()  # again, at the new theta; the log keeps the first
        metrics |= on_policy_half(model, c, samples, old, advantages)  # + w_rl * L_OnP
        times["policy_s"], at = times["policy_s"] + clock() - at, clock()
        optimizer.param_groups[0]["lr"] = lr = learning_rate(
            c, step * c.inner_epochs + epoch, total * c.inner_epochs
        )
        norm = sharding.unshard(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM))
        if all(
            math.isfinite(x) for x in (norm, metrics["policy_loss"], metrics.get("gepo_loss", 0))
        ):
            optimizer.step()
        else:
            skipped += 1  # the same decision on every rank: all three are global
        optimizer.zero_grad()
        times["optimizer_s"], at = times["optimizer_s"] + clock() - at, clock()
    times["step_s"] = clock() - began

    sampled, by_target = sum(len(s.old) for s in everyone), defaultdict(list)
    for s in judged:
        by_target[problems[now[s.prompt]]["target_language"]].append(s.verdict.reward)
    if c.kl_coef:
        metrics["kl"] = float(torch.cat([s.kl for s in judged]).mean())
    row = {
        "step": step,
        "reward": float(rewards.mean()),
        "rewards": {k: sum(v) / len(v) for k, v in sorted(by_target.items())},
        **metrics,
        "logp_gap": float(
            (torch.cat([s.sampled for s in judged]) - torch.cat([s.old for s in judged]))
            .abs()
            .max()
        ),
        "entropy": float(torch.cat(ranks.all_gather_list(entropies)).mean()),
        "grad_norm": float(norm),
        "lr": lr,
        "skipped": skipped,
        "response_tokens": sampled / c.rollout_batch,
        "truncated": sum(s.truncated for s in everyone) / c.rollout_batch,
        "verdicts": dict(Counter(s.verdict.status for s in everyone)),
        **times,
        "judge_cpu_s": sum(s.verdict.cpu_s for s in everyone),
        "tokens_per_s": sampled / times["step_s"],
    }
    return row, [
        {
            "step": step,
            "id": problems[now[s.prompt]]["id"],
            "completion": s.text,
            "verdict": s.verdict.status,
            "reward": s.verdict.reward,
            "detail": s.verdict.detail,
        }
        for s in everyone
    ]


def peak_memory(device) -> float:
    """GiB at most in use so far: of the GPU, or of this process."""
    return (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ) / 2**30


if __name__ == "__main__":
    try:
        sys.exit(ranks.report_rank_failure(main)())
    except (ValueError, OSError, SandboxError) as e:
        sys.exit(f"train.py: {e}")
    except KeyboardInterrupt:
        sys.exit(
            "train.py: interrupted; the same command continues from the last checkpoint, or from the start if there is none"
        )
