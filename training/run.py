"""Setting a run up, and what happens between its steps: recording, saving, checking the judge.

Run is a record, not a trainer: train.py shows the loop and the step.
"""

import gc
import os
import signal
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path

import torch
from tqdm import tqdm

from config import MAY_CHANGE, Config
from data import append_rows
from distributed import ranks, sharding
from judge.limits import SandboxError
from judge.pool import JudgePool, check_canaries
from model import Transformer, compile_blocks, load_model
from reward import judge_pool
from training import checkpoint
from training.inputs import Inputs
from training.log import too_many
from training.optimizer import make_optimizer
from training.plan import print_plan
from training.rhat import set_reference_logprobs

# So many steps in a row without an update, because of NaN or infinity, end the run.
MAX_SKIPPED_STEPS = 5


@dataclass
class Run:
    """All that a step needs, and what is counted from step to step."""

    config: Config
    inputs: Inputs
    saved_config: dict  # config and the inputs' fingerprint, as kept in the folder
    policy: Transformer  # pi_theta
    optimizer: torch.optim.Optimizer
    first_step: int  # the steps before it were done by earlier starts
    total_steps: int
    reference: Transformer | None = None  # pi_ref; None with --kl-coef 0
    judge: JudgePool | None = None
    training_began_at: float = 0.0
    verdicts: Counter = field(default_factory=Counter)  # of all samples of this start
    steps_without_update: int = 0  # in a row, up to now
    gepo_noise: float = 0.0  # of rhat, in nats
    noise_was_said: bool = False
    save_is_due: bool = False
    save_s: float = 0.0  # what saving took after the step before

    @property
    def folder(self):
        return Path(self.config.out)

    def initial_policy(self):
        """The policy as it was before the first step of all: pi_ref, in float32.

        run.reference may be rounded to bfloat16, and then rhat would not begin at 0."""
        if self.first_step == 0:
            return self.policy
        return load_policy(self.config, self.config.model, self.policy.device)


# ---------------------------------------------------------------------------- setting up


@contextmanager
def set_up(config, inputs, device):
    """Yields a Run that holds its folder and its judge's processes, and lets go of them at the end.

    Continues the run that --out holds, if there is one. Raises ValueError, OSError or
    SandboxError."""
    saved_config = {**asdict(config), "inputs": inputs.fingerprint}
    folder = Path(config.out)
    with checkpoint.run_lock(folder):
        first_step, latest = checkpoint.open_run(folder, saved_config, MAY_CHANGE, config.resume)
        policy = load_policy(config, latest or config.model, device)
        run = Run(
            config=config,
            inputs=inputs,
            saved_config=saved_config,
            policy=policy,
            optimizer=make_optimizer(config, policy),
            first_step=first_step,
            total_steps=config.steps or one_epoch(config, len(inputs.problems)),
        )
        if latest:
            checkpoint.load_optimizer(latest, policy, run.optimizer)
        print_plan(run, inputs)
        if config.kl_coef:
            run.reference = load_policy(config, config.model, device, frozen=True)
        run.gepo_noise = set_reference_logprobs(
            config, inputs, policy, run.initial_policy, run.total_steps
        )
        if run.gepo_noise:
            unit = "nats a token" if config.gepo_logp == "mean" else "nats"
            print(f"rhat      in {config.rhat_dtype}; rounding adds {run.gepo_noise:.1e} {unit}")
        with judge_pool(config.judge_workers) as judge:
            run.judge = judge
            drop_unfinished_rows(run)
            check_judge(run)
            yield run


