"""C source -> groups of equivalent and inequivalent LLVM IR: the off-policy data of GEPO (Y_w and Y_l of Eq. 6 to 9).

    python ir.py --source FILE.c|DIR|FILE.jsonl --out G.jsonl [--levels O3,Oz] [--losers 2] [--loser verified|drop]

Winners are what clang makes of a source at several optimisation levels. Losers are winners with one edit that is
*shown* to matter: ir_run.py runs source, winners and mutants on the same inputs, in the sandbox. A group depends on its
row, the seed and clang, never on the load of the machine. `--loser drop` removes a line and runs nothing (Figure 2).
Left out: whole programs, pointers, floats, state between calls. What cannot be driven is rejected by name and counted.
"""
import argparse
import hashlib
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

import data
import sandbox
from ir_run import (LEVELS, MAX_SOURCE_BYTES, MIN_INPUTS, ORACLE, Rejected, assemble, canonical, clang,  # noqa: F401
                    compare, normalise, winners)

MUTANTS = 12    # tried for a group, in one run
RARE = 1 / 16   # a mutant that differs on a smaller share of the inputs is second choice


def ir_prompt(source: str) -> str:
    return f"Compile this C program to LLVM IR.\n```c\n{source.rstrip(chr(10))}\n```"


def ir_response(ir: str) -> str:
    return f"```llvm\n{ir.rstrip(chr(10))}\n```"


# ---------------------------------------------------------------------------------------------- mutation operators
# Each takes a line of a winner and yields what may stand in its place; None takes the line out.

ORDER = "lt", "le", "gt", "ge"
PREDICATES = {s + a: [s + b for b in ORDER if b != a] for s in "su" for a in ORDER} | {"eq": ["ne"], "ne": ["eq"]}
OPCODES = {"add": "sub", "sub": "add", "mul": "add", "sdiv": "srem", "srem": "sdiv", "udiv": "urem", "urem": "udiv",
           "shl": "lshr", "lshr": "shl", "ashr": "shl", "and": "or", "or": "and", "xor": "or", "zext": "sext",
           "sext": "zext", "smax": "smin", "smin": "smax", "umax": "umin", "umin": "umax"}
FLAGGED = r"((?: nuw| nsw| exact| disjoint| nneg)*)"
BINARY = re.compile(rf"(  %\S+ = )(add|sub|mul|[su]div|[su]rem|shl|[la]shr|and|or|xor)({FLAGGED} (?:\w+|<[^>]*>) )"
                    r"([^,<]+), ([^,<]+)$")


def predicate(line):
    if m := re.match(r"(  %\S+ = icmp )(\w+)( .*)", line):
        yield from (m[1] + new + m[3] for new in PREDICATES[m[2]])


def swap_operands(line):
    if (m := BINARY.match(line)) and m[2] not in ("add", "mul", "and", "or", "xor"):
        yield f"{m[1]}{m[2]}{m[3]}{m[6]}, {m[5]}"
    elif m := re.fullmatch(r"(  %\S+ = select [^,]+, )([^,]+), ([^,]+)", line):
        yield f"{m[1]}{m[3]}, {m[2]}"


def constant(line):  # but no address: a wrong index reads what happens to lie beside the table
    if not re.search(r'alloca|getelementptr|element|shufflevector|@llvm\.mem|^declare|^define| c"', line):
        for m in re.finditer(r'(?<![\w.%@"-])(?<!align )(?:(-?\d+)|true|false)(?![\w.:"]| x )', line):
            for new in (int(m[1]) + 1, int(m[1]) - 1) if m[1] else ["false" if m[0] == "true" else "true"]:
                yield f"{line[:m.start()]}{new}{line[m.end():]}"


def opcode(line):
    if m := re.search(rf"(?: = |@llvm\.)({'|'.join(OPCODES)})\b{FLAGGED}", line):
        flags = m[2] if m[1] in ("add", "sub", "mul") else ""  # the flags of others mean nothing to what replaces them
        yield line[:m.start(1)] + OPCODES[m[1]] + flags + line[m.end():]


