"""A run's folder on disk: rows appended whole, checkpoints that appear at once or not at all.

    DIR/config.json      the resolved flags               DIR/metrics.jsonl, samples.jsonl     one write a step
    DIR/step-NNNNNN/     a model directory in Hugging Face layout (float32 weights, config, tokenizer)
        optimizer/       AdamW's moments, as torch.distributed.checkpoint writes them: any number of ranks reads them
        trainer.json     step, config, and the SHA-256 of every other file

A checkpoint is written under another name and renamed, so a kill or a full disk at any moment leaves the previous one. One
that is not what its trainer.json says is set aside at the next start. Data order and sampling are functions of the step and
the seed, so weights, optimizer and step are the whole state. All ranks call; the folder must be one that all of them see.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from distributed import ranks, sharding
from model import save_model

warnings.filterwarnings(
    "ignore", message="torch.distributed is disabled"
)  # a run of one process means it
CARRIED = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


def write_atomically(path: Path, text: str):
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def open_run(run: Path, config: dict, free, resume="auto"):
    """Makes the folder, or checks that it holds a run with the same config (keys in `free` aside). -> (steps done, the
    checkpoint to go on from or None). resume: "only" refuses a folder with nothing to continue, "force" goes on with other
    settings. A damaged checkpoint is set aside and the one before it taken, which is printed. Raises ValueError."""
    ranks.broadcast_from_rank_0(lambda: _claim(run, config, free, resume))
    if not (run / "config.json").exists():
        raise ValueError(
            f"{run} is not there on every node; --out must be on a file system that all nodes share"
        )
    while done := ranks.broadcast_from_rank_0(
        lambda: saved_checkpoints(run)
    ):  # the same list for all ranks, whatever rank 0 renames meanwhile
        latest = done[-1]
        if not (damage := _damage(latest)):
            return int(latest.name.removeprefix("step-")), latest
        if ranks.rank() == 0:
            aside = latest.with_suffix(".damaged")
            shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
            latest.rename(aside)
            print(f"{latest} is damaged ({damage}) and set aside as {aside.name}", flush=True)
        ranks.barrier()
    if ranks.broadcast_from_rank_0(
        lambda: any(run.glob("step-*.damaged"))
    ):  # its rows are not to be made from nothing again
        raise ValueError(
            f"{run} has no whole checkpoint left; remove the folder to start again, or give another --out"
        )
    return 0, None


def _claim(run, config, free, resume):
    path = run / "config.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    if not before and any(p.suffix != ".tmp" for p in run.iterdir()):
        raise ValueError(
            f"{run} is neither empty nor a run of train.py; give a folder of its own as --out"
        )
    if before and "ir_groups" not in before:
        raise ValueError(f"{path} is not of a run of train.py; give a folder of its own as --out")
    if resume == "only" and not saved_checkpoints(run):
        raise ValueError(f"{run} has no checkpoint to continue; start without --resume")
    if before and (saved_checkpoints(run) or any(run.glob("*.jsonl"))):
        changed = [
            f"--{k.replace('_', '-')} was {before.get(k)!r}, is {v!r}"
            if k != "inputs"
            else "the files it reads have changed"
            for k, v in config.items()
            if k not in free and before.get(k) != v
        ]
        if changed and resume == "force":
            print(f"continued with other settings: {'; '.join(changed)}", flush=True)
        elif changed:
            raise ValueError(
                f"{run} holds a run with other settings: {'; '.join(changed)}. Its rows would mean two things: continue "
                "it with its own settings, give another --out, or --resume force"
            )
    for half in run.glob("*.tmp") if before else ():  # of a run that was killed while it saved
        shutil.rmtree(half) if half.is_dir() else half.unlink()
    write_atomically(path, json.dumps(config, indent=2) + "\n")


def _digests(folder) -> dict:
    """{file: SHA-256} of all but trainer.json; the ranks share the reading of the files that rank 0 sees."""
    names = ranks.broadcast_from_rank_0(
        lambda: sorted(
            str(p.relative_to(folder))
            for p in folder.rglob("*")
            if p.is_file() and p.name != "trainer.json"
        )
    )
    mine = []
    for name in names[ranks.rank() :: ranks.world_size()]:
        with open(folder / name, "rb") as f:
            mine.append((name, hashlib.file_digest(f, "sha256").hexdigest()))
    return dict(ranks.all_gather_list(mine))


def _damage(folder) -> str:
    """What is wrong with a checkpoint; empty: nothing."""
    is_now = _digests(folder)

    def compared():
        try:
            was = json.loads((folder / "trainer.json").read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            return f"trainer.json: {e}"
        return ", ".join(
            name for name in sorted({*was, *is_now}) if was.get(name) != is_now.get(name)
        )

    return ranks.broadcast_from_rank_0(compared)


def load_optimizer(folder, model, optimizer):
    """The moments of checkpoint `folder` into a fresh optimizer over the model's parameters, whatever the number of ranks."""
    state = get_optimizer_state_dict(
        model, optimizer
    )  # zeros of the right shapes, this rank's rows
    dcp.load(
        state,
        checkpoint_id=folder / "optimizer",
        process_group=ranks.patient_group,
        no_dist=not sharding.is_sharded(),
    )
    set_optimizer_state_dict(model, optimizer, optim_state_dict=state)


