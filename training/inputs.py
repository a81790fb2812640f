"""What a run reads: translation problems, IR groups, and which of them each step takes.

Everything is read and checked before any work starts. What is left out (too long, or no toolchain
for its language) is counted and said. P: tokens of a prompt, k: members of a group, R_i: tokens
of a member.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from data import (
    ir_prompt,
    ir_response,
    load_tokenizer,
    read_groups,
    read_problems,
    runnable,
    translation_prompt,
)
from distributed import ranks
from groups import Group, frozen_logprobs
from judge.languages import installed_toolchains
from judge.sandbox import probe
from training import checkpoint
from training.samples import column


@dataclass
class Problem:
    """A translation problem and its prompt."""

    row: dict  # of problems.jsonl
    prompt: list[int]  # [P] tokens


@dataclass
class IRGroup:
    """The IRs of one C source: Y_w (equivalent to it), then Y_l (not equivalent) of Eq. 6 to 9."""

    group: Group  # the prompt asks for the source's IR; its responses are the k IRs
    is_winner: torch.Tensor  # [k] bool
    sum_logp_ref: torch.Tensor | None = None  # [k] float32: log pi_ref of each IR


@dataclass
class Inputs:
    tokenizer: object
    problems: list[Problem]
    held_out: list[dict]  # rows of --eval-problems
    ir_groups: list[IRGroup]  # empty with --off-policy none
    weights_fingerprint: str  # of the initial model's files
    fingerprint: str  # of all that is read: a run is continued with the same
    sandbox: str  # the line of judge.sandbox.probe
    languages: dict[str, str]  # installed: name -> version
    missing: dict[str, str]  # not installed: name -> what to install

    def target_languages(self):
        """Of all problems, sorted."""
        rows = [problem.row for problem in self.problems] + self.held_out
        return sorted({row["target_language"] for row in rows})


def read_inputs(config):
    """Reads and checks all inputs. Raises ValueError, OSError or SandboxError, which say
    what to do about it."""
    sandbox = probe()
    languages, missing = installed_toolchains()
    missing_on_rank_0 = ranks.broadcast_from_rank_0(lambda: missing)
    if missing != missing_on_rank_0:
        raise ValueError(
            f"this node lacks {list(missing)}, the first one {list(missing_on_rank_0)}: install "
            "the same toolchains on all"
        )
    tokenizer = load_tokenizer(config.model)
    problems = load_problems(config, tokenizer, missing)
    held_out = []
    if config.eval_problems:
        rows = read_problems(config.eval_problems)
        held_out = runnable(rows, missing, "held-out problems")
    ir_groups = []
    if config.off_policy != "none":
        ir_groups = load_ir_groups(config, tokenizer)

    def fingerprint_weights():
        weights = sorted(Path(config.model).glob("*.safetensors"))
        return checkpoint.fingerprint([Path(config.model) / "config.json", *weights], 0)

    def fingerprint_inputs():
        files = [config.problems, config.eval_problems]
        if ir_groups:
            files.append(config.ir_groups)
        ids = [problem.row["id"] for problem in problems]
        return checkpoint.fingerprint(filter(None, files), [weights_fingerprint, *ids])

    weights_fingerprint = ranks.broadcast_from_rank_0(fingerprint_weights)
    return Inputs(
        tokenizer=tokenizer,
        problems=problems,
        held_out=held_out,
        ir_groups=ir_groups,
        weights_fingerprint=weights_fingerprint,
        fingerprint=ranks.broadcast_from_rank_0(fingerprint_inputs),
        sandbox=sandbox,
        languages=languages,
        missing=missing,
    )


def load_problems(config, tokenizer, missing):
    """The problems whose language is installed and that fit --max-length. Raises ValueError."""
    rows = runnable(read_problems(config.problems), missing)
    fitting = []
    for row in rows:
        prompt = tokenizer.chat_prompt(translation_prompt(row))
        if len(prompt) + config.max_new_tokens <= config.max_length:
            fitting.append(Problem(row, prompt))
    if len(fitting) < len(rows):
        print(
            f"problems: {len(rows) - len(fitting)} of {len(rows)} left out, prompt and "
            f"--max-new-tokens {config.max_new_tokens} are over --max-length {config.max_length}"
        )
    if not fitting:
        raise ValueError(
            f"{config.problems}: no problem fits --max-length {config.max_length} with "
            f"--max-new-tokens {config.max_new_tokens}"
        )
    return fitting


def load_ir_groups(config, tokenizer):
    """The IR groups whose members all fit --max-length. Raises ValueError if none does."""
    rows = read_groups(config.ir_groups)
    ir_groups = []
    for row in rows:
        ir_group = _tokenize_ir_group(config, tokenizer, row)
        longest = max(map(len, ir_group.group.responses))
        if len(ir_group.group.prompt) + longest <= config.max_length:
            ir_groups.append(ir_group)
    if len(ir_groups) < len(rows):
        print(
            f"IR groups: {len(rows) - len(ir_groups)} of {len(rows)} left out, longer than "
            f"--max-length {config.max_length} tokens"
        )
    if not ir_groups:
        raise ValueError(
            f"{config.ir_groups}: no group is within --max-length {config.max_length} tokens"
        )
    return ir_groups


def _tokenize_ir_group(config, tokenizer, row):
    winners, losers = row["winners"], row["losers"]
    if config.off_policy == "dpo":
        # Eq. 3 is Eq. 9 with n = m = 1.
        winners, losers = winners[:1], losers[:1]
    responses = []
    for ir in winners + losers:
        tokens = tokenizer.encode(ir_response(ir)) + [tokenizer.end_id]
        responses.append(torch.tensor(tokens))
    prompt = torch.tensor(tokenizer.chat_prompt(ir_prompt(row["source"])))
    is_winner = torch.tensor([True] * len(winners) + [False] * len(losers))
    return IRGroup(Group(prompt, responses), is_winner)


def set_reference_logprobs(config, inputs, load_reference):
    """Sets sum_logp_ref of all IR groups: log pi_ref of every IR, summed over its tokens.

    They are constant, so they are computed once and kept in the run's folder, under a fingerprint
    of the reference's weights and of all tokens. load_reference() loads pi_ref, if it is needed."""
    groups = column(inputs.ir_groups, "group")

    def compute():
        reference = load_reference()
        numbered_sums = []
        # Every rank takes as many turns as the others, some of them with nothing to do.
        turns = range(ranks.rank(), len(groups) + ranks.rank(), ranks.world_size())
        for i in tqdm(turns, desc="pi_ref of the IR groups", unit="group"):
            for logps in frozen_logprobs(reference, groups[i : i + 1], config.token_budget):
                numbered_sums.append((i, torch.stack([logp.sum() for logp in logps])))
        sums = dict(ranks.all_gather_list(numbered_sums))
        return [sums[i] for i in range(len(groups))]

    tokens = []
    for group in groups:
        tokens.append([part.tolist() for part in (group.prompt, *group.responses)])
    key = checkpoint.fingerprint([], [inputs.weights_fingerprint, *tokens])
    sums = checkpoint.cached_on_disk(Path(config.out) / f"reference-{key}.pt", compute)
    for ir_group, sum_logp_ref in zip(inputs.ir_groups, sums):
        ir_group.sum_logp_ref = sum_logp_ref


# ----------------------------------------------------------------------- which ones a step takes


def problems_of_step(config, problems, step):
    """The problems of a step's rollouts: the same on every rank."""
    n_problems = config.rollout_batch // config.samples_per_prompt
    indices = batch_indices(step, n_problems, len(problems), config.seed)
    return [problems[i] for i in indices]


def ir_groups_of_step(config, ir_groups, step):
    """This rank's share of a step's IR groups; none with --off-policy none."""
    if not ir_groups:
        return []
    indices = batch_indices(step, config.gepo_batch, len(ir_groups), config.seed + 1)
    return [ir_groups[indices[i]] for i in ranks.share_of(config.gepo_batch)]


def batch_indices(step, size, count, seed):
    """Which `size` of `count` rows the batch of a step takes.

    Epoch after epoch, each in its own random order. A function of the step: there is no state."""
    orders = {}
    indices = []
    for position in range(step * size, (step + 1) * size):
        epoch, place = divmod(position, count)
        if epoch not in orders:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            orders[epoch] = torch.randperm(count, generator=generator).tolist()
        indices.append(orders[epoch][place])
    return indices
