"""C source -> groups of equivalent and inequivalent LLVM IR: the off-policy data of GEPO.

    python ir.py --source FILE.c|DIR|FILE.jsonl --out G.jsonl
                 [--levels O3,Oz] [--losers 2] [--loser verified|drop] [--equivalents 0]
    python ir.py --source Perf_Optimized.parquet Size_Optimized.parquet --out G.jsonl
                                              the tables of a local export of SLTrans
    python ir.py --check G.jsonl              run every group again, on 1,000 inputs that did not
                                              build it
    python ir.py --audit G.jsonl              how well losers are told without looking at the source
    python ir.py --inspect G.jsonl --id ID    print one group for a person to read

Winners (Y_w of Eq. 6 to 9) are what clang makes of a source at several optimisation levels. Losers
(Y_l) are what it makes of the source with one edit that is *shown* to matter: the edit is made
before the optimiser runs, and source, winners and mutants run on the same inputs, in the sandbox.
`--loser drop` removes a line of a winner and runs nothing, as in the paper's Figure 2. A group
depends on its row, the settings and clang, never on the load of the machine.
Each public function of a file with several gives a group of its own (llvm/split.py).
Left out: what llvm/drive.py cannot drive. Such a source is rejected by name and counted; OUT's
folder has rejected.jsonl, a row for each.
"""

import argparse
import difflib
import hashlib
import itertools
import json
import os
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple, dataclass
from pathlib import Path

from tqdm import tqdm

import data
import llvm
from judge import sandbox
from judge.pool import restart_as_process_1
from llvm import audit

MUTANTS = 12  # tried for a group, in one run
ATTEMPTS = 3  # at as many losers as are wanted
FRESH = 96  # inputs of the last look at a group, at most
RARE = 1 / 16  # a mutant that differs on a smaller share of the inputs is second choice
UNDEFINED = re.compile(r"\b(?:undef|poison|freeze|unreachable)\b")


@dataclass(frozen=True)
class Settings:
    """What a group depends on besides its row and clang; the fingerprint takes it in this order."""

    levels: list[str]  # of optimisation, one winner each
    losers: int  # per group, at most
    loser_mode: str  # verified or drop
    seed: int
    equivalents: int = 0  # mutants that are winners, at most
    cflags: str = ""  # more flags of clang


@dataclass
class BuildResult:
    group: dict | None  # a row of ir_groups.jsonl
    why_not: str  # why there is no group; what precedes the first colon is the kind
    tried: dict[str, int]  # mutants tried, by their behaviour


def main():
    """The command. Exits with a message if something is wrong, else with 0."""
    parser = argument_parser()
    args = parser.parse_args()
    try:
        if args.inspect:
            sys.exit(inspect(args.inspect, args.id))
        if args.audit:
            sys.exit(print_audit(read_groups(args.audit), args.workers))
        if args.check:
            sys.exit(check(args.check, args.inputs, args.workers))
    except (ValueError, RuntimeError, llvm.Rejected) as error:
        sys.exit(f"ir.py: {error}")
    settings = checked_settings(parser, args)
    restart_as_process_1()
    make_groups(args, settings)


