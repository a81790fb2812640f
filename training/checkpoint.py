"""A run's folder on disk: rows appended whole, checkpoints that appear at once or not at all.

    DIR/config.json      the resolved flags
    DIR/metrics.jsonl    a row a step          DIR/samples.jsonl    a row a sample
    DIR/step-NNNNNN/     a model directory in Hugging Face layout (float32 weights, tokenizer)
        optimizer/       AdamW's moments, as torch.distributed.checkpoint writes them: any number
                         of ranks can read them
        trainer.json     step, config, and the SHA-256 of every other file

A checkpoint is written under another name and then renamed, so a kill or a full disk at any moment
leaves the previous one. A checkpoint that is not what its trainer.json says is set aside at the
next start. Data order and sampling are functions of the step and the seed, so weights, optimizer
and step are the whole state. All ranks call these functions; all must see the folder.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from data import write_atomically
from distributed import ranks, sharding
from model import save_model

# A run of one process means to use torch.distributed.checkpoint without ranks.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")

# Files of the initial model that every checkpoint carries along: all kinds of tokenizers and chat
# templates, and what goes with them.
CARRIED_FILES = (
    "*token*",
    "vocab*",
    "merges.txt",
    "*.model",
    "tekken.json",
    "*chat_template*",
    "generation_config.json",
)


# --------------------------------------------------------------------------- opening a run's folder


@contextmanager
def run_lock(run):
    """The run's folder, made if need be, for this run alone. Raises ValueError if it is in use.

    The kernel releases the lock when rank 0 ends, however it ends."""
    if ranks.rank() > 0:
        yield
        return
    Path(run).mkdir(parents=True, exist_ok=True)
    folder = os.open(run, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{run} is in use by another process; wait for it, or give another --out"
            ) from None
        yield
    finally:
        os.close(folder)


def open_run(run, config, may_change, resume="auto"):
    """Prepares the folder for a new run, or checks that it holds a run with the same config.

    may_change: keys of config that may differ. resume: "only" refuses a folder with nothing to
    continue, "force" goes on with other settings. A damaged checkpoint is set aside and the one
    before it taken, which is printed.
    Returns (steps done, the checkpoint to go on from or None). Raises ValueError."""
    ranks.broadcast_from_rank_0(partial(_claim_folder, run, config, may_change, resume))
    if not (run / "config.json").exists():
        raise ValueError(
            f"{run} is not there on every node; --out must be on a file system that all nodes share"
        )
    while True:
        # Rank 0's list for all ranks: it renames damaged checkpoints meanwhile.
        checkpoints = ranks.broadcast_from_rank_0(partial(saved_checkpoints, run))
        if not checkpoints:
            break
        latest = checkpoints[-1]
        damage = _find_damage(latest)
        if not damage:
            return int(latest.name.removeprefix("step-")), latest
        _set_aside(latest, damage)
    if ranks.broadcast_from_rank_0(lambda: any(run.glob("step-*.damaged"))):
        # Its rows must not be made again from nothing.
        raise ValueError(
            f"{run} has no whole checkpoint left; remove the folder to start again, or give "
            "another --out"
        )
    return 0, None


def _claim_folder(run, config, may_change, resume):
    path = run / "config.json"
    previous = json.loads(path.read_text()) if path.exists() else {}
    if not previous and any(file.suffix != ".tmp" for file in run.iterdir()):
        raise ValueError(
            f"{run} is neither empty nor a run of train.py; give a folder of its own as --out"
        )
    if previous and "ir_groups" not in previous:
        raise ValueError(f"{path} is not of a run of train.py; give a folder of its own as --out")
    if resume == "only" and not saved_checkpoints(run):
        raise ValueError(f"{run} has no checkpoint to continue; start without --resume")
    has_begun = bool(saved_checkpoints(run)) or any(run.glob("*.jsonl"))
    if previous and has_begun:
        changes = "; ".join(_describe_changes(previous, config, may_change))
        if changes and resume == "force":
            print(f"continued with other settings: {changes}", flush=True)
            for title in ("before", "after", "ir"):  # what they compared has changed
                (run / f"eval-{title}.jsonl").unlink(missing_ok=True)
        elif changes:
            raise ValueError(
                f"{run} holds a run with other settings: {changes}. Its rows would mean two "
                "things: continue it with its own settings, give another --out, or --resume force"
            )
    if previous:
        _remove_half_written(run)
    write_atomically(path, json.dumps(config, indent=2) + "\n")


def _describe_changes(previous, config, may_change):
    for key, value in config.items():
        if key in may_change or previous.get(key) == value:
            continue
        if key == "inputs":
            yield "the files it reads have changed"
        else:
            yield f"--{key.replace('_', '-')} was {previous.get(key)!r}, is {value!r}"


def _remove_half_written(run):
    """What a run left that was killed while it saved."""
    for path in run.glob("*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def saved_checkpoints(run):
    """The run's checkpoints, oldest first."""
    folders = Path(run).glob("step-*")
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{6,}", folder.name))


# --------------------------------------------------------------------------------- damage


