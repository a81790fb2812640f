"""A run's folder on disk: rows appended whole, checkpoints that appear at once or not at all.

    DIR/config.json      the resolved flags               DIR/metrics.jsonl, samples.jsonl     one write a step
    DIR/step-NNNNNN/     a model directory in Hugging Face layout (weights, config, tokenizer) + trainer.pt

A checkpoint is written under another name and renamed, so a kill at any moment leaves the previous one. Data order and
sampling seeds are functions of the step, so weights, optimizer and step are the whole state. Left out: sharded state.
"""
import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch

from model import save_model

CARRIED = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
           "merges.txt", "chat_template.jinja", "generation_config.json")


def write_atomically(path, text: str):
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def open_run(run, config: dict, free) -> int:
    """Makes the folder, or checks that it holds a run with the same config (keys in `free` aside). -> steps done."""
    run, done = Path(run), saved(run)
    path = run / "config.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    if not before and run.exists() and any(p.suffix != ".tmp" for p in run.iterdir()):
        raise ValueError(f"{run} is neither empty nor a run of train.py; give a folder of its own as --out")
    if before and "ir_groups" not in before:
        raise ValueError(f"{path} is not of a run of train.py; give a folder of its own as --out")
    if before and (done or any(run.glob("*.jsonl"))):
        changed = [f"--{k.replace('_', '-')} was {before.get(k)!r}, is {v!r}" if k != "inputs" else "the files it reads have changed"
                   for k, v in config.items() if k not in free and before.get(k) != v]
        if changed:
            raise ValueError(f"{run} holds a run with other settings: {'; '.join(changed)}. Its rows would mean two things: "
                             "continue it with its own settings, or give another --out")
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(config, indent=2) + "\n")
    return int(done[-1].name.removeprefix("step-")) if done else 0


@contextmanager
def held(run):
    """The run's folder, for this process alone; the kernel lets go of it when the process ends, however it ends."""
    folder = os.open(run, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{run} is in use by another process; wait for it, or give another --out") from None
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


def kept(path, make):
    """The object saved at `path`, made and saved (whole or not at all) when it is not there."""
    if not path.exists():
        torch.save(make(), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    return torch.load(path)


def append_rows(path, rows):
    """Appends JSON rows in one write, not piece by piece: a killed run leaves whole rows."""
    with open(path, "ab", buffering=0) as f:
        f.write("".join(json.dumps(row) + "\n" for row in rows).encode())


def cut_rows(path, step):
    """Drops the rows of `step` and later ones, which are about to be made again, and a row that a full disk cut short."""
    path = Path(path)
    if path.exists():
        lines = [line for line in path.read_text().split("\n")[:-1] if json.loads(line)["step"] < step]
        write_atomically(path, "".join(line + "\n" for line in lines))


def save(run, step, model, optimizer, tokenizer_from, config, keep=2):
    """Writes run/step-NNNNNN (step = optimiser steps done); the last `keep` stay. -> its path."""
    final = Path(run) / f"step-{step:06d}"
    if final.exists():
        return final
    temporary = final.with_name(final.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    save_model(model, temporary)
    for name in CARRIED:
        if (Path(tokenizer_from) / name).exists():
            shutil.copy(Path(tokenizer_from) / name, temporary / name)
    torch.save({"config": config, "optimizer": optimizer.state_dict()}, temporary / "trainer.pt")
    os.replace(temporary, final)
    for old in saved(run)[:-keep]:
        shutil.rmtree(old.rename(old.with_name(old.name + ".tmp")))                  # never half a step-NNNNNN
    return final


def saved(run) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted(p for p in Path(run).glob("step-*") if p.suffix != ".tmp")
