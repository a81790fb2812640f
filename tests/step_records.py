"""The records that train.py's halves take, from plain lists."""

from config import Config
from training.inputs import Inputs, IRGroup, Problem
from training.run import Run
from training.samples import Sample


def ir_groups_of(groups, winners, logp_refs):
    """winners and logp_refs: for each group a [k] tensor; logp_refs are of whole responses."""
    ir_groups = []
    for group, winner, sums in zip(groups, winners, logp_refs):
        logp_ref = [total.expand(len(y)) / len(y) for y, total in zip(group.responses, sums)]
        ir_groups.append(IRGroup(group, winner, logp_ref))
    return ir_groups


def samples_of(groups, logps_old, advantages):
    """logps_old and advantages: for each group a list of [R] tensors."""
    samples = []
    for i, group in enumerate(groups):
        for tokens, logp_old, advantage in zip(group.responses, logps_old[i], advantages[i]):
            sample = Sample(
                rank=0,
                prompt_index=i,
                problem_id="",
                target_language="",
                prompt=group.prompt,
                tokens=tokens,
                text="",
                truncated=False,
                logp_sampler=logp_old,
                logp_old=logp_old,
                advantage=advantage,
            )
            samples.append(sample)
    return samples


def run_of(
    config: Config,
    policy,
    reference,
    optimizer,
    judge,
    tokenizer,
    problems,
    prompts,
    ir_groups,
    total_steps,
):
    """A Run without a folder. problems and prompts: a row and a token list for each problem."""
    inputs = Inputs(
        tokenizer=tokenizer,
        problems=[Problem(row, prompt) for row, prompt in zip(problems, prompts)],
        held_out=[],
        ir_groups=ir_groups,
        held_out_ir_groups=[],
        weights_fingerprint="",
        fingerprint="",
        sandbox="",
        languages={},
        missing={},
    )
    return Run(
        config=config,
        inputs=inputs,
        saved_config={},
        policy=policy,
        optimizer=optimizer,
        first_step=0,
        total_steps=total_steps,
        reference=reference,
        judge=judge,
    )