def make_groups(args, settings):
    """Build the groups that are not finished yet; then write all, in the order of the sources.

    args: what the parser returned. settings: Settings. Exits.
    What is done is logged in OUT.partial, from which the next call goes on after a kill."""
    start = time.monotonic()
    out, workers = args.out, args.workers
    partial, complete = Path(f"{out}.partial"), Path(f"{out}.tmp")
    try:
        print(f"{llvm.clang().version}; {sandbox.probe()}", flush=True)
        if not llvm.has_sanitizers():
            print("no AddressSanitizer, no MemorySanitizer: apt-get install libclang-rt-19-dev")
        files = llvm.read_sources(*args.source, include=args.include)
        rows = split_rows(files, settings, workers)
        finished = read_finished(out, partial, {row["id"] for row in rows})
    except (ValueError, RuntimeError) as error:
        sys.exit(f"ir.py: {error}")
    keys = [fingerprint(row, settings) for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool, open(partial, "a") as log:
        jobs = {}
        for key, row in zip(keys, rows):
            if key not in finished:
                jobs[pool.submit(build_group, row, settings)] = key
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), unit=" sources"):
                key = jobs[job]
                result = job.result()
                finished[key] = result
                log.write(json.dumps([key, *astuple(result)]) + "\n")
                log.flush()
        except (sandbox.SandboxError, KeyboardInterrupt) as error:
            pool.shutdown(cancel_futures=True)
            reason = str(error) or "by a signal"
            sys.exit(
                f"ir.py: stopped ({reason}); what is done is in {partial}: run this again to go on"
            )
    results = [finished[key] for key in keys]
    groups = [result.group for result in results if result.group]
    complete.write_text("".join(json.dumps(group) + "\n" for group in groups))
    os.replace(complete, out)
    forget(partial, keys)
    write_rejected(out, rows, results)
    report(rows, results, time.monotonic() - start)
    if groups:
        print_audit(groups, workers)
    sys.exit(0 if groups else "ir.py: no source gave a group")


def split_rows(files, settings, workers):
    """The functions and programs in the rows of read_sources: list of rows, in their order.

    settings: Settings. workers: int, threads."""
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda file: llvm.split(file, settings.cflags), files))
    rows = list(itertools.chain.from_iterable(parts))
    if len(rows) != len(files):
        print(f"{len(files)} files: {len(rows)} functions and programs", flush=True)
    return rows


# ---------------------------------------------------------------------------------- one group


@dataclass
class Group:
    """What build_group chooses from."""

    programs: dict[str, str]  # the IR that the optimiser of each level is given
    winners: dict[str, str]  # Y_w: what it makes of it
    tried: list[llvm.Mutant]  # all that were compared, the chosen ones too
    losers: list[llvm.Mutant]  # Y_l, chosen
    equivalents: list[llvm.Mutant]  # chosen
    inputs: int = 0  # number of inputs that decided; 0: nothing was run


def build_group(row, settings):
    """A group from a row {"id", "source"}, perhaps with "winners": {level: IR}.

    row: dict. settings: Settings. -> BuildResult.
    The same arguments and the same clang give the same group."""
    tried = {}
    best = None
    try:
        if settings.loser_mode == "verified":
            llvm.check_driven(row["source"], settings.cflags)
        chosen = distinct_winners(row, settings)  # Y_w of Eq. 6 to 9
        for attempt in range(ATTEMPTS):
            if settings.loser_mode == "drop":
                drop_lines(chosen, settings, row["id"])  # Y_l, as in Figure 2
            else:
                verify_mutants(chosen, settings, row, attempt)  # Y_l
            tried = dict(Counter(mutant.behaviour for mutant in chosen.tried))
            group = group_row(row, settings, chosen, tried)
            if settings.loser_mode == "verified" and chosen.losers:
                confirm(group)
            if best is None or len(group["losers"]) > len(best["losers"]):
                best = group
            if len(best["losers"]) == settings.losers:
                break
    except llvm.Rejected as rejected:
        return BuildResult(None, str(rejected), tried)
    if not best["losers"]:
        return BuildResult(None, "no mutant behaves differently", tried)
    return BuildResult(best, "", best["meta"]["mutants"])


def group_row(row, settings, chosen, tried):
    """A row of ir_groups.jsonl: dict. chosen: Group. tried: {behaviour: count}."""
    equivalents = [mutant.ir for mutant in chosen.equivalents]
    meta = {
        "levels": [*chosen.winners, *(mutant.level for mutant in chosen.equivalents)],
        "losers": list(map(description, chosen.losers)),
        "equivalents": list(map(description, chosen.equivalents)),
        "inputs": chosen.inputs,
        "mutants": tried,
        "clang": llvm.clang().version,
        "cflags": settings.cflags,
        "seed": settings.seed,
        "fingerprint": fingerprint(row, settings),
    }
    return {
        "id": row["id"],
        "language": "c",
        "source": row["source"],
        "winners": [*chosen.winners.values(), *equivalents],
        "losers": [mutant.ir for mutant in chosen.losers],
        "meta": meta,
    }


