"""A sampled translation, from its tokens to its advantage, and the verdicts that the judge owes.

P: tokens of the prompt, R: tokens of the response, EOS included (a truncated one has none).
"""

import itertools
import time
from dataclasses import dataclass

import torch

from judge.limits import SandboxError
from judge.verdict import Verdict


@dataclass
class Sample:
    """One sampled translation."""

    rank: int  # that sampled it
    prompt_index: int  # which of the step's problems
    problem_id: str  # not the whole problem: samples travel between ranks, tests would weigh a lot
    target_language: str
    prompt: torch.Tensor  # [P] int64
    tokens: torch.Tensor  # [R] int64
    text: str
    truncated: bool  # ended by --max-new-tokens, without an EOS
    logp_sampler: torch.Tensor  # [R] float32: log-probs as sampled
    logp_old: torch.Tensor | None = None  # [R] float32: the same policy, by the trainer's forward
    kl: torch.Tensor | None = None  # [R] float32: k1 of the KL in Eq. 1; 0 without a reference
    verdict: Verdict | None = None  # its reward is that of Eq. 4, or None after a judge error
    advantage: torch.Tensor | None = None  # [R] float32: A_t of Eq. 5; None after a judge error
    logp: torch.Tensor | None = None  # [R] float32: of the policy as it is updated

    @property
    def is_judged(self):
        """False after a judge error: it has no reward, and no weight in any loss or mean."""
        return self.advantage is not None

    @property
    def reward(self):
        return self.verdict.reward


def make_samples(rank, problems, groups, tokenizer):
    """The samples of a rollout. problems[i] is the training.inputs.Problem of groups[i]."""
    samples = []
    for prompt_index, (problem, group) in enumerate(zip(problems, groups)):
        for tokens, logp in zip(group.responses, group.logps):
            sample = Sample(
                rank=rank,
                prompt_index=prompt_index,
                problem_id=problem.row["id"],
                target_language=problem.row["target_language"],
                prompt=group.prompt,
                tokens=tokens,
                text=tokenizer.decode(tokens.tolist()),
                truncated=int(tokens[-1]) not in tokenizer.eos_ids,
                logp_sampler=logp,
                kl=torch.zeros(len(logp)),
            )
            samples.append(sample)
    return samples


def judged_samples(samples, step):
    """The samples of a step that have a reward. Raises SandboxError if none has.

    A judge error is no sample at all: it counts nowhere."""
    judged = [sample for sample in samples if sample.reward is not None]
    if not judged:
        detail = samples[0].verdict.detail
        raise SandboxError(f"all verdicts of step {step} are judge errors: {detail}")
    return judged


def group_by_prompt(samples):
    """The samples of each prompt, in the order in which the prompts appear."""
    by_prompt = {}
    for sample in samples:
        by_prompt.setdefault(sample.prompt_index, []).append(sample)
    return list(by_prompt.values())


def column(records, name):
    """One field of each of the records."""
    return [getattr(record, name) for record in records]


def flatten(nested):
    """[[a, b], [c]] -> [a, b, c]"""
    return list(itertools.chain.from_iterable(nested))


def nest(flat, sizes):
    """The inverse of flatten: [a, b, c] with sizes [2, 1] -> [[a, b], [c]]"""
    items = iter(flat)
    return [list(itertools.islice(items, size)) for size in sizes]


class PendingVerdicts:
    """Verdicts to come: the judge's processes work while the trainer goes on."""

    def __init__(self, judge, problems, samples, submitted_at):
        """judge: a JudgePool. problems: of the step. submitted_at: time.perf_counter() of now."""
        self.submitted_at = submitted_at
        self.last_ended_at = submitted_at
        self.futures = []
        for sample in samples:
            future = judge.submit(problems[sample.prompt_index].row, sample.text)
            future.add_done_callback(self._note_end)
            self.futures.append(future)

    def _note_end(self, _):
        self.last_ended_at = max(self.last_ended_at, time.perf_counter())

    def wait(self):
        """The verdicts in the order of the samples."""
        return [future.result() for future in self.futures]

    def judge_s(self):
        """Seconds from the submission to the last verdict."""
        return self.last_ended_at - self.submitted_at


def sample_row(step, sample):
    """A row of samples.jsonl."""
    return {
        "step": step,
        "id": sample.problem_id,
        "completion": sample.text,
        "verdict": sample.verdict.status,
        "reward": sample.verdict.reward,
        "detail": sample.verdict.detail,
    }