def one_epoch(config, n_problems):
    """Steps in which every problem is taken once."""
    return -(-n_problems * config.samples_per_prompt // config.rollout_batch)


def load_policy(config, directory, device, frozen=False):
    """The policy (float32 master weights) or a frozen copy, as the ranks hold it: sharded if there
    is a process group, and computing in --dtype. All ranks must call."""
    compute_dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if config.dtype != "auto":
        compute_dtype = getattr(torch, config.dtype)
    model = load_model(
        directory,
        device,
        dtype=compute_dtype if frozen else torch.float32,
        compute_dtype=compute_dtype if sharding.is_sharded() else None,
        offload="offload" in config.engine,
    )
    for block in model.model.layers:
        block.recompute = "recompute" in config.engine
    if "compile" in config.engine:
        compile_blocks(model.model.layers)
    ranks.barrier()  # ranks with a quick disk wait here, where there is no time limit
    return model.requires_grad_(not frozen)


def drop_unfinished_rows(run):
    """Drops the rows of steps after the checkpoint, and counts the skipped steps before it."""

    def drop():
        checkpoint.drop_rows_from(run.folder / "samples.jsonl", run.first_step)
        return checkpoint.drop_rows_from(run.folder / "metrics.jsonl", run.first_step)

    rows = ranks.broadcast_from_rank_0(drop)
    skipped = takewhile(lambda row: was_skipped(run, row), reversed(rows))
    run.steps_without_update = len(list(skipped))


def check_judge(run):
    """Raises SandboxError if the judge is wrong about a known-good or a known-bad program."""
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        check_canaries(run.judge, run.inputs.target_languages())
    ranks.barrier()


# ---------------------------------------------------------------------------- between steps


@contextmanager
def garbage_kept():
    """Turns Python's own garbage collection off.

    It would stop one rank after the other, each at its own time, and all the others would wait.
    record_step collects instead, on all ranks at once, what has come since the start."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def stop_requests():
    """Yields a list that is empty until Ctrl-C or SIGTERM asks for an end after the step.

    A second signal ends at once. With several ranks SIGTERM always does: torchrun sends it when a
    rank has failed, and those that wait for that rank must go."""
    requests = []

    def handle(signal_number, frame):
        if requests:
            raise KeyboardInterrupt
        requests.append(signal_number)
        tqdm.write("stopping after this step (again: at once)")

    signals = [signal.SIGINT]
    if ranks.world_size() == 1:
        signals.append(signal.SIGTERM)
    handlers_before = [signal.signal(number, handle) for number in signals]
    try:
        yield requests
    finally:
        for number, handler in zip(signals, handlers_before):
            signal.signal(number, handler)


def record_step(run, row, sample_rows):
    """Writes a step's rows and counts what decides how the run goes on. Raises OSError."""
    gc.collect()
    if ranks.rank() == 0:
        append_rows(run.folder / "samples.jsonl", sample_rows)
        row = {**row, "save_s": run.save_s}
        append_rows(run.folder / "metrics.jsonl", [row])
    run.save_s = 0.0
    run.verdicts.update(row["verdicts"])
    run.steps_without_update = run.steps_without_update + 1 if was_skipped(run, row) else 0
    if (row["step"] + 1) % run.config.save_every == 0:
        run.save_is_due = True
    if run.steps_without_update == MAX_SKIPPED_STEPS:
        last = (checkpoint.saved_checkpoints(run.folder) or ["none yet"])[-1]
        raise ValueError(
            f"the loss or the gradient was NaN or infinite in {MAX_SKIPPED_STEPS} steps in a row, "
            f"up to step {row['step']}, and nothing was updated; the last checkpoint, {last}, is "
            "from before; lower --lr or --w-gepo in a new run"
        )


def was_skipped(run, row):
    """Whether none of the step's inner epochs updated the policy."""
    return row["skipped"] == run.config.inner_epochs


def save_if_due(run, steps_done, at_once):
    """Saves a checkpoint when it is due, or at once. The judge is checked with it.

    A checkpoint that falls due while updates are skipped waits for the next good step."""
    if at_once or (run.save_is_due and run.steps_without_update == 0):
        began_at = time.time()
        config = run.config
        checkpoint.save(
            run.folder, steps_done, run.policy, run.optimizer, config.model, run.saved_config
        )
        check_judge(run)
        run.save_is_due = False
        run.save_s = time.time() - began_at


def judge_is_broken(run):
    """Whether too many of the run's verdicts are judge errors."""
    return too_many(run.verdicts["JE"], run.verdicts.total())


def raise_judge_errors(run, sample_rows):
    """Raises the SandboxError of a broken judge. sample_rows: of the last step."""
    details = [row["detail"] for row in sample_rows if row["verdict"] == "JE"]
    raise SandboxError(
        f"{run.verdicts['JE']} of {run.verdicts.total()} verdicts are judge errors, the last: "
        f"{details[-1]}"
    )
