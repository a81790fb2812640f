"""C source -> groups of equivalent and inequivalent LLVM IR: the off-policy data of GEPO (Y_w and Y_l of Eq. 6 to 9).

    python ir.py --source FILE.c|DIR|FILE.jsonl --out G.jsonl [--levels O3,Oz] [--losers 2] [--loser verified|drop]
    python ir.py --source Perf_Optimized.parquet Size_Optimized.parquet --out G.jsonl     a local export of SLTrans
    python ir.py --check G.jsonl                  run every group again, on 1,000 inputs that did not build it
    python ir.py --inspect G.jsonl --id ID        a group as a person reads it

Winners are what clang makes of a source at several optimisation levels. Losers are winners with one edit that is
*shown* to matter: ir_run.py runs source, winners and mutants on the same inputs, in the sandbox. A group depends on its
row, the seed and clang, never on the load of the machine. `--loser drop` removes a line and runs nothing (Figure 2).
Left out: what ir_drive.py leaves out. What cannot be driven is rejected by name and counted.
"""

import argparse
import difflib
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
from judge import sandbox
from judge.pool import namespace
from llvm.drive import Rejected, entry, input_pool
from llvm.run import (  # noqa: F401
    LEVELS,
    MAX_SOURCE_BYTES,
    MIN_INPUTS,
    ORACLE,
    POOL,
    assemble,
    canonical,
    clang,
    compare,
    compiled,
    normalise,
    winners,
)

MUTANTS = 12  # tried for a group, in one run
RARE = 1 / 16  # a mutant that differs on a smaller share of the inputs is second choice


# ---------------------------------------------------------------------------------------------- mutation operators
# Each takes a line of a winner and yields what may stand in its place; None takes the line out.

ORDER = "lt", "le", "gt", "ge"
PREDICATES = {
    "icmp": {s + a: [s + b for b in ORDER if b != a] for s in "su" for a in ORDER}
    | {"eq": ["ne"], "ne": ["eq"]},
    "fcmp": {
        o + a: [o + b for b in (*ORDER, "eq", "ne") if b != a]
        for o in "ou"
        for a in (*ORDER, "eq", "ne")
    },
}
OPCODES = {
    "add": "sub",
    "sub": "add",
    "mul": "add",
    "sdiv": "srem",
    "srem": "sdiv",
    "udiv": "urem",
    "urem": "udiv",
    "shl": "lshr",
    "lshr": "shl",
    "ashr": "shl",
    "and": "or",
    "or": "and",
    "xor": "or",
    "zext": "sext",
    "sext": "zext",
    "fadd": "fsub",
    "fsub": "fadd",
    "fmul": "fadd",
    "fdiv": "fmul",
    "smax": "smin",
    "smin": "smax",
    "umax": "umin",
    "umin": "umax",
}
FLAGGED = r"((?: nuw| nsw| exact| disjoint| nneg)*)"
BINARY = re.compile(
    rf"(  %\S+ = )(f?add|f?sub|f?mul|[fsu]div|[su]rem|shl|[la]shr|and|or|xor)({FLAGGED} (?:\w+|<[^>]*>) )"
    r"([^,<]+), ([^,<]+)$"
)


def predicate(line):
    if m := re.match(r"(  %\S+ = ([if]cmp) )(\w+)( .*)", line):
        yield from (m[1] + new + m[4] for new in PREDICATES[m[2]].get(m[3], []))


def swap_operands(line):
    if (m := BINARY.match(line)) and m[2] not in ("add", "mul", "and", "or", "xor", "fadd", "fmul"):
        yield f"{m[1]}{m[2]}{m[3]}{m[6]}, {m[5]}"
    elif m := re.fullmatch(r"(  %\S+ = select [^,]+, )([^,]+), ([^,]+)", line):
        yield f"{m[1]}{m[3]}, {m[2]}"


def constant(line):  # but no address: a wrong index reads what happens to lie beside the table
    if not re.search(
        r'alloca|getelementptr|element|shufflevector|@llvm\.mem|^declare|^define| c"', line
    ):
        for m in re.finditer(
            r'(?<![\w.%@"+-])(?<!align )(?:(-?\d+)|(-?\d+\.\d+e[+-]\d+)|true|false)(?![\w.:"]| x )',
            line,
        ):
            for new in (
                (int(m[1]) + 1, int(m[1]) - 1)
                if m[1]
                else [f"{float(m[2]) + 1:e}", f"{float(m[2]) - 1:e}"]
                if m[2]
                else ["false" if m[0] == "true" else "true"]
            ):
                yield f"{line[: m.start()]}{new}{line[m.end() :]}"