def drop_instruction(line):
    if re.match("  (?:store|call void) ", line) or operand_of(line):
        yield None


def swap_branch(line):  # both targets keep their predecessors, so that every phi stays right
    if m := re.match(r"(  br i1 .*, )(label \S+), (label \S+)$", line):
        yield f"{m[1]}{m[3]}, {m[2]}"


OPERATORS = predicate, swap_operands, constant, opcode, drop_instruction, swap_branch


def drop_line(line):  # the paper's: not in OPERATORS, for nothing stands in for what is gone
    if line.startswith("  "):
        yield None


def operand_of(line: str) -> str | None:
    """What stands for the result of a dropped instruction: an operand of the same type, which dominates every use."""
    if m := BINARY.match(line):
        return m[5]
    m = re.match(r"  %\S+ = (?:select [^,]+, \w+|call i\d+ @llvm\.[su]m\w\w\.i\d+\(i\d+) ([^\s,]+), ", line)
    return m[1] if m else "true" if re.match(r"  %\S+ = icmp \w+ i", line) else None


def mutants(texts: dict[str, str], operators, count: int, rng: random.Random) -> list[dict]:
    """Up to `count` one-edit mutants of the winners (level -> text), no two alike, operators and winners in turn:
    dicts of ir, operator, level, line (from 1, in that winner), was, now."""
    made, queues = dict.fromkeys(map(canonical, texts.values())), []
    for level, text in texts.items():
        for operator in operators:
            sites = [(at, new) for at, line in enumerate(text.split("\n")) for new in operator(line)]
            queues.append((operator, level, rng.sample(sites, len(sites))))
    rng.shuffle(queues)
    while len(made) < len(texts) + count and (queues := [queue for queue in queues if queue[-1]]):
        for operator, level, sites in queues:
            (at, new), lines = sites.pop(), texts[level].split("\n")
            was, lines[at:at + 1] = lines[at], [] if new is None else [new]
            ir = "\n".join(lines)
            if operator is drop_instruction and (operand := operand_of(was)):
                ir = re.sub(re.escape(was.split()[0]) + r"(?![\w.$-])", lambda _: operand, ir)
            made.setdefault(canonical(ir), {"ir": ir, "operator": operator.__name__, "level": level, "line": at + 1,
                                            "was": was.strip(), "now": (new or "").strip()})
    return [mutant for mutant in made.values() if mutant][:count]


# ---------------------------------------------------------------------------------------------- one group

def verified_losers(source, texts, count, rng) -> tuple[list[dict], list[dict], int]:
    """(mutants of the winners that behave otherwise than the source, all that were tried, inputs that decided)"""
    tried = mutants(texts, OPERATORS, MUTANTS, rng)
    variants = [*texts.values(), *(mutant["ir"] for mutant in tried)]
    inputs, outcomes = compare(winners(source, [ORACLE])[ORACLE], variants, source, rng)
    for level, outcome in zip(texts, outcomes):
        if any(outcome or [1]):
            raise Rejected(f"winners disagree: {level} with the source, {outcome} of {inputs} inputs")
    for mutant, outcome in zip(tried, outcomes[len(texts):]):
        mutant["class"] = "does-not-assemble" if outcome is None else "differs" if outcome[0] else \
            "traps" if outcome[1] + outcome[2] else "equivalent"
        mutant["on"] = sum(outcome[:3]) if outcome else 0
    chosen, used, left = [], Counter(), [mutant for mutant in tried if mutant["class"] in ("differs", "traps")]
    while left and len(chosen) < count:  # the plainest first, and one of each operator and winner before two
        chosen.append(min(left, key=lambda m: (m["class"] == "traps", m["on"] < RARE * inputs, used[m["operator"]],
                                               used[m["level"]])))
        used.update((chosen[-1]["operator"], chosen[-1]["level"]))
        left.remove(chosen[-1])
    if not chosen:
        raise Rejected("no mutant behaves differently")
    return chosen, tried, inputs


