"""What a run reads: translation problems, IR groups, and which of them each step takes.

Everything is read and checked before any work starts. What is left out (too long, or no toolchain
for its language) is counted and said. P: tokens of a prompt, k: members of a group, R_i: tokens
of a member.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch

from data import (
    group_prompt,
    group_response,
    load_tokenizer,
    read_groups,
    read_problems,
    runnable,
    translation_prompt,
)
from distributed import ranks
from groups import Group
from judge import view
from judge.languages import installed_toolchains
from judge.sandbox import probe
from training import checkpoint


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
    logp_ref: list | None = None  # k of [R_i]: log pi_ref of each token, in --rhat-dtype
    id: str = ""
    meta: dict | None = None  # of the row


@dataclass
class Inputs:
    tokenizer: object
    problems: list[Problem]
    held_out: list[dict]  # rows of --eval-problems
    ir_groups: list[IRGroup]  # empty with --off-policy none
    held_out_ir_groups: list[IRGroup]  # of --eval-ir-groups
    weights_fingerprint: str  # of the initial model's files
    fingerprint: str  # of all that is read: a run is continued with the same
    sandbox: str  # the line of judge.sandbox.probe
    languages: dict[str, str]  # of the problems, installed: name -> version
    missing: dict[str, str]  # of the problems, not installed: name -> what to install

    def target_languages(self):
        """Of all problems, sorted."""
        return targets_of([problem.row for problem in self.problems] + self.held_out)


def targets_of(rows):
    """The target languages of rows of problems, sorted."""
    return sorted({row["target_language"] for row in rows})


def read_inputs(config):
    """Reads and checks all inputs. Raises ValueError, OSError or SandboxError, which say
    what to do about it."""
    sandbox = probe()
    files = [config.problems, config.eval_problems, config.ir_groups, config.eval_ir_groups]
    view.hide(*[Path(file).parent for file in files if file])
    rows = read_problems(config.problems)
    refuse_gifts(config.problems, rows)
    held_out = read_problems(config.eval_problems) if config.eval_problems else []
    languages, missing = installed_toolchains(targets_of(rows + held_out))
    missing_on_rank_0 = ranks.broadcast_from_rank_0(lambda: missing)
    if missing != missing_on_rank_0:
        raise ValueError(
            f"this node lacks {list(missing)}, the first one {list(missing_on_rank_0)}: install "
            "the same toolchains on all"
        )
    tokenizer = load_tokenizer(config.model)
    problems = load_problems(config, config.problems, tokenizer, runnable(rows, missing))
    if held_out:
        held_out = runnable(held_out, missing, "held-out problems")
        fitting = load_problems(config, config.eval_problems, tokenizer, held_out)
        held_out = [problem.row for problem in fitting]
    ir_groups, held_out_ir_groups = [], []
    if config.off_policy != "none":
        ir_groups = load_ir_groups(config, config.ir_groups, tokenizer)
        if config.off_policy == "dpo" and config.dpo_pair != "all":
            ir_groups = cut_to_pairs(config, ir_groups)
    if config.eval_ir_groups:
        held_out_ir_groups = load_ir_groups(config, config.eval_ir_groups, tokenizer)

    def fingerprint_weights():
        weights = sorted(Path(config.model).glob("*.safetensors"))
        return checkpoint.fingerprint([Path(config.model) / "config.json", *weights], 0)

    def fingerprint_inputs():
        files = [config.problems, config.eval_problems]
        if ir_groups:
            files.append(config.ir_groups)
        files.append(config.eval_ir_groups)
        files += filter(Path.is_file, checkpoint.carried_files(Path(config.model)))
        ids = [problem.row["id"] for problem in problems]
        return checkpoint.fingerprint(filter(None, files), [weights_fingerprint, *ids])

    weights_fingerprint = ranks.broadcast_from_rank_0(fingerprint_weights)
    return Inputs(
        tokenizer=tokenizer,
        problems=problems,
        held_out=held_out,
        ir_groups=ir_groups,
        held_out_ir_groups=held_out_ir_groups,
        weights_fingerprint=weights_fingerprint,
        fingerprint=ranks.broadcast_from_rank_0(fingerprint_inputs),
        sandbox=sandbox,
        languages=languages,
        missing=missing,
    )


def refuse_gifts(path, rows):
    """Raises ValueError for a problem whose reward a copy or an empty program would earn."""
    for row in rows:
        gift = None
        if row["source_language"] == row["target_language"]:
            gift = f'"source_language" and "target_language" are {row["target_language"]}: a copy'
        elif not any(test["stdout"].strip() for test in row["tests"]):
            gift = 'no test has an output in "stdout": an empty program'
        if gift:
            raise ValueError(f"{path}: {row['id']}: {gift} would earn the reward; remove the row")


def load_problems(config, path, tokenizer, rows):
    """The rows of a file that fit --max-length; prints what is left out. Raises ValueError if none
    does."""
    fitting = []
    for row in rows:
        prompt = tokenizer.chat_prompt(translation_prompt(row))
        if len(prompt) + config.max_new_tokens <= config.max_length:
            fitting.append(Problem(row, prompt))
    if len(fitting) < len(rows):
        print(
            f"{path}: {len(rows) - len(fitting)} of {len(rows)} problems left out, prompt and "
            f"--max-new-tokens {config.max_new_tokens} are over --max-length {config.max_length}"
        )
    if not fitting:
        raise ValueError(
            f"{path}: no problem fits --max-length {config.max_length} with "
            f"--max-new-tokens {config.max_new_tokens}"
        )
    return fitting


def load_ir_groups(config, path, tokenizer):
    """The IR groups whose members all fit --max-length. Raises ValueError if none does."""
    rows = read_groups(path)
    ir_groups = []
    for row in rows:
        ir_group = _tokenize_ir_group(tokenizer, row)
        longest = max(map(len, ir_group.group.responses))
        if len(ir_group.group.prompt) + longest <= config.max_length:
            ir_groups.append(ir_group)
    if len(ir_groups) < len(rows):
        print(
            f"{path}: {len(rows) - len(ir_groups)} of {len(rows)} IR groups left out, longer than "
            f"--max-length {config.max_length} tokens"
        )
    if not ir_groups:
        raise ValueError(f"{path}: no group is within --max-length {config.max_length} tokens")
    return ir_groups


def _tokenize_ir_group(tokenizer, row):
    winners, losers = row["winners"], row["losers"]
    responses = []
    for text in winners + losers:
        tokens = tokenizer.encode(group_response(row, text)) + [tokenizer.end_id]
        responses.append(torch.tensor(tokens))
    prompt = torch.tensor(tokenizer.chat_prompt(group_prompt(row)))
    is_winner = torch.tensor([True] * len(winners) + [False] * len(losers))
    return IRGroup(Group(prompt, responses), is_winner, id=row["id"], meta=row.get("meta"))


def cut_to_pairs(config, ir_groups):
    """One winner and one loser of each group, for --dpo-pair matched or crossed.

    The first such pair. The groups were filtered before, so that all arms read the same ones;
    those without such a pair are left out, counted. Raises ValueError."""
    pairs = []
    for ir_group in ir_groups:
        pair = _find_pair(ir_group, matched=config.dpo_pair == "matched", path=config.ir_groups)
        if pair:
            responses = [ir_group.group.responses[i] for i in pair]
            group = Group(ir_group.group.prompt, responses)
            pairs.append(IRGroup(group, torch.tensor([True, False]), id=ir_group.id))
    if len(pairs) < len(ir_groups):
        print(
            f"{config.ir_groups}: {len(ir_groups) - len(pairs)} of {len(ir_groups)} IR groups left "
            f"out, no pair is {config.dpo_pair}"
        )
    if not pairs:
        raise ValueError(f"{config.ir_groups}: no group has a pair that is {config.dpo_pair}")
    return pairs


def _find_pair(ir_group, matched, path):
    """Indices of the first winner and loser of one level (matched), or of two; None if there are
    no such two."""
    winners = ir_group.is_winner.nonzero()[:, 0].tolist()
    losers = (~ir_group.is_winner).nonzero()[:, 0].tolist()
    try:
        levels = [*ir_group.meta["levels"], *[loser["level"] for loser in ir_group.meta["losers"]]]
        levels_of_all = dict(zip(winners + losers, levels, strict=True))
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{path}: {ir_group.id}: --dpo-pair needs meta.levels with the level of each winner, "
            "and meta.losers with the level of each loser; or take --dpo-pair all"
        ) from None
    for winner, loser in itertools.product(winners, losers):
        if (levels_of_all[winner] == levels_of_all[loser]) == matched:
            return winner, loser
    return None


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


def ir_groups_of_run(config, ir_groups, steps):
    """The IR groups that some of the run's steps take, of all ranks, in the order of the file."""
    n_taken = min(steps * config.gepo_batch, len(ir_groups))
    indices = batch_indices(0, n_taken, len(ir_groups), config.seed + 1)
    return [ir_groups[i] for i in sorted(indices)]


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