def opcode(line):
    if m := re.search(rf"(?: = |@llvm\.)({'|'.join(OPCODES)})\b{FLAGGED}", line):
        flags = (
            m[2] if m[1] in ("add", "sub", "mul") else ""
        )  # the flags of others mean nothing to what replaces them
        yield line[: m.start(1)] + OPCODES[m[1]] + flags + line[m.end() :]


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
    m = re.match(
        r"  %\S+ = (?:select [^,]+, \w+|call i\d+ @llvm\.[su]m\w\w\.i\d+\(i\d+) ([^\s,]+), ", line
    )
    return m[1] if m else "true" if re.match(r"  %\S+ = icmp \w+ i", line) else None


def mutants(texts: dict[str, str], operators, count: int, rng: random.Random) -> list[dict]:
    """Up to `count` one-edit mutants of the winners (level -> text), no two alike, operators and winners in turn:
    dicts of ir, operator, level, line (from 1, in that winner), was, now."""
    made, queues = dict.fromkeys(map(canonical, texts.values())), []
    for level, text in texts.items():
        for operator in operators:
            sites = [
                (at, new) for at, line in enumerate(text.split("\n")) for new in operator(line)
            ]
            queues.append((operator, level, rng.sample(sites, len(sites))))
    rng.shuffle(queues)
    while len(made) < len(texts) + count and (queues := [queue for queue in queues if queue[-1]]):
        for operator, level, sites in queues:
            (at, new), lines = sites.pop(), texts[level].split("\n")
            was, lines[at : at + 1] = lines[at], [] if new is None else [new]
            ir = "\n".join(lines)
            if operator is drop_instruction and (operand := operand_of(was)):
                ir = re.sub(re.escape(was.split()[0]) + r"(?![\w.$-])", lambda _: operand, ir)
            made.setdefault(
                canonical(ir),
                {
                    "ir": ir,
                    "operator": operator.__name__,
                    "level": level,
                    "line": at + 1,
                    "was": was.strip(),
                    "now": (new or "").strip(),
                },
            )
    return [mutant for mutant in made.values() if mutant][:count]


# ---------------------------------------------------------------------------------------------- one group


def verified_losers(source, texts, count, rng) -> tuple[list[dict], list[dict], int]:
    """(mutants of the winners that behave otherwise than the source, all that were tried, inputs that decided)"""
    tried = mutants(texts, OPERATORS, MUTANTS, rng)
    variants = [*texts.values(), *(mutant["ir"] for mutant in tried)]
    inputs, outcomes = compare(source, variants, rng)
    for level, outcome in zip(texts, outcomes):
        if outcome is None:
            raise Rejected(f"winner does not assemble: {level}")
        if any(outcome):
            raise Rejected(
                f"winners disagree: {level} with the source, {outcome} of {inputs} inputs"
            )
    for mutant, outcome in zip(tried, outcomes[len(texts) :]):
        mutant["class"] = (
            "does-not-assemble"
            if outcome is None
            else "differs"
            if outcome[0]
            else "traps"
            if outcome[1] + outcome[2]
            else "equivalent"
        )
        mutant["on"] = sum(outcome[:3]) if outcome else 0
    chosen, used, left = (
        [],
        Counter(),
        [mutant for mutant in tried if mutant["class"] in ("differs", "traps")],
    )
    while (
        left and len(chosen) < count
    ):  # the plainest first, and one of each operator and winner before two
        chosen.append(
            min(
                left,
                key=lambda m: (
                    m["class"] == "traps",
                    m["on"] < RARE * inputs,
                    used[m["operator"]],
                    used[m["level"]],
                ),
            )
        )
        used.update((chosen[-1]["operator"], chosen[-1]["level"]))
        left.remove(chosen[-1])
    if not chosen:
        raise Rejected("no mutant behaves differently")
    return chosen, tried, inputs


