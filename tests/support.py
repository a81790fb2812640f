"""What several tests use: folders, processes, a small run of train.py."""

import contextlib
import json
import os
import re
import time
from pathlib import Path

from conftest import ROOT
from judge import sandbox

STEPS, TIMES = 4, ("_s", "_per_s")


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
    try:
        children = [
            child
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it ended meanwhile
        return []
    return children + [pid for child in children for pid in descendants(child)]


def processes_of_slots(seconds=5.0):
    """Boxes' processes below this one, seconds after the end of their judge. As root; an ordinary user's boxes have no uid
    of their own. Zombies, which have no command line, are dead."""
    end, left = time.monotonic() + seconds, ["not looked yet"]
    while left and time.monotonic() < end:
        left = []
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if (
                    path := Path("/proc", pid, "cmdline")
                ).stat().st_uid in sandbox.SLOT_UIDS and path.read_bytes():
                    left.append(pid)
        time.sleep(0.01)
    return left


def flags(few, out, *more):
    return [
        "--model",
        str(ROOT / "toy" / "model"),
        "--problems",
        str(few / "problems.jsonl"),
        "--ir-groups",
        str(few / "ir_groups.jsonl"),
        "--out",
        str(out),
        "--steps",
        str(STEPS),
        "--rollout-batch",
        "8",
        "--gepo-batch",
        "2",
        "--max-length",
        "640",
        "--max-new-tokens",
        "128",
        "--token-budget",
        "1024",
        "--lr",
        "1e-3",
        "--warmup-ratio",
        "0",
        "--save-every",
        "2",
        "--judge-workers",
        "2",
        *more,
    ]


def rows(out, name="metrics.jsonl", times=False):
    lines = [json.loads(line) for line in (out / name).read_text().splitlines()]
    return (
        lines
        if times
        else [{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in lines]
    )


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