def confirm(group):
    """Runs a new group on inputs that did not build it, and takes out the losers that agree there.

    group: dict, a row of ir_groups.jsonl. Raises Rejected if a winner differs."""
    found = check_group(group, FRESH)
    if found.wrong_winners:
        raise llvm.Rejected(f"winners disagree on fresh inputs: {' '.join(found.wrong_winners)}")
    for number in reversed(found.wrong_losers):
        del group["losers"][number - 1], group["meta"]["losers"][number - 1]
    group["meta"]["fresh"] = {"inputs": found.inputs, "dropped": len(found.wrong_losers)}


def distinct_winners(row, settings):
    """A Group of at least two winners, no two of them the same code. Raises Rejected.

    row: as of build_group. settings: Settings. Where its levels, or the winners given in the
    row, are too few, other levels top them up to two. What the row gives is optimised again, as its
    mutants will be."""

    def unoptimised(levels):
        return llvm.unoptimised(row["source"], levels, settings.cflags)

    programs = row.get("winners") or unoptimised(settings.levels)
    winners = one_per_code(optimise(programs))
    if len(winners) < 2:
        others = [level for level in llvm.LEVELS if level not in programs]
        more = unoptimised(others)
        programs = programs | more
        topped_up = one_per_code(winners | optimise(more))
        winners = dict(list(topped_up.items())[:2])
    if len(winners) < 2:
        raise llvm.Rejected("all levels give the same code")
    return Group({level: programs[level] for level in winners}, winners, [], [], [])


def optimise(programs):
    """programs: {level: IR} -> {level: normalised IR}. Raises Rejected."""
    texts = dict(zip(programs, llvm.optimised(programs.items())))
    for level, text in texts.items():
        if text is None:
            raise llvm.Rejected(f"winner does not assemble: {level}")
    return texts


def one_per_code(irs):
    """The first text of each code. irs: {level: IR} -> {level: IR}, in the same order."""
    level_of_code = {}
    for level, text in irs.items():
        level_of_code.setdefault(text, level)
    return {level: irs[level] for level in level_of_code.values()}


def verify_mutants(chosen, settings, row, attempt):
    """Finds mutants that, when run, behave differently from the source; sets `chosen`'s losers.

    chosen: Group. row: as of build_group. attempt: int; each draws other mutants. Raises Rejected
    if a winner does not behave like the source."""
    rng = seeded(f"{settings.seed} again {attempt}" if attempt else settings.seed, row["id"])
    edits = llvm.mutants(chosen.programs, llvm.OPERATORS, MUTANTS, rng)
    chosen.tried = optimised_mutants(edits, chosen.winners)
    variants = [*chosen.winners.values(), *(mutant.ir for mutant in chosen.tried)]
    rng = input_rng(settings.seed, row["id"])
    chosen.inputs, outcomes = llvm.compare_with_source(
        row["source"], variants, rng, cflags=settings.cflags
    )
    for level, outcome in zip(chosen.winners, outcomes):
        if outcome is None:
            raise llvm.Rejected(f"winner does not assemble: {level}")
        if any(outcome):
            counts = f"{list(outcome)} of {chosen.inputs} inputs"
            raise llvm.Rejected(f"winners disagree: {level} with the source, {counts}")
    for mutant, outcome in zip(chosen.tried, outcomes[len(chosen.winners) :]):
        mutant.behaviour = behaviour(outcome)
        mutant.distinguishing = outcome.distinguishing if outcome else 0
    chosen.losers = choose_losers(chosen.tried, settings.losers, chosen.inputs)
    same = [mutant for mutant in chosen.tried if mutant.behaviour == "equivalent"]
    chosen.equivalents = same[: settings.equivalents]