def dropped_lines(texts, count, rng) -> tuple[list[dict], list[dict], int]:
    """The same for losers as in the paper's figure, less one line of a body: not run, only assembled."""
    made = mutants(texts, [drop_line], 4 * count, rng)
    with tempfile.TemporaryDirectory(prefix="oorl-ir-") as box:
        objects = assemble([loser["ir"] for loser in made], box, "echo *.o").stdout.decode()
    for k, loser in enumerate(made):
        loser["class"] = (
            "unverified" if re.search(rf"\b(all|v{k})\.o\b", objects) else "does-not-assemble"
        )
    return (
        sorted(made, key=lambda loser: loser["class"])[:count],
        made,
        0,
    )  # the figure's do not assemble


def fingerprint(row: dict, *settings) -> str:
    """Of all that a row's group depends on: while it stays the same, a finished group is kept."""
    values = [row["id"], row["source"], settings, clang()[1], *filter(None, [row.get("winners")])]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def seeded(seed: int, id: str) -> random.Random:
    return random.Random(hashlib.sha256(f"{seed} {id}".encode()).hexdigest())


def build_group(row: dict, levels: list[str], losers: int, loser_mode: str, seed: int):
    """row: {"id", "source"} and perhaps {"winners": {level: IR}}; loser_mode: verified or drop. Returns (group, "", mutants
    tried by class) or (None, why not, {}). The same arguments and the same clang give the same."""
    rng = seeded(seed, row["id"])
    try:
        given, texts = {level: normalise(ir) for level, ir in row.get("winners", {}).items()}, {}
        made = {**given} or winners(row["source"], levels)
        if len(set(map(canonical, made.values()))) < 2:
            made |= winners(row["source"], [level for level in LEVELS if level not in made])
        for level, text in made.items():
            if level in (given or levels) or len(texts) < 2:
                texts.setdefault(canonical(text), (level, text))
        if len(texts) < 2:
            raise Rejected("all levels give the same code")
        texts = dict(texts.values())
        made, tried, inputs = (
            dropped_lines(texts, losers, rng)
            if loser_mode == "drop"
            else verified_losers(row["source"], texts, losers, rng)
        )
    except Rejected as e:
        return None, str(e), {}
    stats = dict(Counter(mutant["class"] for mutant in tried))
    meta = {
        "levels": list(texts),
        "losers": [{k: v for k, v in loser.items() if k != "ir"} for loser in made],
        "inputs": inputs,
        "mutants": stats,
        "clang": clang()[1],
        "seed": seed,
        "fingerprint": fingerprint(row, levels, losers, loser_mode, seed),
    }
    return (
        {
            "id": row["id"],
            "language": "c",
            "source": row["source"],
            "winners": list(texts.values()),
            "losers": [loser["ir"] for loser in made],
            "meta": meta,
        },
        "",
        stats,
    )


# ---------------------------------------------------------------------------------------------- the command

SLTRANS = {"Source_Code": str, "IR_Original": str}


def read_sources(*paths: Path) -> list[dict]:
    """Rows {"id", "source"} of C files, of the C files below folders, of JSONL files; of the tables of SLTrans (JSONL, or
    parquet if pyarrow is installed) also "winners", the IR of a source in each table by its name. Raises ValueError."""
    rows, first, joined = [], {}, {}
    for path in paths:
        if path.suffix not in (".jsonl", ".parquet"):
            files = sorted(path.rglob("*.c")) if path.is_dir() else [path]
            if not files or not files[0].is_file():
                raise ValueError(
                    f"{path}: no C source there; give a .c file, a folder of them, or a .jsonl file"
                )
            read = [
                (
                    1,
                    {
                        "id": str(
                            file.relative_to(path if path.is_dir() else path.parent).with_suffix("")
                        ),
                        "source": file.read_bytes()[: MAX_SOURCE_BYTES + 1].decode(
                            errors="surrogateescape"
                        ),
                    },
                )
                for file in files
            ]
        else:
            read = data.read_table(path)
            sltrans = bool(read) and "Source_Code" in read[0][1]
            for line, row in read:
                data.check_fields(
                    f"{path}:{line}", row, SLTRANS if sltrans else {"id": str, "source": str}
                )
            if sltrans:
                for _, row in read:
                    joined.setdefault(row["Source_Code"], {}).setdefault(
                        path.stem, row["IR_Original"]
                    )
                continue
        for line, row in read:
            if first.setdefault(row["id"], (path, line)) != (path, line):
                raise ValueError(
                    f'{path}:{line}: "id" {row["id"]!r} is already on line {first[row["id"]][1]} of '
                    f"{first[row['id']][0]}; ids must be unique"
                )
            rows.append(row)
    if joined:
        print(
            f"SLTrans: {len(joined)} sources, {sum(len(irs) == len(paths) for irs in joined.values())} of them in every table"
        )
    return rows + [
        {
            "id": hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16],
            "source": source,
            "winners": irs,
        }
        for source, irs in joined.items()
    ]


