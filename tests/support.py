"""What several tests use: folders, processes, a small run of train.py."""

import json
import os
import re
import time
from pathlib import Path

from conftest import ROOT
from judge import sandbox

STEPS = 4
TIMES = ("_s", "_per_s")  # how the names of fields end that differ from run to run


def alive(mark):
    """Host processes with the mark on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(entry.name)
        except OSError:
            pass
    return found


def gone(mark, seconds=15.0):
    end = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(mark)


def descendants(pid):
    children = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += (task / "children").read_text().split()
    except OSError:  # it ended meanwhile
        return []
    below = []
    for child in children:
        below += descendants(child)
    return children + below


def processes_of_slots(seconds=5.0):
    """The processes of boxes, below this one, that are left seconds after their judge ended.

    As root only: the boxes of an ordinary user have no uid of their own.
    """
    end = time.monotonic() + seconds
    while True:
        left = [pid for pid in descendants(os.getpid()) if is_of_a_slot(pid)]
        time.sleep(0.01)
        if not left or time.monotonic() >= end:
            return left


def is_of_a_slot(pid):
    """Zombies, which have no command line, are dead."""
    path = Path("/proc", pid, "cmdline")
    try:
        return path.stat().st_uid in sandbox.SLOT_UIDS and path.read_bytes() != b""
    except OSError:  # it ended meanwhile
        return False


def flags(few, out, *more):
    """The command line of a small run on the problems of the folder `few`."""
    options = {
        "--model": ROOT / "toy" / "model",
        "--problems": few / "problems.jsonl",
        "--ir-groups": few / "ir_groups.jsonl",
        "--out": out,
        "--steps": STEPS,
        "--rollout-batch": 8,
        "--gepo-batch": 2,
        "--max-length": 640,
        "--max-new-tokens": 128,
        "--token-budget": 1024,
        "--lr": "1e-3",
        "--warmup-ratio": 0,
        "--save-every": 2,
        "--judge-workers": 2,
    }
    words = []
    for name, value in options.items():
        words += [name, str(value)]
    return [*words, *more]


def rows(out, name="metrics.jsonl", times=False):
    lines = [json.loads(line) for line in (out / name).read_text().splitlines()]
    if times:
        return lines
    return [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in lines]


def wait_for_row(process, out):
    deadline = time.time() + 120
    while not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text():
        assert process.poll() is None and time.time() < deadline, process.communicate()
        time.sleep(0.02)


def processes_of(out):
    """Processes of the run in folder `out`, told by a variable of their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = open(f"/proc/{pid}/environ", "rb").read()
            if f"OORL_TEST={out}".encode() in environment:
                found.append(int(pid))
        except OSError:
            pass
    return found


def table_under(heading, page="README.md"):
    """The rows of the tables under a heading of a page, each a list of its cells."""
    text = (ROOT / page).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.M)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.M)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