def optimised_mutants(edits, winners):
    """The mutants that the optimiser leaves different from the winners and from one another.

    edits: list of Mutant. winners: {level: IR}. -> list of Mutant, their IR optimised.
    One that has a word of UNDEFINED is left out if its winner has none: the edit undid what the
    value came from, and a glance tells."""
    texts = llvm.optimised((mutant.level, mutant.ir) for mutant in edits)
    mutant_of_text = {}
    for mutant, text in zip(edits, texts):
        if text is None or text in winners.values():
            continue
        winner = winners[mutant.level]
        if set(UNDEFINED.findall(text)) <= set(UNDEFINED.findall(winner)):
            mutant.ir = text
            mutant.longer = llvm.length(text) - llvm.length(winner)
            mutant_of_text.setdefault(text, mutant)
    return list(mutant_of_text.values())


def behaviour(outcome):
    """The name (str) of what an llvm.Outcome shows; None: the mutant does not assemble."""
    if outcome is None:
        return "does-not-assemble"
    if outcome.differed:
        return "differs"
    if outcome.crashed or outcome.endless:
        return "traps"
    return "unstable" if outcome.unstable else "equivalent"


def choose_losers(tried, count, inputs):
    """Up to `count` mutants that behave differently from the source, the plainest first.

    tried: list of Mutant. count, inputs: int; inputs is how many decided. -> list of Mutant.
    Each level and each operator has its turn before any has a second one, and together they are as
    long as their winners: length must not tell."""
    left = [mutant for mutant in tried if mutant.behaviour in ("differs", "traps")]
    chosen = []
    used = Counter()  # operators and levels of the chosen mutants

    def rank(mutant):
        traps = mutant.behaviour == "traps"
        rare = mutant.distinguishing < RARE * inputs
        longer = sum(loser.longer for loser in chosen) + mutant.longer
        return used[mutant.level], traps, rare, abs(longer), used[mutant.operator]

    while left and len(chosen) < count:
        best = min(left, key=rank)
        left.remove(best)
        chosen.append(best)
        used.update([best.operator, best.level])
    return chosen


def drop_lines(chosen, settings, id):
    """Takes one line out of a body, as in the paper's Figure 2: assembled, but not run.

    chosen: Group; sets its losers. id: str, of the source."""
    rng = seeded(settings.seed, id)
    tried = llvm.mutants(chosen.winners, [llvm.drop_line], 4 * settings.losers, rng)
    assembled = llvm.which_assemble([mutant.ir for mutant in tried])
    for mutant, assembles in zip(tried, assembled):
        mutant.behaviour = "unverified" if assembles else "does-not-assemble"
    # The figure's losers do not assemble: those come first.
    chosen.tried = tried
    chosen.losers = sorted(tried, key=lambda mutant: mutant.behaviour)[: settings.losers]


def description(loser):
    """What a group's meta says about a loser. loser: Mutant -> dict."""
    described = {
        "operator": loser.operator.__name__,
        "level": loser.level,
        "line": loser.line,
        "was": loser.was.strip(),
        "now": (loser.now or "").strip(),
        "class": loser.behaviour,
    }
    if loser.distinguishing is not None:
        described["on"] = loser.distinguishing
    return described


def fingerprint(row, settings):
    """A hash (str) of all that a group depends on: while it stays the same, the group is kept.

    row: as of build_group. settings: Settings."""
    values = [row["id"], row["source"], astuple(settings), llvm.clang().version]
    if row.get("winners"):
        values.append(row["winners"])
    if not llvm.has_sanitizers():
        values.append("no sanitizers")
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def input_rng(seed, id):
    """The random.Random that draws the inputs of one source. seed: int. id: str, its id."""
    return seeded(f"inputs {seed}", id)


def seeded(seed, id):
    """The random.Random of one source. seed: int or str. id: str, its id."""
    return random.Random(hashlib.sha256(f"{seed} {id}".encode()).hexdigest())


