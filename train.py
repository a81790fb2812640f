"""OORL: on-policy reinforcement learning and off-policy group preference in one optimiser step (arXiv 2505.12723).

    python train.py                                                      the embedded world: two cores, seven minutes
    python train.py --model DIR --problems P.jsonl --ir-groups G.jsonl --out RUN [--steps N ...]
    python train.py --help                                               every knob; defaults are the paper's

One step, top to bottom in train_step(): sample translations of a few problems, hand them to the judge, back-propagate GEPO on
IR groups while the judge works, turn its verdicts into advantages, back-propagate the policy loss into the same .grad,
one AdamW step. A --out that holds an unfinished run is continued. Ctrl-C ends after the step, with a checkpoint.
Left out: more than one process (FSDP), mixed precision, asynchronous sampling. Not a framework: copy and change it.
"""
import argparse
import json
import math
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")      # torch's threads must not spin on the cores that judge (dev/LOG.md)
import torch
from tqdm import tqdm

import checkpoint
import gepo
from data import load_tokenizer, read_groups, read_problems
from evaluate import evaluate, runnable, scores, table
from groups import Group, backward_tokens, frozen_logprobs
from ir import ir_prompt, ir_response
from kernels import gepo_group_loss
from languages import found
from model import load_model
from reward import JudgePool, canaries, translation_prompt
from rollout import generate
from sandbox import SandboxError, probe


def knob(default, text, **more): return field(default=default, metadata={"help": text, **more})


@dataclass
class Config:
    model: str = knob("", "directory of a Hugging Face checkpoint; the initial policy and pi_ref")
    problems: str = knob("", "translation problems with tests (problems.jsonl)")
    ir_groups: str = knob("", "IR groups (ir_groups.jsonl); not needed with --off-policy none")
    eval_problems: str = knob("", "held-out problems, scored before and after; empty: no evaluation")
    out: str = knob("", "folder of the run")
    steps: int = knob(0, "rollout batches to train on; 0: one epoch of the problems")
    seed: int = knob(0, "of data order and sampling")
    off_policy: str = knob("gepo", "preference half", choices=("gepo", "dpo", "none"))
    advantage: str = knob("reinforce++", "on-policy half",
                          choices=("reinforce++", "reinforce++-baseline", "grpo", "rloo"))
    w_rl: float = knob(1.0, "weight of the policy loss, Eq. 10")
    w_gepo: float = knob(0.01, "weight of the preference loss, Eq. 10")
    lam: float = knob(1.0, "lambda, weight of the variance of the winners, Eq. 9")
    beta: float = knob(0.1, "beta of Eq. 3 and 9")
    gepo_logp: str = knob("sum", "log-prob of an IR: over its tokens", choices=("sum", "mean"))
    samples_per_prompt: int = knob(4, "translations sampled of each problem")
    rollout_batch: int = knob(8, "samples a step, over all prompts")
    gepo_batch: int = knob(8, "IR groups a step")
    kl_coef: float = knob(0.01, "k1 KL to pi_ref in the token reward, Eq. 1; 0: no reference pass")
    clip_eps: float = knob(0.2, "PPO clip, Eq. 5")
    inner_epochs: int = knob(1, "optimiser steps on each rollout batch, each with the same IR groups")
    lr: float = knob(5e-7, "peak of AdamW's learning rate, cosine to 0")
    warmup_ratio: float = knob(0.03, "share of the steps in which the learning rate rises")
    clip_norm: float = knob(1.0, "gradient norm above which it is scaled down")
    temperature: float = knob(1.0, "of sampling, and of the log-probs in the on-policy half")
    max_length: int = knob(8192, "tokens of prompt and answer; longer problems and groups are left out, counted")
    max_new_tokens: int = knob(4096, "tokens of a sampled answer")
    token_budget: int = knob(16384, "tokens of one forward and backward (a longer response goes alone); changes no gradient")
    judge_workers: int = knob(os.cpu_count(), "programs judged at a time")
    save_every: int = knob(100, "steps between checkpoints; the last two stay")
    unsafe_no_sandbox: bool = knob(False, "run model-written programs WITHOUT isolation")