def dropped_lines(texts, count, rng) -> tuple[list[dict], list[dict], int]:
    """The same for losers as in the paper's figure, less one line of a body: not run, only assembled."""
    made = mutants(texts, [drop_line], count, rng)
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        objects = assemble([loser["ir"] for loser in made], box, "echo *.o").stdout.decode()
    for k, loser in enumerate(made):
        loser["class"] = "unverified" if re.search(rf"\b(all|v{k})\.o\b", objects) else "does-not-assemble"
    return made, made, 0


def fingerprint(row: dict, *settings) -> str:
    """Of all that a row's group depends on: while it stays the same, a finished group is kept."""
    return hashlib.sha256(json.dumps([row["id"], row["source"], settings, clang()[1]]).encode()).hexdigest()[:16]


def build_group(row: dict, levels: list[str], losers: int, loser_mode: str, seed: int):
    """row: {"id", "source"}; loser_mode: verified or drop. Returns (group, "", mutants tried by class) or (None, why
    not, {}). The same arguments and the same clang give the same."""
    rng = random.Random(hashlib.sha256(f"{seed} {row['id']}".encode()).hexdigest())
    try:
        compiled, texts = winners(row["source"], levels), {}
        if len(set(map(canonical, compiled.values()))) < 2:
            compiled |= winners(row["source"], [level for level in LEVELS if level not in levels])
        for level, text in compiled.items():
            if level in levels or len(texts) < 2:
                texts.setdefault(canonical(text), (level, text))
        if len(texts) < 2:
            raise Rejected("all levels give the same code")
        texts = dict(texts.values())
        made, tried, inputs = dropped_lines(texts, losers, rng) if loser_mode == "drop" else \
            verified_losers(row["source"], texts, losers, rng)
    except Rejected as e:
        return None, str(e), {}
    stats = dict(Counter(mutant["class"] for mutant in tried))
    meta = {"levels": list(texts), "losers": [{k: v for k, v in loser.items() if k != "ir"} for loser in made],
            "inputs": inputs, "mutants": stats, "clang": clang()[1], "seed": seed,
            "fingerprint": fingerprint(row, levels, losers, loser_mode, seed)}
    return {"id": row["id"], "language": "c", "source": row["source"], "winners": list(texts.values()),
            "losers": [loser["ir"] for loser in made], "meta": meta}, "", stats


# ---------------------------------------------------------------------------------------------- the command