# ---------------------------------------------------------------------------------- the command


def argument_parser():
    """-> argparse.ArgumentParser, of the flags in the docstring of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = parser.add_argument
    flag(
        "--source",
        type=Path,
        nargs="+",
        help="FILE.c, a folder, FILE.jsonl of {id, source}, or the tables of SLTrans",
    )
    flag("--out", type=Path, help="ir_groups.jsonl; what it holds already is kept")
    flag("--levels", default="O3,Oz", help=f"of {','.join(sorted(llvm.LEVELS))}")
    flag("--losers", type=int, default=2, help="how many losers per group, at most")
    flag(
        "--loser",
        choices=["verified", "drop"],
        default="verified",
        help="how losers are made: verified by running them, or a dropped line that is never run",
    )
    flag("--equivalents", type=int, default=0, help="winners by harmless edits, at most")
    flag("--include", type=Path, nargs="+", default=[], help="folders of headers")
    flag("--cflags", default="", help="more flags of clang: --cflags='-DN=3 -std=gnu89'")
    flag("--seed", type=int, default=0)
    flag("--workers", type=int, default=os.cpu_count())
    flag("--check", type=Path, metavar="GROUPS", help="run these groups again, on fresh inputs")
    flag("--inputs", type=int, default=1000, help="of --check (default: %(default)s)")
    flag("--audit", type=Path, metavar="GROUPS", help="what tells losers without their source")
    flag("--inspect", type=Path, metavar="GROUPS", help="print one of these groups")
    flag("--id", help="of --inspect")
    return parser


def checked_settings(parser, args):
    """args: what the parser returned -> Settings. Exits with a message if a flag is wrong."""
    if not (args.source and args.out):
        parser.error("give --source and --out, or --check, or --audit, or --inspect")
    levels = args.levels.split(",")
    unknown = set(levels) - set(llvm.LEVELS)
    if unknown:
        known = ", ".join(sorted(llvm.LEVELS))
        parser.error(f"--levels: {', '.join(unknown)} unknown; known are {known}")
    if args.losers < 1 or args.workers < 1:
        parser.error("--losers and --workers must be at least 1")
    return Settings(levels, args.losers, args.loser, args.seed, args.equivalents, args.cflags)


def read_finished(out, partial, ids):
    """{fingerprint: BuildResult}, from an earlier run's groups and the log of a run cut short.

    out, partial: Path. ids: set of str, of the sources.
    Raises ValueError if `out` holds groups that would be lost."""
    finished = {}
    for line, row in data.read_jsonl(out, {"id": str, "meta": dict}) if out.exists() else []:
        if row["id"] not in ids:
            raise ValueError(
                f'{out}:{line}: "id" {row["id"]!r} is not in --source: it would be lost; '
                "name another"
            )
        meta = row["meta"]
        finished[meta.get("fingerprint")] = BuildResult(row, "", meta.get("mutants", {}))
    if partial.exists():
        # The last line may have been cut short; its source is done again.
        lines, newline, _ = partial.read_text().rpartition("\n")
        partial.write_text(lines + newline)
        for line in lines.splitlines():
            key, *result = json.loads(line)
            finished[key] = BuildResult(*result)
    return finished


def forget(partial, keys):
    """Takes what is written now out of the log of a run. partial: Path. keys: list of str.

    What other sources or settings left there stays: their next run goes on from it."""
    others = []
    for line in partial.read_text().splitlines(keepends=True):
        if json.loads(line)[0] not in keys:
            others.append(line)
    if not others:
        partial.unlink()
        return
    partial.write_text("".join(others))
    print(f"{partial}: kept, {len(others)} results of other sources or settings are in it")


def write_rejected(out, rows, results):
    """Writes why sources gave no group, beside `out`. out: Path. rows, results: of the sources.

    rejected.jsonl has {"out", "id", "why"}, and keeps the rows of other files of the folder."""
    path = out.with_name("rejected.jsonl")
    rejected = []
    for _, row in data.read_jsonl(path, {"out": str}) if path.exists() else []:
        if row["out"] != out.name:
            rejected.append(row)
    for row, result in zip(rows, results):
        if result.group is None:
            rejected.append({"out": out.name, "id": row["id"], "why": result.why_not})
    path.write_text("".join(json.dumps(row) + "\n" for row in rejected))
    if not rejected:
        path.unlink()


def report(rows, results, wall_s):
    """Prints counts. rows: list of dict. results: list of BuildResult, one per row. wall_s: float.

    -> None."""
    names = (
        "winners a group (n)",
        "losers a group (m)",
        "levels",
        "operators",
        "classes",
        "mutants tried",
        "fresh inputs",
    )
    counts = {name: Counter() for name in names}  # printed in this order
    groups = 0
    rejected = {}  # kind -> ids, with the detail
    for row, result in zip(rows, results):
        counts["mutants tried"].update(result.tried)
        if result.group is None:
            kind, colon, detail = result.why_not.partition(":")
            rejected.setdefault(kind, []).append(row["id"] + colon + detail)
            continue
        groups += 1
        meta = result.group["meta"]
        counts["winners a group (n)"][len(result.group["winners"])] += 1
        counts["losers a group (m)"][len(result.group["losers"])] += 1
        counts["levels"].update(meta["levels"])
        if "fresh" in meta:
            counts["fresh inputs"]["losers dropped"] += meta["fresh"]["dropped"]
        for loser in meta["losers"]:
            counts["operators"][loser["operator"]] += 1
            counts["classes"][loser["class"]] += 1
    print(f"{len(results)} sources read, {groups} groups, {wall_s:.1f} s")
    for name, counter in counts.items():
        if counter:
            entries = [f"{value} x {count}" for value, count in sorted(counter.items())]
            print(f"{name}: {', '.join(entries)}")
    for kind, ids in sorted(rejected.items()):
        more = "; ..." if len(ids) > 3 else ""
        print(f"rejected, {kind}: {len(ids)} ({'; '.join(ids[:3])}{more})")


# ---------------------------------------------------------------------------------- --check


@dataclass
class CheckResult:
    inputs: int  # number of inputs that decided
    wrong_winners: list[str]  # levels of the winners that do not behave like the source
    wrong_losers: list[int]  # numbers, from 1, of the losers that do


def check(path, inputs, workers):
    """Prints what check_group finds in a file of groups. Returns 1 if anything is wrong, else 0.

    path: Path. inputs: int, per group at most. workers: int, threads.
    A group that cannot be decided is named and left out of the counts."""
    groups = read_groups(path)
    undecided = []

    def result_of(group):
        try:
            return check_group(group, inputs)
        except llvm.Rejected as rejected:
            undecided.append(f"{group['id']} ({rejected})")
            return CheckResult(0, [], [])

    with ThreadPoolExecutor(workers) as pool:
        jobs = pool.map(result_of, groups)
        results = list(tqdm(jobs, total=len(groups), unit=" groups"))
    wrong_winners = [result.wrong_winners for result in results]
    wrong_losers = [list(map(str, result.wrong_losers)) for result in results]
    decided = [result.inputs for result in results if result.inputs] or [0]
    print_faults("winners that disagree with their source", groups, wrong_winners)
    print_faults("losers that agree with it", groups, wrong_losers)
    if undecided:
        print(f"not decided: {len(undecided)} {', '.join(sorted(undecided))}")
    print(
        f"{len(groups) - len(undecided)} groups, {sum(decided)} inputs decided, "
        f"{min(decided)} to {max(decided)} a group"
    )
    return int(any(wrong_winners + wrong_losers))


def read_groups(path):
    """The rows of ir_groups.jsonl: list of dict. path: Path. Raises ValueError."""
    fields = {"id": str, "source": str, "winners": list, "losers": list, "meta": dict}
    groups = [group for _, group in data.read_jsonl(path, fields)]
    if not groups:
        raise ValueError(f"{path}: holds no group; give at least one row")
    return groups


def check_group(group, inputs):
    """Run a group again, on up to `inputs` inputs that did not build it. Raises Rejected.

    Where hardly any are left, those that built it have shown what losers do.

    group: dict, a row of ir_groups.jsonl. inputs: int. -> CheckResult."""
    meta = group["meta"]
    cflags = meta.get("cflags", "")
    used = llvm.offered_inputs(group["source"], input_rng(meta["seed"], group["id"]), cflags)
    decided, outcomes = llvm.compare_with_source(
        group["source"],
        group["winners"] + group["losers"],
        random.Random(f"check {group['id']}"),
        inputs,
        pool=4 * inputs,
        excluded=used,
        cflags=cflags,
    )
    result = CheckResult(decided, [], [])
    for level, outcome in zip(meta["levels"], outcomes):
        if outcome is None or any(outcome):
            result.wrong_winners.append(level)
    for number, outcome in enumerate(outcomes[len(group["winners"]) :], 1):
        if outcome is not None and not outcome.distinguishing and decided >= llvm.MIN_INPUTS:
            result.wrong_losers.append(number)
    return result


def print_faults(kind, groups, faults):
    """kind: str. groups: list of dict. faults: per group, the names of its faulty texts. -> None"""
    faulty = [f"{group['id']} {' '.join(names)}" for group, names in zip(groups, faults) if names]
    print(f"{kind}: {sum(map(len, faults))} {', '.join(faulty)}")


# ---------------------------------------------------------------------------------- --audit


def print_audit(groups, workers):
    """Prints what classifiers that do not see the source get right, in percent. -> None.

    groups: list of dict, rows of ir_groups.jsonl. workers: int, threads."""
    with ThreadPoolExecutor(workers) as pool:
        plain = list(pool.map(plain_features, groups))
    print("told without the source, % right and its spread over 5 splits (50: nothing tells)")
    for name, counts in audit.audit(groups, plain).items():
        figures = []
        for what, mean, spread in counts:
            figures.append(f"{what} {mean:.1f} +- {spread:.1f}")
        print(f"  {name}: {', '.join(figures)}")


def plain_features(group):
    """audit.plain_features of each text of a group, winners first. group: dict. -> list of dict."""
    meta = group["meta"]
    levels = meta["levels"] + [loser["level"] for loser in meta["losers"]]
    texts = group["winners"] + group["losers"]
    again = llvm.optimised(zip(levels, texts))
    return list(map(audit.plain_features, texts, again))


# ---------------------------------------------------------------------------------- --inspect


def inspect(path, id):
    """Prints a group: source, winners, and of each loser the lines that make it one. -> None.

    path: Path. id: str. Raises ValueError if the file has no such group."""
    rows = data.read_jsonl(path, {"id": str, "meta": dict})
    group = next((row for _, row in rows if row["id"] == id), None)
    if group is None:
        raise ValueError(f'{path}: no row has "id" {id!r}')
    meta = group["meta"]
    winners = list(zip(meta["levels"], group["winners"]))
    losers = list(zip(meta["losers"], group["losers"]))
    print(
        f"{id}: {len(winners)} winners, {len(losers)} losers, "
        f"{meta['inputs']} inputs, {meta['clang']}"
    )
    print(f"\n{group['source']}")
    for level, text in winners:
        print(f"\n=== winner {level}, {len(text.splitlines())} lines\n{text}", end="")
    for number, (loser, text) in enumerate(losers, 1):
        edit = f"{loser['operator']} in {loser['level']}, {loser['was']} -> {loser['now']}"
        on = f", on {loser['on']} inputs" if "on" in loser else ""
        print(f"\n=== loser {number}: {edit}: {loser['class']}{on}")
        winner = group["winners"][meta["levels"].index(loser["level"])]
        for line in difflib.ndiff(winner.splitlines(), text.splitlines()):
            if line[0] != "?":
                print(line)


if __name__ == "__main__":
    main()