EMBEDDED = dict(model="toy/model", problems="toy/problems.jsonl", ir_groups="toy/ir_groups.jsonl",
                eval_problems="toy/heldout.jsonl", out="out/embedded", steps=80, lr=3e-4, rollout_batch=64,
                gepo_batch=4, w_gepo=1.0, gepo_logp="mean", max_length=448, max_new_tokens=192, token_budget=2048,
                save_every=10)                               # why w_gepo and gepo_logp: dev/LOG.md, "Sum or mean"
PATHS = ("model", "problems", "ir_groups", "eval_problems", "out")
MAY_CHANGE = ("out", "judge_workers", "token_budget", "save_every")         # when a run is continued


def parse_config(argv) -> Config:
    """Flags -> Config. Without --model: the embedded world's values, where no flag says otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    for f in fields(Config):
        kind = dict(action="store_true") if f.type is bool else dict(type=f.type, choices=f.metadata.get("choices"))
        parser.add_argument("--" + f.name.replace("_", "-"), default=f.default, **kind,
                            help=f"{f.metadata['help']} (default: {f.default})".replace("%", "%%"))
    if not parser.parse_args(argv).model:
        here = Path(__file__).parent
        parser.set_defaults(**{k: str(here / v) if k in PATHS else v for k, v in EMBEDDED.items()})
    c = Config(**vars(parser.parse_args(argv)))
    for name in ("problems", "out", *(() if c.off_policy == "none" else ("ir_groups",))):
        if not getattr(c, name):
            parser.error(f"--{name.replace('_', '-')} is needed with --model")
    least = dict(dict.fromkeys(("samples_per_prompt", "rollout_batch", "gepo_batch", "inner_epochs", "max_length", "max_new_tokens",
                                "token_budget", "judge_workers", "save_every"), 1), temperature=1e-3, clip_norm=1e-9)
    for f in fields(Config):
        value = getattr(c, f.name)
        if f.type in (int, float) and not least.get(f.name, 0) <= value < math.inf:
            parser.error(f"--{f.name.replace('_', '-')} is {value}; it must be at least {least.get(f.name, 0)}")
    if c.rollout_batch % c.samples_per_prompt:
        parser.error(f"--rollout-batch {c.rollout_batch} must be a multiple of --samples-per-prompt {c.samples_per_prompt}")
    return c


# ---------------------------------------------------------------------------------------------- the two halves

def off_policy_half(model, c, groups, winner, ref):
    """Eq. 9 (or Eq. 3) of a batch of IR groups, back-propagated with weight w_gepo. -> metrics.

    The loss couples the members of a group, but only through one number each: take it on log-probs without a graph,
    and its gradient there is a coefficient for each token; the second pass back-propagates member by member (exact)."""
    logps = [y for ys in frozen_logprobs(model, groups, c.token_budget) for y in ys]
    members = [(g, len(y)) for g, group in enumerate(groups) for y in group.responses]
    group, sizes = (torch.tensor(x).to(model.device) for x in zip(*members))
    winner, ref = (torch.cat(x).to(model.device) for x in (winner, ref))              # [R] bool, [R] float32
    per_token = 1 / sizes.float() if c.gepo_logp == "mean" else torch.ones_like(sizes).float()
    response = torch.arange(len(sizes), device=model.device).repeat_interleave(sizes)  # [N] the response of each token
    leaf = torch.cat(logps).to(model.device).requires_grad_()                         # [N]
    preference, variance = gepo_group_loss(leaf * per_token[response], ref * per_token, response, group, winner, c.beta, c.lam)
    (c.w_gepo * (preference + c.lam * variance).mean()).backward()                    # Eq. 9, weighted as in Eq. 10
    coefficients = iter(leaf.grad.split(sizes.tolist()))
    of = [[next(coefficients) for _ in group.responses] for group in groups]
    backward_tokens(model, groups, c.token_budget, lambda g, i, logp: (of[g][i] * logp).sum())
    preference, variance = preference.detach(), variance.detach()
    rhat = (torch.stack([y.sum() for y in logps]).to(model.device) - ref) * per_token  # [R] Eq. 8 (by length: --gepo-logp mean)
    mean = lambda g, w: rhat[(group == g) & (winner == w)].mean()
    margins = torch.stack([mean(g, True) - mean(g, False) for g in range(len(groups))])
    return {"gepo_loss": float((preference + c.lam * variance).mean()), "gepo_preference": float(preference.mean()),
            "gepo_variance": float(variance.mean()), "gepo_margin": float(margins.mean()),
            "gepo_accuracy": float((margins > 0).float().mean()), "gepo_rhat_spread": float(rhat.std(unbiased=False))}


def on_policy_half(model, c, groups, old, advantages):
    """Eq. 5 of a batch of samples, back-propagated with weight w_rl; mean over all response tokens. -> metrics."""
    tokens = sum(len(y) for group in groups for y in group.responses)                 # one denominator, before any cut
    old, advantages = ([[x.to(model.device) for x in xs] for xs in of] for of in (old, advantages))
    now = backward_tokens(model, groups, c.token_budget, temperature=c.temperature, loss=lambda g, i, logp: c.w_rl / tokens
                          * gepo.clipped_policy_loss(logp, old[g][i], advantages[g][i], c.clip_eps).sum())     # Eq. 5, Eq. 10
    flat = lambda of: torch.cat([x.cpu() for xs in of for x in xs])                   # back-propagated already; this is for the log
    ratio = (flat(now) - flat(old)).exp()
    loss = gepo.clipped_policy_loss(flat(now), flat(old), flat(advantages), c.clip_eps).mean()
    return {"policy_loss": float(loss), "ratio_max": float(ratio.max()), "ratio_min": float(ratio.min()),
            "clip_fraction": float(((ratio - 1).abs() > c.clip_eps).float().mean())}


# ---------------------------------------------------------------------------------------------- data

def load_ir_groups(c, tokenizer):
    """IR groups -> (list of Group, list of winner flags [k] bool); too long ones are left out and counted."""
    groups, winner, rows = [], [], read_groups(c.ir_groups)
    for row in rows:
        winners, losers = row["winners"], row["losers"]
        if c.off_policy == "dpo":
            winners, losers = winners[:1], losers[:1]                                 # Eq. 3 is Eq. 9 with n = m = 1
        responses = [torch.tensor(tokenizer.encode(ir_response(ir)) + [tokenizer.end_id]) for ir in winners + losers]
        prompt = torch.tensor(tokenizer.chat_prompt(ir_prompt(row["source"])))
        if len(prompt) + max(map(len, responses)) <= c.max_length:
            groups.append(Group(prompt, responses))
            winner.append(torch.tensor([True] * len(winners) + [False] * len(losers)))
    if len(groups) < len(rows):
        print(f"IR groups: {len(rows) - len(groups)} of {len(rows)} left out, longer than --max-length {c.max_length} tokens")
    if not groups:
        raise ValueError(f"{c.ir_groups}: no group is within --max-length {c.max_length} tokens")
    return groups, winner


def load_problems(c, tokenizer, missing):
    problems = runnable(read_problems(c.problems), missing)
    prompts = [tokenizer.chat_prompt(translation_prompt(p)) for p in problems]
    fit = [i for i, p in enumerate(prompts) if len(p) + c.max_new_tokens <= c.max_length]
    if len(fit) < len(problems):
        print(f"problems: {len(problems) - len(fit)} of {len(problems)} left out, prompt and --max-new-tokens "
              f"{c.max_new_tokens} are over --max-length {c.max_length}")
    if not fit:
        raise ValueError(f"{c.problems}: no problem fits --max-length {c.max_length} with --max-new-tokens {c.max_new_tokens}")
    return [problems[i] for i in fit], [prompts[i] for i in fit]


def model_files(c):
    return [Path(c.model) / "config.json", *sorted(Path(c.model).glob("*.safetensors"))]


def reference_sums(c, reference, groups):
    """log pi_ref of every IR, summed over its tokens: list of [k] float32. Constant, so computed once and kept."""
    key = checkpoint.fingerprint(model_files(c), [[g.prompt.tolist(), *(y.tolist() for y in g.responses)] for g in groups])
    return checkpoint.kept(Path(c.out) / f"reference-{key}.pt", lambda: [
        torch.stack([y.sum() for y in frozen_logprobs(reference, [group], c.token_budget)[0]])
        for group in tqdm(groups, desc="pi_ref of the IR groups", unit="group")])


def batch(step, size, count, seed):
    """Indices of step's batch: epoch after epoch, each in its own order. A function of the step, so it needs no state."""
    places = range(step * size, (step + 1) * size)
    generator = lambda epoch: torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = {e: torch.randperm(count, generator=generator(e)).tolist() for e in {k // count for k in places}}
    return [order[k // count][k % count] for k in places]


def learning_rate(c, step, total):
    """Linear warm-up, then cosine to 0. step counts optimiser steps from 0."""
    warm = max(1, round(c.warmup_ratio * total))
    return c.lr * (step + 1) / warm if step < warm else c.lr * (0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1, total - warm)))


# ---------------------------------------------------------------------------------------------- the run

@contextmanager
def stop_after_step():
    """First Ctrl-C (or SIGTERM) asks for an end after the step, a second one ends at once."""
    asked = []

    def handler(signum, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)
        tqdm.write("stopping after this step (again: at once)")
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for s, h in before.items():
            signal.signal(s, h)


def print_plan(c, model, problems, groups, total, start, mode, available, missing):
    n, cfg, gb = sum(p.numel() for p in model.parameters()), model.config, 2 ** 30
    activations = 4 * c.token_budget * (cfg.num_hidden_layers * (10 * cfg.hidden_size + 4 * cfg.intermediate_size))
    cache = 8 * c.rollout_batch * c.max_length * cfg.num_hidden_layers * cfg.num_key_value_heads * cfg.head_dim
    print(f"model     {c.model}: {n / 1e6:.2f}M parameters, {cfg.num_hidden_layers} layers, vocabulary {cfg.vocab_size}, {model.device}\n"
          f"memory    {16 * n / gb:.2f} GiB weights, gradients, AdamW; {4 * n / gb if c.kl_coef or groups else 0:.2f} GiB pi_ref; about "
          f"{activations / gb:.2f} GiB activations at --token-budget {c.token_budget}; up to {cache / gb:.2f} GiB keys and values\n"
          f"on-policy {len(problems)} problems; {c.rollout_batch // c.samples_per_prompt} prompts x {c.samples_per_prompt} samples a step; "
          f"{c.advantage}, KL {c.kl_coef}, clip {c.clip_eps}, {c.inner_epochs} inner epoch(s)\n"
          f"off-policy {c.off_policy}" + (f": {len(groups)} IR groups, {c.gepo_batch} a step; weight {c.w_gepo}, beta {c.beta}, lambda {c.lam}\n"
                                          if groups else "\n") +
          f"steps     {start} to {total}, lr {c.lr:g}; {c.rollout_batch * total} samples in all; out: {c.out}\n"
          f"{mode}; {c.judge_workers} workers\nlanguages found: {', '.join(available)}; "
          f"missing: {', '.join(f'{k} ({v})' for k, v in missing.items()) or 'none'}", flush=True)


def main(argv=None) -> int:
    c = parse_config(argv)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("WORLD_SIZE is over 1: more than one process is not built yet; start one")
    if c.unsafe_no_sandbox:
        os.environ["OORL_UNSAFE_NO_SANDBOX"] = "1"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mode, (available, missing) = probe(), found()
    tokenizer = load_tokenizer(c.model)
    problems, prompts = load_problems(c, tokenizer, missing)
    held_out = runnable(read_problems(c.eval_problems), missing, "held-out problems") if c.eval_problems else []
    ir_groups, winner = ([], []) if c.off_policy == "none" else load_ir_groups(c, tokenizer)
    total = c.steps or -(-len(problems) * c.samples_per_prompt // c.rollout_batch)
    files = [*model_files(c), *filter(None, (c.problems, c.eval_problems, ir_groups and c.ir_groups))]
    run, config = Path(c.out), {**asdict(c), "inputs": checkpoint.fingerprint(files, [p["id"] for p in problems])}
    start = checkpoint.open_run(run, config, MAY_CHANGE)
    model = load_model(checkpoint.saved(run)[-1] if start else c.model, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.lr, betas=(0.9, 0.95), weight_decay=0.0)
    if start:
        optimizer.load_state_dict(torch.load(checkpoint.saved(run)[-1] / "trainer.pt", map_location=device)["optimizer"])
    print_plan(c, model, problems, ir_groups, total, start, mode, available, missing)
    reference = load_model(c.model, device).requires_grad_(False) if c.kl_coef or ir_groups else None
    ref = reference_sums(c, reference, ir_groups) if ir_groups else []
    reference = reference if c.kl_coef else None             # the IR groups' log-probs under pi_ref are kept

    with checkpoint.held(run), JudgePool(c.judge_workers) as pool:
        for name in ("metrics.jsonl", "samples.jsonl"):
            checkpoint.cut_rows(run / name, start)
        targets = sorted({p["target_language"] for p in problems + held_out})
        canaries(pool, targets)
        score_held_out(c, "before", model if not start else reference or load_model(c.model, device), tokenizer, held_out, pool)
        began, seen, stop = time.time(), Counter(), False
        with stop_after_step() as asked, tqdm(range(start, total), initial=start, total=total, unit="step") as bar:
            for step in bar:
                row, samples = train_step(c, step, total, model, reference, optimizer, tokenizer, pool,
                                          problems, prompts, ir_groups, winner, ref)
                checkpoint.append_rows(run / "samples.jsonl", samples)
                checkpoint.append_rows(run / "metrics.jsonl", [row])
                bar.set_postfix_str(f"reward {row['reward']:.2f}, {row['step_s']:.1f} s" + (
                    f", pref {row['gepo_preference']:.4f}, var {row['gepo_variance']:.1e}" if ir_groups else ""))
                seen.update(row["verdicts"])
                stop, broken = bool(asked), seen["JE"] > max(1, 0.01 * seen.total())
                if (step + 1) % c.save_every == 0 or step + 1 == total or stop or broken:
                    checkpoint.save(run, step + 1, model, optimizer, c.model, config)
                    canaries(pool, targets)                  # a judge that has changed its mind must not go on
                if broken:
                    raise SandboxError(f"{seen['JE']} of {seen.total()} verdicts are judge errors, the last: "
                                       + [s["detail"] for s in samples if s["verdict"] == "JE"][-1])
                if stop:
                    break
        if stop and step + 1 < total:
            print(f"stopped after step {step + 1} of {total}; the same command continues from {checkpoint.saved(run)[-1]}")
            return 130
        score_held_out(c, "after", model, tokenizer, held_out, pool)
    rewards = [row["reward"] for row in map(json.loads, open(run / "metrics.jsonl"))]
    print((f"trained {total - start} step(s) in {time.time() - began:.0f} s" if total > start else "this run is finished already")
          + f"; reward from {rewards[0]:.2f} to {rewards[-1]:.2f}; the model is in {checkpoint.saved(run)[-1]}")
    if held_out:
        rows = {title: [json.loads(line) for line in open(run / f"eval-{title}.jsonl")] for title in ("before", "after")}
        before, after = (scores(rows[title])["all", "all"][0] for title in ("before", "after"))
        print(f"{table(rows)}\nheld-out greedy pass@1: {100 * (after - before):+.1f} points")
    return 0


def score_held_out(c, title, model, tokenizer, problems, pool):
    """Greedy pass@1 into eval-TITLE.jsonl, unless it is there already."""
    path = Path(c.out) / f"eval-{title}.jsonl"
    if problems and not path.exists():
        rows = evaluate(model, tokenizer, problems, pool, max_new_tokens=c.max_new_tokens, desc=f"held-out, {title}")
        if (errors := sum(row["verdicts"].count("JE") for row in rows)) > 0.01 * len(rows):
            raise SandboxError(f"{errors} of {len(rows)} held-out verdicts are judge errors; python reward.py --probe says more")
        checkpoint.write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def train_step(c, step, total, model, reference, optimizer, tokenizer, pool, problems, prompts, ir_groups, winner, ref):
    """One step of OORL, Eq. 10. -> (row of metrics.jsonl, rows of samples.jsonl)"""
    clock, times, entropies, began = time.perf_counter, {}, [], time.perf_counter()
    now = batch(step, c.rollout_batch // c.samples_per_prompt, len(prompts), c.seed)
    groups = generate(model, [prompts[i] for i in now], c.samples_per_prompt, c.max_new_tokens, c.temperature,
                      tokenizer.eos_ids, seed=c.seed * 1_000_003 + step)
    times["rollout_s"] = clock() - began

    texts = [[tokenizer.decode(y.tolist()) for y in group.responses] for group in groups]
    futures = [[pool.submit(problems[i], text) for text in of] for i, of in zip(now, texts)]

    def off_policy():                                        # needs no reward: it fills the time in which the judge runs
        if not ir_groups:
            return {}
        ids = batch(step, c.gepo_batch, len(ir_groups), c.seed + 1)
        return off_policy_half(model, c, *([of[i] for i in ids] for of in (ir_groups, winner, ref)))

    at = clock()
    metrics = off_policy()                                   # Eq. 10: w_gepo * L_GEPO into .grad
    times["gepo_s"], at = clock() - at, clock()
    old = frozen_logprobs(model, groups, c.token_budget, c.temperature, entropies)
    base = frozen_logprobs(reference, groups, c.token_budget, c.temperature) if c.kl_coef else old
    times["logprob_s"], at = clock() - at, clock()
    verdicts = [[f.result() for f in of] for of in futures]
    times["judge_wait_s"], at = clock() - at, clock()

    judged = [[v.reward is not None for v in of] for of in verdicts]            # a judge error is no sample at all
    pick = lambda of, g: [x for x, ok in zip(of, judged[g]) if ok]
    kept = [g for g in range(len(groups)) if any(judged[g])]
    if not kept:
        raise SandboxError(f"all verdicts of step {step} are judge errors: {verdicts[0][0].detail}")
    owner = torch.tensor([k for k, g in enumerate(kept) for _ in pick(judged[g], g)])
    rewards = torch.tensor([v.reward for g in kept for v in pick(verdicts[g], g)])
    kl = [o - b for g in kept for o, b in zip(pick(old[g], g), pick(base[g], g))]
    sampled = [y for g in kept for y in pick(groups[g].logps, g)]
    samples = [Group(groups[g].prompt, pick(groups[g].responses, g)) for g in kept]
    old = [pick(old[g], g) for g in kept]
    flat = iter(gepo.advantages(rewards, owner, kl, c.kl_coef, c.advantage))                    # Eq. 1, REINFORCE++
    advantages = [[next(flat) for _ in group.responses] for group in samples]

    for epoch in range(c.inner_epochs):
        if epoch:
            off_policy()                                     # again, at the new theta; the log keeps the first
        metrics |= on_policy_half(model, c, samples, old, advantages)                           # + w_rl * L_OnP
        optimizer.param_groups[0]["lr"] = lr = learning_rate(c, step * c.inner_epochs + epoch, total * c.inner_epochs)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), c.clip_norm)
        if not norm.isfinite():
            raise ValueError(f"step {step}: the gradient is {norm}, nothing was updated; lower --lr or --w-gepo and go on from "
                             "the last checkpoint")
        optimizer.step()
        optimizer.zero_grad()
    times["policy_s"] = clock() - at
    times["step_s"] = clock() - began

    tokens, by_target = sum(len(y) for group in groups for y in group.responses), defaultdict(list)
    for i, of in zip(now, verdicts):
        by_target[problems[i]["target_language"]] += [v.reward for v in of if v.reward is not None]
    if c.kl_coef:
        metrics["kl"] = float(torch.cat(kl).mean())
    row = {"step": step, "reward": float(rewards.mean()),
           "rewards": {k: sum(v) / len(v) for k, v in sorted(by_target.items()) if v}, **metrics,
           "logp_gap": float((torch.cat(sampled) - torch.cat([y for of in old for y in of])).abs().max()),
           "entropy": float(torch.cat(entropies).mean()), "grad_norm": float(norm), "lr": lr, "response_tokens": tokens / c.rollout_batch,
           "truncated": sum(int(y[-1]) not in tokenizer.eos_ids for group in groups for y in group.responses) / c.rollout_batch,
           "verdicts": dict(Counter(v.status for of in verdicts for v in of)), **times,
           "judge_cpu_s": sum(v.cpu_s for of in verdicts for v in of), "tokens_per_s": tokens / times["step_s"]}
    return row, [{"step": step, "id": problems[i]["id"], "completion": text, "verdict": v.status, "reward": v.reward,
                  "detail": v.detail} for i, of, vs in zip(now, texts, verdicts) for text, v in zip(of, vs)]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, SandboxError) as e:
        sys.exit(f"train.py: {e}")
    except KeyboardInterrupt:
        sys.exit("train.py: interrupted; the same command continues from the last checkpoint, or from the start if there is none")