def _file_digests(folder):
    """{file: SHA-256} of all files but trainer.json. The ranks share the reading."""

    def list_files():
        files = [path for path in folder.rglob("*") if path.is_file()]
        return sorted(
            str(path.relative_to(folder)) for path in files if path.name != "trainer.json"
        )

    names = ranks.broadcast_from_rank_0(list_files)
    digests = []
    for name in names[ranks.rank() :: ranks.world_size()]:
        with open(folder / name, "rb") as file:
            digests.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
    return dict(ranks.all_gather_list(digests))


def _find_damage(folder):
    """What is wrong with a checkpoint; empty if nothing is."""
    actual = _file_digests(folder)

    def compare_with_trainer_json():
        try:
            expected = json.loads((folder / "trainer.json").read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"trainer.json: {error}"
        names = sorted({*expected, *actual})
        return ", ".join(name for name in names if expected.get(name) != actual.get(name))

    return ranks.broadcast_from_rank_0(compare_with_trainer_json)


def _set_aside(checkpoint, damage):
    if ranks.rank() == 0:
        aside = checkpoint.with_suffix(".damaged")
        shutil.rmtree(aside, ignore_errors=True)  # one of an earlier time
        checkpoint.rename(aside)
        print(f"{checkpoint} is damaged ({damage}) and set aside as {aside.name}", flush=True)
    ranks.barrier()


# --------------------------------------------------------------------------------- checkpoints


def save(run, step, model, optimizer, tokenizer_from, config, keep=2):
    """Writes run/step-NNNNNN and removes all but the last `keep` checkpoints. Returns its path.

    step: rollout batches done. Raises OSError, with nothing half written left."""
    final = Path(run) / f"step-{step:06d}"
    if ranks.broadcast_from_rank_0(final.exists):
        return final
    temporary = final.with_name(final.name + ".tmp")
    try:
        ranks.broadcast_from_rank_0(partial(shutil.rmtree, temporary, ignore_errors=True))
        save_model(model, temporary)
        dcp.save(
            get_optimizer_state_dict(model, optimizer),
            checkpoint_id=temporary / "optimizer",
            process_group=ranks.patient_group,
            no_dist=not sharding.is_sharded(),
        )
        if ranks.rank() == 0:
            copy_tokenizer(Path(tokenizer_from), temporary)
        ranks.barrier()
        files = _file_digests(temporary)
        if ranks.rank() == 0:
            trainer = {"step": step, "config": config, "files": files}
            (temporary / "trainer.json").write_text(json.dumps(trainer, indent=2) + "\n")
            os.replace(temporary, final)
            for old in saved_checkpoints(run)[:-keep]:
                # Renamed first: there is never half a step-NNNNNN.
                shutil.rmtree(old.rename(old.with_name(old.name + ".tmp")))
    except (OSError, SafetensorError, dcp.CheckpointException) as error:
        shutil.rmtree(temporary, ignore_errors=True)  # the last one is whole, and room is needed
        reason = str(error).strip().splitlines()[-1]
        checkpoints = saved_checkpoints(run)
        last = f"{checkpoints[-1]} is whole" if checkpoints else "there is none before it"
        raise OSError(
            f"{final} could not be written ({reason}); {last}: make room and give the same "
            "command again"
        ) from None
    ranks.barrier()
    return final


def copy_tokenizer(source, target):
    for path in carried_files(source):
        if path.is_dir():  # additional_chat_templates/
            shutil.copytree(path, target / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, target / path.name)


def carried_files(folder):
    """What a checkpoint has beside its weights: the tokenizer and how it is used. A list."""
    return [path for pattern in CARRIED_FILES for path in sorted(folder.glob(pattern))]


def load_optimizer(checkpoint, model, optimizer):
    """Loads a checkpoint's moments into a fresh optimizer, whatever the number of ranks was."""
    state = get_optimizer_state_dict(model, optimizer)  # zeros, shaped like this rank's rows
    dcp.load(
        state,
        checkpoint_id=checkpoint / "optimizer",
        process_group=ranks.patient_group,
        no_dist=not sharding.is_sharded(),
    )
    set_optimizer_state_dict(model, optimizer, optim_state_dict=state)


# --------------------------------------------------------------------------------- rows and files


def drop_rows_from(path, step):
    """Drops the rows of `step` and later, which are about to be made again, and a last row that a
    full disk cut short. Returns the rows that stay."""
    if not path.exists():
        return []
    whole_lines = path.read_text().split("\n")[:-1]
    rows = [json.loads(line) for line in whole_lines]
    kept = [row for row in rows if row["step"] < step]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
    return kept


def cached_on_disk(path, make):
    """The object saved at `path`. If there is none, make() makes it, and it is saved (whole or not
    at all). Raises OSError when it cannot be written."""
    if not ranks.broadcast_from_rank_0(path.exists):
        made = make()
        if ranks.rank() == 0:
            temporary = path.with_suffix(".tmp")
            try:
                torch.save(made, temporary)
            except (OSError, RuntimeError) as error:  # torch raises either when the disk is full
                reason = str(error).splitlines()[0]
                raise OSError(
                    f"{path} could not be written ({reason}); make room and give the same command "
                    "again"
                ) from None
            os.replace(temporary, path)
        ranks.barrier()
    return torch.load(path)


def fingerprint(files, value):
    """16 hex digits of the files' contents and of a JSON value."""
    digest = hashlib.sha256(json.dumps(value).encode())
    for path in files:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
