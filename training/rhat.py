"""The log-probs whose difference is rhat (Eq. 8), and how far rounding reaches into it.

rhat is a small difference of two large sums: one step at lr 5e-7 moves it by 0.2 nats, out of
hundreds, and bfloat16 errs by more than a nat (docs/method.md, "Rounding"). So both log-probs
are computed in --rhat-dtype, both by the same forwards (a group at a time, whatever the batch), and
subtracted token by token before anything is summed. At theta = pi_ref rhat is exactly 0.

k: members of a group, R_i: tokens of a member.
"""

import json
from pathlib import Path
from statistics import mean

import torch
from tqdm import tqdm

import gepo
from data import write_atomically
from distributed import ranks
from evaluate import wilson
from groups import frozen_logprobs
from model import copy_in
from training import checkpoint
from training.inputs import ir_groups_of_run
from training.samples import column, flatten

NOISE_GROUPS = 2  # that rhat_noise measures


def rhat_logprobs(config, model, groups, title=""):
    """Log-probs of the tokens of IRs: for each group a list of k tensors [R_i], float32 or, with
    --rhat-dtype float64, float64.

    title: of a progress bar. All ranks must call."""
    model = copy_in(model, _rhat_dtype(config, model))
    return frozen_logprobs(model, groups, config.token_budget, apart=True, title=title)


def _rhat_dtype(config, model):
    return model.dtype if config.rhat_dtype == "compute" else getattr(torch, config.rhat_dtype)


def length_scale(config, response):
    """What --gepo-logp multiplies the log-prob of an IR by: 1, or 1 / R."""
    return 1 / len(response) if config.gepo_logp == "mean" else 1.0


def set_reference_logprobs(config, inputs, policy, load_reference, steps):
    """Sets logp_ref of the IR groups that the run's `steps` take, and of the held-out ones: log
    pi_ref of every token. Returns the noise of rhat (rhat_noise of pi_ref).

    All are constant, so they are computed once and kept in the run's folder, under a fingerprint of
    what they depend on. policy: of the dtype and on the device of pi_ref, which load_reference()
    loads if it is needed."""
    taken = ir_groups_of_run(config, inputs.ir_groups, steps)
    ir_groups = taken + inputs.held_out_ir_groups
    groups = column(ir_groups, "group")
    if not groups:
        return 0.0

    def compute():
        reference = load_reference()
        own = [groups[i] for i in ranks.share_of(len(groups))]
        own_logps = rhat_logprobs(config, reference, own, "pi_ref of the IR groups")
        noise = rhat_noise(config, reference, inputs.ir_groups)
        return {"logps": ranks.all_gather_list(own_logps), "noise": noise}

    settings = [config.rhat_dtype, config.gepo_logp, config.token_budget, config.lr]
    settings += [str(policy.dtype), policy.device.type, len(inputs.ir_groups)]
    tokens = []
    for group in groups:
        tokens.append([part.tolist() for part in (group.prompt, *group.responses)])
    key = checkpoint.fingerprint([], [inputs.weights_fingerprint, settings, *tokens])
    kept = checkpoint.cached_on_disk(Path(config.out) / f"reference-{key}.pt", compute)
    for ir_group, logp_ref in zip(ir_groups, kept["logps"]):
        ir_group.logp_ref = logp_ref
    return kept["noise"]


# ------------------------------------------------------------------------------------ the noise


def rhat_noise(config, policy, ir_groups):
    """The root mean square error of rhat in nats (nats per token with --gepo-logp mean).

    rhat between a policy and itself with every weight moved up or down by --lr: as --rhat-dtype
    gives it, less what float64 gives. On the IR groups of middle length. All ranks must call."""
    if not ir_groups or _rhat_dtype(config, policy) == torch.float64:
        return 0.0
    by_length = sorted(column(ir_groups, "group"), key=len)
    groups = by_length[max(0, len(by_length) // 2 - 1) :][:NOISE_GROUPS]

    def logps(dtype, moved_by):
        model = copy_in(policy, dtype, moved_by)
        return flatten(frozen_logprobs(model, groups, config.token_budget, apart=True))

    def rhats(dtype):
        values = []
        for moved, still in zip(logps(dtype, config.lr), logps(dtype, 0.0)):
            values.append(
                gepo.rhat(moved.double(), still.double()).sum() * length_scale(config, still)
            )
        return torch.stack(values)  # [members of all groups]

    error = rhats(_rhat_dtype(config, policy)) - rhats(torch.float64)
    return float(error.square().mean().sqrt())


def warn_of_noise(run, row):
    """Says once, in a line, that the rhat of a step is mostly rounding."""
    spread = row.get("gepo_rhat_spread", 0.0)
    if run.noise_was_said or not 0 < spread < 2 * row["gepo_noise"]:
        return
    run.noise_was_said = True
    has = _rhat_dtype(run.config, run.policy)
    mend = "float64" if has == torch.float32 else "float32"
    tqdm.write(
        f"step {row['step']}: within a group rhat differs by {spread:.1e}, and rounding makes "
        f"{row['gepo_noise']:.1e} of it: the off-policy half is noise; mend: "
        f"--rhat-dtype {mend}, in a new run or with --resume force"
    )


# ------------------------------------------------------------------------------ held-out groups


def margin_of(config, ir_group, logps):
    """Mean over the winners minus mean over the losers: of log-probs, or of their differences.

    logps: k tensors [R_i]. -> float, in nats (nats per token with --gepo-logp mean)."""
    of_winners, of_losers = [], []
    for logp, is_winner in zip(logps, ir_group.is_winner):
        value = float(logp.double().sum()) * length_scale(config, logp)
        (of_winners if is_winner else of_losers).append(value)
    return mean(of_winners) - mean(of_losers)


def score_ir_groups(run):
    """Writes eval-ir.jsonl: how far --eval-ir-groups' winners are ahead, before and after."""
    ir_groups, config = run.inputs.held_out_ir_groups, run.config
    path = run.folder / "eval-ir.jsonl"
    if not ir_groups or ranks.broadcast_from_rank_0(path.exists):
        return
    own = [ir_groups[i] for i in ranks.share_of(len(ir_groups))]
    own_logps = rhat_logprobs(config, run.policy, column(own, "group"), "held-out IR groups")
    own_rows = []
    for ir_group, logps in zip(own, own_logps):
        log_ratios = list(map(gepo.rhat, logps, ir_group.logp_ref))
        own_rows.append(
            {
                "id": ir_group.id,
                "logp_margin_before": margin_of(config, ir_group, ir_group.logp_ref),
                "logp_margin_after": margin_of(config, ir_group, logps),
                "rhat_margin": margin_of(config, ir_group, log_ratios),
            }
        )
    rows = ranks.all_gather_list(own_rows)
    if ranks.rank() == 0:
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
    ranks.barrier()


def describe_ir_scores(rows):
    """Rows of eval-ir.jsonl as lines of the report."""
    shares = []
    for key in ("logp_margin_before", "logp_margin_after", "rhat_margin"):
        share = sum(row[key] > 0 for row in rows) / len(rows)
        low, high = wilson(share, len(rows))
        shares.append(f"{100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    before, after, by_rhat = shares
    return (
        f"held-out IR groups ({len(rows)}) whose winners are ahead, with 95 % intervals:\n"
        f"by log-prob {before} before, {after} after; by rhat {by_rhat}"
    )