@contextmanager
def run_lock(run):
    """The run's folder, made if need be, for this run alone; the kernel lets go of it when rank 0 ends, however it ends."""
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


def fingerprint(files, value) -> str:
    """16 hex digits of the files' contents and of a JSON value."""
    digest = hashlib.sha256(json.dumps(value).encode())
    for path in files:
        with open(path, "rb") as f:
            digest.update(hashlib.file_digest(f, "sha256").digest())
    return digest.hexdigest()[:16]


def cached_on_disk(path, make):
    """The object saved at `path`, made and saved (whole or not at all, OSError) when it is not there."""
    if not ranks.broadcast_from_rank_0(path.exists):
        made = make()
        if ranks.rank() == 0:
            try:
                torch.save(made, path.with_suffix(".tmp"))
            except (OSError, RuntimeError) as e:  # torch's word for a full disk
                raise OSError(
                    f"{path} could not be written ({str(e).splitlines()[0]}); make room and give the same command again"
                ) from None
            os.replace(path.with_suffix(".tmp"), path)
        ranks.barrier()
    return torch.load(path)


def append_rows(path, rows):
    """Appends JSON rows in one write, not piece by piece: a killed run leaves whole rows. NaN and infinity become null.
    Raises OSError, also when only a part could be written."""
    data = "".join(
        json.dumps(
            {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in row.items()
            }
        )
        + "\n"
        for row in rows
    ).encode()
    with open(path, "ab", buffering=0) as f:
        if f.write(data) < len(data):  # a disk that is just full takes a part and says nothing
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def drop_rows_from(path: Path, step) -> list[dict]:
    """Drops the rows of `step` and later ones, which are about to be made again, and one that a full disk cut short. -> the others"""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [row for row in map(json.loads, lines) if row["step"] < step]
    if path.exists():
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def save(run, step, model, optimizer, tokenizer_from, config, keep=2):
    """Writes run/step-NNNNNN (step = rollout batches done); the last `keep` stay. -> its path. Raises OSError, with nothing half written."""
    final = Path(run) / f"step-{step:06d}"
    if ranks.broadcast_from_rank_0(final.exists):
        return final
    temporary = final.with_name(final.name + ".tmp")
    try:
        ranks.broadcast_from_rank_0(lambda: shutil.rmtree(temporary, ignore_errors=True))
        save_model(model, temporary)
        dcp.save(
            get_optimizer_state_dict(model, optimizer),
            checkpoint_id=temporary / "optimizer",
            process_group=ranks.patient_group,
            no_dist=not sharding.is_sharded(),
        )
        for name in CARRIED if ranks.rank() == 0 else ():
            if (Path(tokenizer_from) / name).exists():
                shutil.copy(Path(tokenizer_from) / name, temporary / name)
        ranks.barrier()
        files = _digests(temporary)
        if ranks.rank() == 0:
            (temporary / "trainer.json").write_text(
                json.dumps({"step": step, "config": config, "files": files}, indent=2) + "\n"
            )
            os.replace(temporary, final)
            for old in saved_checkpoints(run)[:-keep]:
                shutil.rmtree(
                    old.rename(old.with_name(old.name + ".tmp"))
                )  # never half a step-NNNNNN
    except (OSError, SafetensorError, dcp.CheckpointException) as e:
        shutil.rmtree(
            temporary, ignore_errors=True
        )  # the room may be needed, and the last one is still there
        raise OSError(
            f"{final} could not be written ({str(e).strip().splitlines()[-1]}); {f'{saved_checkpoints(run)[-1]} is whole' if saved_checkpoints(run) else 'there is none before it'}: "
            "make room and give the same command again"
        ) from None
    ranks.barrier()
    return final


def saved_checkpoints(run) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted(p for p in Path(run).glob("step-*") if re.fullmatch(r"step-\d{6,}", p.name))