def read_finished(out: Path, ids: set[str]) -> dict[str, tuple]:
    """fingerprint -> what build_group returned, from an earlier run's rows and from one cut short. Raises ValueError
    if there are rows in `out` that would be lost."""
    partial, done = Path(f"{out}.partial"), {}
    for line, row in data.read_jsonl(out, {"id": str, "meta": dict}) if out.exists() else []:
        if row["id"] not in ids:
            raise ValueError(
                f'{out}:{line}: "id" {row["id"]!r} is not in --source: it would be lost; name another'
            )
        done[row["meta"].get("fingerprint")] = row, "", row["meta"].get("mutants", {})
    if partial.exists():
        whole = partial.read_text().rpartition("\n")  # a line that was cut short is done again
        partial.write_text(whole[0] + whole[1])
        done |= {key: result for key, *result in map(json.loads, whole[0].splitlines())}
    return done


def check_group(group: dict, inputs: int) -> tuple[int, list[str], list[str]]:
    """(inputs that decided, winners that do not behave like the source, losers that do), on inputs that did not build it."""
    rng, meta = seeded(group["meta"]["seed"], group["id"]), group["meta"]
    mutants(
        dict(zip(meta["levels"], group["winners"])), OPERATORS, MUTANTS, rng
    )  # as before the inputs were drawn
    used = input_pool(entry(*compiled(group["source"], [ORACLE])), group["source"], rng, POOL)
    decided, told = compare(
        group["source"],
        group["winners"] + group["losers"],
        random.Random(f"check {group['id']}"),
        inputs,
        4 * inputs,
        used,
    )
    n = len(group["winners"])
    return (
        decided,
        [level for level, outcome in zip(meta["levels"], told) if outcome is None or any(outcome)],
        [
            str(k)
            for k, outcome in enumerate(told[n:], 1)
            if outcome is not None and not any(outcome[:3])
        ],
    )


def check(path: Path, inputs: int, workers: int) -> int:
    """Prints what check_group finds in a file of groups. -> 1 if a winner disagrees or a loser agrees with its source."""
    groups = [
        row
        for _, row in data.read_jsonl(
            path, {"id": str, "source": str, "winners": list, "losers": list, "meta": dict}
        )
    ]
    with ThreadPoolExecutor(workers) as pool:
        told = list(
            tqdm(
                pool.map(lambda group: check_group(group, inputs), groups),
                total=len(groups),
                unit=" groups",
            )
        )
    decided, *faults = zip(*told)
    for kind, found in zip(
        ("winners that disagree with their source", "losers that agree with it"), faults
    ):
        print(
            f"{kind}: {sum(map(len, found))} "
            + ", ".join(f"{group['id']} {' '.join(f)}" for group, f in zip(groups, found) if f)
        )
    print(
        f"{len(groups)} groups, {sum(decided)} inputs decided, {min(decided)} to {max(decided)} a group"
    )
    return int(any(map(any, faults)))