def read_sources(path: Path) -> list[dict]:
    """Rows {"id", "source"} of a C file, of the C files below a folder, or of a JSONL file. Raises ValueError."""
    if path.suffix == ".jsonl":
        rows = data.read_jsonl(path, {"id": str, "source": str})
        first = {}
        for line, row in rows:
            if first.setdefault(row["id"], line) != line:
                raise ValueError(f'{path}:{line}: "id" {row["id"]!r} is already on line {first[row["id"]]}; '
                                 "ids must be unique")
        return [row for _, row in rows]
    files = sorted(path.rglob("*.c")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{path}: no C source there; give a .c file, a folder of them, or a .jsonl file")
    return [{"id": str(file.relative_to(path if path.is_dir() else path.parent).with_suffix("")),
             "source": file.read_bytes()[:MAX_SOURCE_BYTES + 1].decode(errors="surrogateescape")} for file in files]


def read_finished(out: Path, ids: set[str]) -> dict[str, tuple]:
    """fingerprint -> what build_group returned, from an earlier run's rows and from one cut short. Raises ValueError
    if there are rows in `out` that would be lost."""
    partial, done = Path(f"{out}.partial"), {}
    for line, row in data.read_jsonl(out, {"id": str, "meta": dict}) if out.exists() else []:
        if row["id"] not in ids:
            raise ValueError(f'{out}:{line}: "id" {row["id"]!r} is not in --source: it would be lost; name another')
        done[row["meta"].get("fingerprint")] = row, "", row["meta"].get("mutants", {})
    if partial.exists():
        whole = partial.read_text().rpartition("\n")  # a line that was cut short is done again
        partial.write_text(whole[0] + whole[1])
        done |= {key: result for key, *result in map(json.loads, whole[0].splitlines())}
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="FILE.c, a folder, or FILE.jsonl of {id, source}")
    parser.add_argument("--out", type=Path, required=True, help="ir_groups.jsonl; what it holds already is kept")
    parser.add_argument("--levels", default="O3,Oz", help=f"of {','.join(sorted(LEVELS))}")
    parser.add_argument("--losers", type=int, default=2, help="at most so many a group")
    parser.add_argument("--loser", choices=["verified", "drop"], default="verified")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    args = parser.parse_args()
    settings = args.levels.split(","), args.losers, args.loser, args.seed
    if unknown := set(settings[0]) - set(LEVELS):
        parser.error(f"--levels: {', '.join(unknown)} unknown; known are {', '.join(sorted(LEVELS))}")
    if args.losers < 1 or args.workers < 1:
        parser.error("--losers and --workers must be at least 1")
    began = time.monotonic()
    try:
        print(f"{clang()[1]}; {sandbox.probe()}", flush=True)
        rows = read_sources(args.source)
        done = read_finished(args.out, {row["id"] for row in rows})
    except (ValueError, RuntimeError) as e:
        sys.exit(f"ir.py: {e}")
    keys = [fingerprint(row, *settings) for row in rows]
    partial, finished = Path(f"{args.out}.partial"), Path(f"{args.out}.tmp")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.workers) as pool, open(partial, "a") as log:
        jobs = {pool.submit(build_group, row, *settings): key for key, row in zip(keys, rows) if key not in done}
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit=" sources"):
                done[jobs[job]] = job.result()
                log.write(json.dumps([jobs[job], *job.result()]) + "\n")
                log.flush()
        except (sandbox.SandboxError, KeyboardInterrupt) as e:
            pool.shutdown(cancel_futures=True)
            sys.exit(f"ir.py: stopped ({e or 'Ctrl-C'}); what is done stands in {partial}: run this again to go on")
    results = [(row["id"], *done[key]) for key, row in zip(keys, rows)]
    finished.write_text("".join(json.dumps(group) + "\n" for _, group, *_ in results if group))
    os.replace(finished, args.out)
    partial.unlink()
    report(results, time.monotonic() - began)
    sys.exit(0 if any(group for _, group, *_ in results) else "ir.py: no source gave a group")


def report(results, wall_s):
    """results: (id, group or None, why not, mutants by class) of every source."""
    groups = [group for _, group, *_ in results if group]
    losers = [loser for group in groups for loser in group["meta"]["losers"]]
    print(f"{len(results)} sources read, {len(groups)} groups, {wall_s:.1f} s")
    for name, values in {"winners a group (n)": [len(group["winners"]) for group in groups],
                         "losers a group (m)": [len(group["losers"]) for group in groups],
                         "levels": [level for group in groups for level in group["meta"]["levels"]],
                         "operators": [loser["operator"] for loser in losers],
                         "classes": [loser["class"] for loser in losers],
                         "mutants tried": [kind for *_, tried in results for kind in Counter(tried).elements()],
                         }.items():
        if values:
            print(f"{name}: " + ", ".join(f"{value} x {count}" for value, count in sorted(Counter(values).items())))
    rejected = {}
    for id, _, reason, _ in results:
        if reason:
            kind, colon, detail = reason.partition(":")
            rejected.setdefault(kind, []).append(id + colon + detail)
    for kind, ids in sorted(rejected.items()):
        print(f"rejected, {kind}: {len(ids)} ({'; '.join(ids[:3])}{'; ...' if len(ids) > 3 else ''})")


if __name__ == "__main__":
    main()
