"""C or C++ source -> groups of equivalent and inequivalent LLVM IR: the off-policy data of GEPO.

    python ir.py --source FILE.c|DIR|FILE.jsonl --out G.jsonl
                 [--levels O3,Oz] [--loser verified|drop] [--equivalents 0]
    python ir.py --source Perf_Optimized.parquet Size_Optimized.parquet --out G.jsonl
                                              the tables of a local export of SLTrans
    python ir.py --check G.jsonl              run every group again, on 1,000 inputs that did not
                                              build it
    python ir.py --audit G.jsonl              how well losers are told without looking at the source
    python ir.py --inspect G.jsonl --id ID    print one group for a person to read

A group is made of two C programs: a source, and the same with one edit that is *shown* to matter,
by running both in the sandbox. What clang makes of one at several optimisation levels are the
winners (Y_w of Eq. 6 to 9), of the other the losers (Y_l). A coin decides which of the two is the
source of the group. So losers cannot be told from winners without reading it.
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
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple, dataclass, replace
from operator import itemgetter
from pathlib import Path

from tqdm import tqdm

import data
import llvm
from judge import sandbox
from judge.pool import restart_as_process_1
from llvm import audit

MUTANTS = 6  # of a source, in one run
ATTEMPTS = 3  # at other mutants
PAIRS = 3  # mutants of one run that are tried as sources of their own, at most
# A mutant is second choice if it
RARE = 1 / 16  # differs on a smaller share of the inputs
MUCH_LONGER = 1.5  # or is so many times as long, or short
MAX_STEPS = 1_000_000  # so that no text runs for minutes
RECIPE = 2  # raised when the same row and settings give another group
EDIT = dict.fromkeys(["operator", "level", "was", "now", "class"], str)  # of a loser, in "meta"


@dataclass(frozen=True)
class Settings:
    """What a group depends on besides its row and clang; the fingerprint takes it in this order."""

    levels: list[str]  # of optimisation, one winner each
    losers: int  # per group, at most; 0: as many as winners
    loser_mode: str  # verified or drop
    seed: int
    equivalents: int = 0  # mutants that are winners, at most
    cflags: str = ""  # more flags of clang
    steps: int = llvm.STEPS  # basic blocks in which a source must end


@dataclass
class BuildResult:
    group: dict | None  # a row of ir_groups.jsonl
    why_not: str  # why there is no group; what precedes the first colon is the kind
    tried: dict[str, int]  # mutants tried, by their behaviour


def main():
    """The command. Exits with a message if something is wrong, else with 0."""
    parser = argument_parser()
    args = parser.parse_args()
    if args.inspect and not args.id:
        parser.error("--inspect prints one group: give its --id")
    try:
        if args.inspect:
            sys.exit(inspect(args.inspect, args.id))
        if args.audit:
            groups = read_groups(args.audit, levels=list, losers=list)
            sys.exit(print_audit(groups, args.workers))
        if args.check:
            sys.exit(check(args.check, args.inputs, args.workers))
    except (ValueError, RuntimeError, llvm.Rejected) as error:
        sys.exit(f"ir.py: {error}")
    settings = checked_settings(parser, args)
    try:
        restart_as_process_1()
        make_groups(args, settings)
    except (OSError, sandbox.SandboxError) as error:
        sys.exit(f"ir.py: {error}")


def make_groups(args, settings):
    """Build the groups that are not finished yet; then write all, in the order of the sources.

    args: what the parser returned. settings: Settings. Exits.
    What is done is logged in OUT.partial, from which the next call goes on after a kill."""
    start = time.monotonic()
    out, workers = args.out, args.workers
    partial = Path(f"{out}.partial")
    try:
        print(f"{llvm.clang().version}; {sandbox.probe()}", flush=True)
        if not llvm.has_sanitizers():
            print("no AddressSanitizer, no MemorySanitizer: apt-get install libclang-rt-19-dev")
        files = llvm.read_sources(*args.source, include=args.include)
        rows = split_rows(files, settings, workers)
        keys = [fingerprint(row, for_language(row, settings)) for row in rows]
        finished = read_finished(out, partial, {row["id"]: key for key, row in zip(keys, rows)})
    except (ValueError, RuntimeError) as error:
        sys.exit(f"ir.py: {error}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ThreadPoolExecutor(workers) as pool, open(partial, "a") as log:
            jobs = {}
            for key, row in zip(keys, rows):
                if key not in finished:
                    jobs[pool.submit(build_group, row, for_language(row, settings))] = key
            try:
                for job in tqdm(as_completed(jobs), total=len(jobs), unit=" sources"):
                    key = jobs[job]
                    result = job.result()
                    finished[key] = result
                    log.write(json.dumps([key, *astuple(result)]) + "\n")
                    log.flush()
            finally:
                pool.shutdown(cancel_futures=True)
    except (sandbox.SandboxError, OSError, KeyboardInterrupt) as error:  # also of closing the log
        reason = str(error) or "by a signal"
        sys.exit(
            f"ir.py: stopped ({reason}); what is done is in {partial}: run this again to go on"
        )
    results = [finished[key] for key in keys]
    groups = [result.group for result in results if result.group]
    data.write_atomically(out, "".join(json.dumps(group) + "\n" for group in groups))
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
        cflags = [for_language(file, settings).cflags for file in files]
        parts = list(pool.map(llvm.split, files, cflags))
    rows = list(itertools.chain.from_iterable(parts))
    if len(rows) != len(files):
        print(f"{len(files)} files: {len(rows)} functions and programs", flush=True)
    return rows


def for_language(row, settings):
    """Settings with the flags of clang that the language of a row takes. As build_group."""
    if row.get("language") != "cpp":
        return settings
    return replace(settings, cflags=f"{llvm.CPP} {settings.cflags}".strip())


# ---------------------------------------------------------------------------------- one group


@dataclass
class Mutant:
    """A source with one edit, and what running it showed."""

    edit: llvm.Edit
    source: str
    ir: str  # as the optimiser would be given it
    behaviour: str = ""  # differs, traps, unstable, equivalent
    share: float = 0.0  # of the inputs, on which it differs or traps


@dataclass
class Counterparts:
    """What clang makes of two programs in the same way."""

    level: str
    harmless: list[llvm.Edit]  # one that both programs have and that changes nothing, or none
    irs: list[str]  # of the source and of its mutant


def build_group(row, settings):
    """A group from a row {"id", "source"}, perhaps with "winners": {level: IR}.

    row: dict. settings: Settings. -> BuildResult.
    The same arguments and the same clang give the same group."""
    tried = Counter()
    try:
        if settings.loser_mode == "verified":
            llvm.check_driven(row["source"], settings.cflags)
        winners = distinct_winners(row, settings)  # Y_w of Eq. 6 to 9
        if settings.loser_mode == "drop":
            group = group_of_dropped_lines(row, settings, winners, tried)
        else:
            group = verified_group(row, settings, winners, tried)
    except llvm.Rejected as rejected:
        return BuildResult(None, str(rejected), dict(tried))
    group["meta"]["mutants"] = dict(tried)
    return BuildResult(group, "", dict(tried))


def distinct_winners(row, settings):
    """At least two IRs of a source, no two of them the same code: {level: IR}. Raises Rejected.

    row: as of build_group. settings: Settings. Where its levels, or the winners given in the
    row, are too few, other levels top them up to two. What the row gives is for --loser drop: a
    mutant has nothing like it."""

    def compiled(levels):
        return optimise(llvm.unoptimised(row["source"], levels, settings.cflags))

    given = row.get("winners") if settings.loser_mode == "drop" else None
    winners = one_per_code(optimise(given) if given else compiled(settings.levels))
    if len(winners) < 2:
        others = [level for level in llvm.LEVELS if level not in winners]
        topped_up = one_per_code(winners | compiled(others))
        winners = dict(list(topped_up.items())[:2])
    if len(winners) < 2:
        raise llvm.Rejected("all levels give the same code")
    return winners


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


def verified_group(row, settings, winners, tried):
    """The IR of a source and of a mutant: one of them wins (Y_w), the other one loses (Y_l).

    row, settings: as of build_group. winners: {level: IR}, of the source. tried: Counter of
    behaviours, to which the mutants are added. -> dict, a row of ir_groups.jsonl. Raises Rejected.
    Two groups are built, for either program as the source, and a coin keeps one. So a text that
    wins would have lost as likely, and nothing but the source tells which."""
    coin = seeded(f"coin {settings.seed}", row["id"]).randrange(2)
    edits = llvm.edits(row["source"], seeded(settings.seed, row["id"]))
    why_not = "no mutant behaves differently"
    second_choice = None
    for attempt in range(ATTEMPTS):
        some = edits[attempt * MUTANTS : (attempt + 1) * MUTANTS]
        if attempt and not some:
            break
        mutants = screen(row, settings, winners, some)
        tried.update(mutant.behaviour for mutant in mutants)
        harmless = [mutant.edit for mutant in mutants if mutant.behaviour == "equivalent"]
        for mutant in most_different(mutants):
            try:
                pairs = counterparts(row, settings, mutant, harmless)
                groups = [verified(row, settings, mutant, pairs, place) for place in (0, 1)]
            except llvm.Rejected as rejected:
                why_not = f"no mutant is as good a source: {rejected}"
                continue
            if is_plain(pairs, groups):
                return groups[coin]
            second_choice = second_choice or groups[coin]
    if second_choice is None:
        raise llvm.Rejected(why_not)
    return second_choice


def screen(row, settings, winners, edits):
    """Runs a source's winners and mutants. -> list of Mutant, those that compile.

    row, settings, winners: as of verified_group. edits: list of llvm.Edit. Raises Rejected if a
    winner does not behave like the source."""
    mutants = []
    for edit in edits:
        edited = llvm.applied(row["source"], [edit])
        try:
            (text,) = llvm.unoptimised(edited, ["O0"], settings.cflags).values()
        except llvm.Rejected:  # it does not compile
            continue
        mutants.append(Mutant(edit, edited, llvm.normalise(text)))
    inputs, outcomes = llvm.compare_with_source(
        row["source"],
        [*winners.values(), *(mutant.ir for mutant in mutants)],
        seeded(f"screen {settings.seed}", row["id"]),
        cflags=settings.cflags,
        steps=settings.steps,
    )
    require_agreement(winners, outcomes, inputs)
    for mutant, outcome in zip(mutants, outcomes[len(winners) :]):
        mutant.behaviour = behaviour(outcome)
        mutant.share = outcome.distinguishing / inputs if outcome else 0.0
    return mutants


def require_agreement(levels, outcomes, inputs):
    """Raises Rejected if an llvm.Outcome of a winner shows a difference from its source. -> None.

    levels: of the winners. outcomes: list, first those of the winners. inputs: int, that decided"""
    for level, outcome in zip(levels, outcomes):
        if outcome is None:
            raise llvm.Rejected(f"winner does not assemble: {level}")
        if any(outcome):
            counts = f"{list(outcome)} of {inputs} inputs"
            raise llvm.Rejected(f"winners disagree: {level} with the source, {counts}")


def behaviour(outcome):
    """The name (str) of what an llvm.Outcome shows; None: the text does not assemble."""
    if outcome is None:
        return "does-not-assemble"
    if outcome.differed:
        return "differs"
    if outcome.crashed or outcome.endless:
        return "traps"
    return "unstable" if outcome.unstable else "equivalent"


def most_different(mutants):
    """The mutants that may become a group, the plainest first. mutants: list of Mutant. -> list."""
    different = [mutant for mutant in mutants if mutant.behaviour in ("differs", "traps")]
    different.sort(key=lambda mutant: (mutant.behaviour == "traps", mutant.share < RARE))
    return different[:PAIRS]


def counterparts(row, settings, mutant, harmless):
    """The IR of a source and of a mutant, no two the same code: list of Counterparts.

    row, settings: as of build_group. mutant: Mutant. harmless: list of llvm.Edit, of which as many
    are tried as --equivalents wants. Levels are topped up as in distinct_winners. Raises
    Rejected."""

    pairs = []
    codes = set()

    def add(level, edits):
        irs = []
        for more in ([], [mutant.edit]):
            edited = llvm.applied(row["source"], edits + more)
            irs += optimise(llvm.unoptimised(edited, [level], settings.cflags)).values()
        if len(set(irs) - codes) == 2:
            pairs.append(Counterparts(level, edits, irs))
            codes.update(irs)

    for level in dict.fromkeys([*settings.levels, *llvm.LEVELS]):
        if level in settings.levels or len(pairs) < 2:
            add(level, [])
    if len(pairs) < 2:
        raise llvm.Rejected("all levels give the same code")
    apart = [edit for edit in harmless if not edit.overlaps(mutant.edit)]
    levels = itertools.cycle([pair.level for pair in pairs])
    for edit, level in zip(apart[: settings.equivalents], levels):
        add(level, [edit])
    return pairs


def verified(row, settings, mutant, pairs, place):
    """The group of one of the two programs. Raises Rejected.

    row, settings: as of build_group. mutant: Mutant. pairs: list of Counterparts. place: 0 if the
    source's IR is to win, 1 if the mutant's is. -> dict, a row of ir_groups.jsonl."""
    group = group_row(row, settings, mutant, pairs, place)
    meta = group["meta"]
    meta["inputs"], outcomes = llvm.compare_with_source(
        group["source"],
        group["winners"] + group["losers"],
        input_rng(settings.seed, row["id"]),
        cflags=settings.cflags,
        steps=settings.steps,
    )
    require_agreement(meta["levels"], outcomes, meta["inputs"])
    for loser, outcome in zip(meta["losers"], outcomes[len(group["winners"]) :]):
        loser["class"] = behaviour(outcome)
        loser["on"] = outcome.distinguishing
        if not outcome.distinguishing:
            raise llvm.Rejected("its IR does not differ from the source")
    return group


def is_plain(pairs, groups):
    """Whether two programs differ on many inputs and are about as long: bool.

    pairs: list of Counterparts. groups: the two dict that verified makes of them."""
    for pair in pairs:
        shorter, longer = sorted(map(llvm.length, pair.irs))
        if longer > MUCH_LONGER * shorter:
            return False
    for meta in (group["meta"] for group in groups):
        if any(loser["on"] < RARE * meta["inputs"] for loser in meta["losers"]):
            return False
    return True


def group_row(row, settings, mutant, pairs, place):
    """A group that is not verified yet. -> dict, a row of ir_groups.jsonl. As of verified."""
    programs = [row["source"], mutant.source]
    own, other = programs[place], programs[1 - place]
    losers = pairs
    if settings.losers:
        rng = seeded(f"losers {settings.seed}", row["id"])
        losers = rng.sample(pairs, min(settings.losers, len(pairs)))
    group = empty_group(row, settings, [pair.level for pair in pairs])
    group["source"] = own
    group["winners"] = [pair.irs[place] for pair in pairs]
    group["losers"] = [pair.irs[1 - place] for pair in losers]
    meta = group["meta"]
    meta["edited"] = bool(place)
    for pair in losers:
        meta["losers"].append(description(mutant.edit.operator, pair.level, own, other))
    for pair in pairs:
        for edit in pair.harmless:
            with_edit = llvm.applied(row["source"], [edit, *[mutant.edit] * place])
            meta["equivalents"].append(description(edit.operator, pair.level, own, with_edit))
    return group


def empty_group(row, settings, levels):
    """A row of ir_groups.jsonl without IR: dict. levels: list of str, of the winners."""
    meta = {
        "levels": levels,
        "losers": [],
        "equivalents": [],
        "edited": False,  # whether the source is the one with the edit
        "inputs": 0,  # that decided
        "clang": llvm.clang().version,
        "cflags": settings.cflags,
        "seed": settings.seed,
        "fingerprint": fingerprint(row, settings),
    }
    if settings.steps != llvm.STEPS:
        meta["steps"] = settings.steps
    return {
        "id": row["id"],
        "language": row.get("language", "c"),
        "source": row["source"],
        "winners": [],
        "losers": [],
        "meta": meta,
    }


def description(operator, level, before, after):
    """What a group's meta says about an edit: dict. before, after: str, the text around it.

    Its line is the first one, from 1, that differs. `was` or `now` is "" where a line is added or
    dropped."""
    old, new = before.split("\n"), after.split("\n")
    lines = itertools.zip_longest(old, new, fillvalue="")
    line, (was, now) = next(pair for pair in enumerate(lines, 1) if pair[1][0] != pair[1][1])
    if len(old) > len(new):
        now = ""
    if len(new) > len(old):
        was = ""
    return {
        "operator": operator,
        "level": level,
        "line": line,
        "was": was.strip(),
        "now": now.strip(),
    }


def group_of_dropped_lines(row, settings, winners, tried):
    """A group whose losers lack a line of a winner, as in the paper's Figure 2. They are not run.

    As of verified_group. -> dict, a row of ir_groups.jsonl."""
    count = settings.losers or len(winners)
    shorter = []  # (level, IR)
    for level, text in winners.items():
        shorter += [(level, loser) for loser in llvm.without_a_line(text)]
    seeded(settings.seed, row["id"]).shuffle(shorter)
    shorter = shorter[: 4 * count]
    assemble = llvm.which_assemble([text for _, text in shorter])
    kinds = ["unverified" if valid else "does-not-assemble" for valid in assemble]
    tried.update(kinds)
    group = empty_group(row, settings, list(winners))
    group["winners"] = list(winners.values())
    # In the figure they do not assemble: those come first.
    for kind, (level, text) in sorted(zip(kinds, shorter), key=itemgetter(0))[:count]:
        edit = description("without_a_line", level, winners[level], text)
        group["losers"].append(text)
        group["meta"]["losers"].append(edit | {"class": kind})
    return group


def fingerprint(row, settings):
    """A hash (str) of all that a group depends on: while it stays the same, the group is kept.

    row: as of build_group. settings: Settings."""
    *others, steps = astuple(settings)
    values = [RECIPE, row["id"], row["source"], others, llvm.clang().version]
    if row.get("winners"):
        values.append(row["winners"])
    if not llvm.has_sanitizers():
        values.append("no sanitizers")
    if steps != llvm.STEPS:
        values.append(f"{steps} steps")
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
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flag = parser.add_argument
    flag(
        "--source",
        type=Path,
        nargs="+",
        help="FILE.c, FILE.cpp, a folder, FILE.jsonl of {id, source}, or the tables of SLTrans",
    )
    flag("--out", type=Path, help="groups of the same source, settings and clang are kept")
    flag("--levels", default="O3,Oz", help=f"of {','.join(sorted(llvm.LEVELS))}")
    flag("--losers", type=int, default=0, help="per group, at most (default: as winners)")
    flag(
        "--loser",
        choices=["verified", "drop"],
        default="verified",
        help="how losers are made: verified by running them, or a dropped line that is never run",
    )
    flag("--equivalents", type=int, default=0, help="winners by harmless edits, at most")
    flag("--include", type=Path, nargs="+", default=[], help="folders of headers")
    flag("--cflags", default="", help="more flags of clang: --cflags='-DN=3 -std=gnu89'")
    flag(
        "--steps",
        type=int,
        default=llvm.STEPS,
        help="basic blocks in which a source must end, or an input is not used (%(default)s)",
    )
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
    if args.out.name == "rejected.jsonl":
        parser.error("--out must not be rejected.jsonl, which says why sources gave no group")
    if args.losers < 0 or args.workers < 1:
        parser.error("--losers must be at least 0, --workers at least 1")
    if not 0 < args.steps <= MAX_STEPS:
        parser.error(f"--steps must be 1 to {MAX_STEPS}")
    return Settings(
        levels, args.losers, args.loser, args.seed, args.equivalents, args.cflags, args.steps
    )


def read_finished(out, partial, keys):
    """{fingerprint: BuildResult}, from an earlier run's groups and the log of a run cut short.

    out, partial: Path. keys: {id: fingerprint} of the sources.
    Raises ValueError if `out` holds groups that would be lost."""
    finished = {}
    others = 0
    for line, row in data.read_jsonl(out, {"id": str, "meta": dict}) if out.exists() else []:
        if row["id"] not in keys:
            raise ValueError(
                f'{out}:{line}: "id" {row["id"]!r} is not in --source: it would be lost; '
                "name another"
            )
        meta = row["meta"]
        finished[meta.get("fingerprint")] = BuildResult(row, "", meta.get("mutants", {}))
        others += meta.get("fingerprint") != keys[row["id"]]
    if others:
        print(f"{out}: {others} groups of another source, settings or clang are made again")
    if partial.exists():
        data.end_last_row(partial)  # the source of one that was cut short is done again
        for line in partial.read_text().splitlines():
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
    data.write_atomically(partial, "".join(others))
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
    data.write_atomically(path, "".join(json.dumps(row) + "\n" for row in rejected))
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
        "source",
        "mutants tried",
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
        counts["source"]["edited" if meta["edited"] else "as given"] += 1
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
    rare_losers: list[int]  # that do on fresh inputs, and not on those that built the group


def check(path, inputs, workers):
    """Prints what check_group finds in a file of groups. Returns 1 if anything is wrong, else 0.

    path: Path. inputs: int, per group at most. workers: int, threads.
    A group that cannot be decided is named and left out of the counts."""
    groups = read_groups(path, levels=list, seed=int)
    undecided = []

    def result_of(group):
        try:
            return check_group(group, inputs)
        except llvm.Rejected as rejected:
            undecided.append(f"{group['id']} ({rejected})")
            return CheckResult(0, [], [], [])

    with ThreadPoolExecutor(workers) as pool:
        jobs = pool.map(result_of, groups)
        results = list(tqdm(jobs, total=len(groups), unit=" groups"))
    wrong_winners = [result.wrong_winners for result in results]
    wrong_losers = [list(map(str, result.wrong_losers)) for result in results]
    decided = [result.inputs for result in results if result.inputs] or [0]
    print_faults("winners that disagree with their source", groups, wrong_winners)
    print_faults("losers that agree with it", groups, wrong_losers)
    rare_losers = [list(map(str, result.rare_losers)) for result in results]
    if any(rare_losers):
        print_faults("losers that no fresh input tells, only those used", groups, rare_losers)
    if undecided:
        print(f"not decided: {len(undecided)} {', '.join(sorted(undecided))}")
    print(
        f"{len(groups) - len(undecided)} groups, {sum(decided)} inputs decided, "
        f"{min(decided)} to {max(decided)} a group"
    )
    return int(any(wrong_winners + wrong_losers))


def read_groups(path, **needed):
    """The rows of ir_groups.jsonl: list of dict. path: Path. Raises ValueError.

    needed: field of "meta" -> the type that it must have. Training needs none."""
    fields = {"id": str, "source": str, "winners": list, "losers": list, "meta": dict}
    groups = []
    for line, group in data.read_jsonl(path, fields):
        data.check_fields(f'{path}:{line}: "meta"', group["meta"], needed)
        if "losers" in needed:
            for loser in group["meta"]["losers"]:
                data.check_fields(f'{path}:{line}: "losers" of "meta"', loser, EDIT)
        steps = group["meta"].get("steps", llvm.STEPS)
        if type(steps) is not int or not 0 < steps <= MAX_STEPS:
            raise ValueError(f'{path}:{line}: "steps" in "meta" must be 1 to {MAX_STEPS}')
        groups.append(group)
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
        steps=meta.get("steps", llvm.STEPS),
        first=True,
    )
    result = CheckResult(decided, [], [], [])
    for level, outcome in zip(meta["levels"], outcomes):
        if outcome is None or any(outcome):
            result.wrong_winners.append(level)
    for number, outcome in enumerate(outcomes[len(group["winners"]) :], 1):
        if outcome is not None and not outcome.distinguishing and decided >= llvm.MIN_INPUTS:
            differs = differed_when_built(group, group["losers"][number - 1])
            (result.rare_losers if differs else result.wrong_losers).append(number)
    return result


def differed_when_built(group, loser):
    """Whether a loser differs on the inputs that built its group, which are not offered again: an
    edit that shows on few small numbers shows on none that are left.

    group: dict, a row of ir_groups.jsonl. loser: str, IR. -> bool. Raises Rejected."""
    meta = group["meta"]
    _, (outcome,) = llvm.compare_with_source(
        group["source"],
        [loser],
        input_rng(meta["seed"], group["id"]),
        cflags=meta.get("cflags", ""),
        steps=meta.get("steps", llvm.STEPS),
    )
    return bool(outcome.distinguishing)


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
    chance = 50 / len(groups) ** 0.5  # standard deviation of as many coins
    print(
        "told without the source, % right and its spread over 5 splits "
        f"(50: nothing tells; {len(groups)} coins: 50 +- {chance:.1f})"
    )
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
    rows = read_groups(path, levels=list, losers=list, inputs=int, clang=str)
    group = next((row for row in rows if row["id"] == id), None)
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