def inspect(path: Path, id: str) -> int:
    """Prints a group: source, winners, and of each loser the lines that make it one."""
    group = next(
        (row for _, row in data.read_jsonl(path, {"id": str, "meta": dict}) if row["id"] == id),
        None,
    )
    if group is None:
        raise ValueError(f'{path}: no row has "id" {id!r}')
    levels = group["meta"]["levels"]
    print(
        f"{id}: {len(levels)} winners, {len(group['losers'])} losers, {group['meta']['inputs']} inputs, {group['meta']['clang']}"
    )
    print(f"\n{group['source']}")
    for level, text in zip(levels, group["winners"]):
        print(f"\n=== winner {level}, {len(text.splitlines())} lines\n{text}", end="")
    for k, (told, text) in enumerate(zip(group["meta"]["losers"], group["losers"]), 1):
        on = f", on {told['on']} inputs" if "on" in told else ""
        print(
            f"\n=== loser {k}: {told['operator']} in {told['level']}, line {told['line']}: {told['class']}{on}"
        )
        was = group["winners"][levels.index(told["level"])]
        print(
            *[
                line
                for line in difflib.ndiff(was.splitlines(), text.splitlines())
                if line[0] != "?"
            ],
            sep="\n",
        )
    return 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source",
        type=Path,
        nargs="+",
        help="FILE.c, a folder, FILE.jsonl of {id, source}, or the tables of SLTrans",
    )
    parser.add_argument("--out", type=Path, help="ir_groups.jsonl; what it holds already is kept")
    parser.add_argument("--levels", default="O3,Oz", help=f"of {','.join(sorted(LEVELS))}")
    parser.add_argument("--losers", type=int, default=2, help="at most so many a group")
    parser.add_argument("--loser", choices=["verified", "drop"], default="verified")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--check", type=Path, metavar="GROUPS", help="run these groups again, on fresh inputs"
    )
    parser.add_argument(
        "--inputs", type=int, default=1000, help="of --check (default: %(default)s)"
    )
    parser.add_argument("--inspect", type=Path, metavar="GROUPS", help="print one of these groups")
    parser.add_argument("--id", help="of --inspect")
    args = parser.parse_args()
    if args.inspect or args.check:
        try:
            sys.exit(
                inspect(args.inspect, args.id)
                if args.inspect
                else check(args.check, args.inputs, args.workers)
            )
        except (ValueError, RuntimeError, Rejected) as e:
            sys.exit(f"ir.py: {e}")
    if not (args.source and args.out):
        parser.error("give --source and --out, or --check, or --inspect")
    settings = args.levels.split(","), args.losers, args.loser, args.seed
    if unknown := set(settings[0]) - set(LEVELS):
        parser.error(
            f"--levels: {', '.join(unknown)} unknown; known are {', '.join(sorted(LEVELS))}"
        )
    if args.losers < 1 or args.workers < 1:
        parser.error("--losers and --workers must be at least 1")
    began, around = time.monotonic(), namespace()
    if (
        around and "OORL_NAMESPACE" not in os.environ
    ):  # begin again as process 1 of one: killed, it leaves no box behind
        os.execve(
            around[0], [*around, sys.executable, *sys.argv], {**os.environ, "OORL_NAMESPACE": "1"}
        )
    try:
        print(f"{clang()[1]}; {sandbox.probe()}", flush=True)
        rows = read_sources(*args.source)
        done = read_finished(args.out, {row["id"] for row in rows})
    except (ValueError, RuntimeError) as e:
        sys.exit(f"ir.py: {e}")
    keys = [fingerprint(row, *settings) for row in rows]
    partial, finished = Path(f"{args.out}.partial"), Path(f"{args.out}.tmp")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.workers) as pool, open(partial, "a") as log:
        jobs = {
            pool.submit(build_group, row, *settings): key
            for key, row in zip(keys, rows)
            if key not in done
        }
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit=" sources"):
                done[jobs[job]] = job.result()
                log.write(json.dumps([jobs[job], *job.result()]) + "\n")
                log.flush()
        except (sandbox.SandboxError, KeyboardInterrupt) as e:
            pool.shutdown(cancel_futures=True)
            sys.exit(
                f"ir.py: stopped ({str(e) or 'Ctrl-C'}); what is done stands in {partial}: run this again to go on"
            )
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
    for name, values in {
        "winners a group (n)": [len(group["winners"]) for group in groups],
        "losers a group (m)": [len(group["losers"]) for group in groups],
        "levels": [level for group in groups for level in group["meta"]["levels"]],
        "operators": [loser["operator"] for loser in losers],
        "classes": [loser["class"] for loser in losers],
        "mutants tried": [kind for *_, tried in results for kind in Counter(tried).elements()],
    }.items():
        if values:
            print(
                f"{name}: "
                + ", ".join(
                    f"{value} x {count}" for value, count in sorted(Counter(values).items())
                )
            )
    rejected = {}
    for id, _, reason, _ in results:
        if reason:
            kind, colon, detail = reason.partition(":")
            rejected.setdefault(kind, []).append(id + colon + detail)
    for kind, ids in sorted(rejected.items()):
        print(
            f"rejected, {kind}: {len(ids)} ({'; '.join(ids[:3])}{'; ...' if len(ids) > 3 else ''})"
        )


if __name__ == "__main__":
    main()
