"""ir.py: winners are equivalent, losers are not, and only the row, the seed and clang decide."""

import argparse
import errno
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

import data
import ir
import llvm
from c_sources import (
    ABS,
    ALIKE,
    DIGITS,
    LOOP,
    NUMBERS,
    POINTERS,
    SWITCH,
    need_clang_and_sandbox,
    outcomes,
)
from conftest import ROOT
from judge import sandbox
from judging import KINDS, small_disk
from llvm.compile import emit_ir
from support import gone, processes_of_slots

need_clang_and_sandbox()

SETTINGS = ir.Settings(["O3", "Oz"], losers=0, loser_mode="verified", seed=0)
DROP = ir.Settings(["O3", "Oz"], losers=2, loser_mode="drop", seed=0)


# Its edits of the last comparison change nothing.
BITS = """int f(int n) {
    int s = 0;
    for (int i = 0; i < 16; i++) if (n >> i & 1) s += i % 16 + (n < -2147483647 ? 3 : 0);
    return s;
}
"""


def build(id, source, settings=SETTINGS):
    return ir.build_group({"id": id, "source": source}, settings)


def command(*arguments):
    argv = [sys.executable, str(ROOT / "ir.py"), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_prompt_and_response():
    assert data.ir_prompt("int f;\n") == "Compile this C program to LLVM IR.\n```c\nint f;\n```"
    assert data.ir_prompt("int f;\n", "cpp") == (
        "Compile this C++ program to LLVM IR.\n```cpp\nint f;\n```"
    )
    assert data.ir_response("define\n") == "```llvm\ndefine\n```"


# ---------------------------------------------------------------------------------- one group


@pytest.fixture(scope="module")
def groups():
    sources = {**NUMBERS, **POINTERS}
    results = {id: build(id, sources[id]) for id in ("loop", "switch", "buffers", "float", "words")}
    assert {id: result.why_not for id, result in results.items()} == dict.fromkeys(results, "")
    return {id: result.group for id, result in results.items()}


def test_winners_agree_and_losers_differ_on_fresh_inputs(groups):
    for id, group in groups.items():
        assert len(group["winners"]) == len(group["losers"]) == 2
        inputs, compared = outcomes(group["source"], group["winners"] + group["losers"])
        assert inputs >= 64
        assert compared[:2] == [ALIKE] * 2
        for loser, outcome in zip(group["meta"]["losers"], compared[2:]):
            assert any(outcome[:3]), (id, loser)
            assert loser["class"] in ("differs", "traps") and loser["was"] != loser["now"]


def test_a_group_has_what_the_trainer_reads(groups):
    group = groups["loop"]
    assert set(group) == {"id", "language", "source", "winners", "losers", "meta"}
    assert group["language"] == "c"
    levels = group["meta"]["levels"]
    assert levels == ["O3", "Oz"] and "clang" in group["meta"]["clang"]
    assert len(set(group["winners"] + group["losers"])) == 4
    assert [loser["level"] for loser in group["meta"]["losers"]] == levels
    assert group["meta"]["inputs"] == 96


def with_coin(monkeypatch, side, id, source, settings=SETTINGS):
    """The group (dict) when the coin shows `side`: 0 for the source, 1 for its mutant."""
    right = ir.seeded

    def loaded(seed, id):
        rng = right(seed, id)
        if str(seed).startswith("coin"):
            rng.randrange = lambda _: side
        return rng

    monkeypatch.setattr(ir, "seeded", loaded)
    group = build(id, source, settings).group
    monkeypatch.setattr(ir, "seeded", right)
    return group


@pytest.mark.parametrize("equivalents", [0, 2])
def test_a_coin_decides_which_program_wins(monkeypatch, equivalents):
    """And all else is the same, so that no look at the texts tells what the coin showed."""
    settings = ir.Settings(["O1", "Oz"], 0, "verified", 0, equivalents)
    given = with_coin(monkeypatch, 0, "x", BITS, settings)
    edited = with_coin(monkeypatch, 1, "x", BITS, settings)
    assert given["source"] == BITS != edited["source"]
    assert given["winners"] == edited["losers"] and given["losers"] == edited["winners"]
    assert [given["meta"]["edited"], edited["meta"]["edited"]] == [False, True]
    assert given["meta"]["levels"] == edited["meta"]["levels"]
    for one, other in zip(given["meta"]["losers"], edited["meta"]["losers"]):
        assert one["was"] == other["now"] and one["now"] == other["was"]
        assert BITS.split("\n")[one["line"] - 1].strip() == one["was"]
    for group in (given, edited):
        texts = llvm.winners(group["source"], ["O1", "Oz"])
        assert group["winners"][:2] == list(texts.values())
        meta = group["meta"]
        assert len(meta["equivalents"]) == len(group["winners"]) - 2
        inputs, compared = outcomes(group["source"], group["winners"] + group["losers"])
        half = len(group["winners"])
        assert compared[:half] == [ALIKE] * half
        assert all(any(outcome[:3]) for outcome in compared[half:]) and len(compared) == 2 * half
    assert (len(given["winners"]) > 2) == (equivalents > 0)


def test_coins_are_fair():
    sides = [ir.seeded("coin 0", f"id-{number}").randrange(2) for number in range(1000)]
    assert 430 < sum(sides) < 570
    edited = sum(row["meta"]["edited"] for row in SHIPPED.values())
    assert abs(edited / len(SHIPPED) - 0.5) < 0.15


def test_fewer_losers_than_winners():
    group = build("x", LOOP, ir.Settings(["O3", "Oz"], 1, "verified", 0)).group
    assert len(group["winners"]) == 2 and len(group["losers"]) == 1
    assert len(group["meta"]["losers"]) == 1


def test_an_equivalent_mutant_is_no_loser(monkeypatch):
    source = "int f(int a, int b) { return a > b ? a : b; }"
    harmless = llvm.Edit("comparison", source.index(">"), source.index(">") + 1, ">=")
    monkeypatch.setattr(llvm, "edits", lambda *_: [harmless])
    result = build("x", source)
    assert result.group is None and result.why_not == "no mutant behaves differently"
    assert result.tried == {"equivalent": 1}


def test_a_mutant_must_be_as_good_a_source(monkeypatch):
    """One that is hardly ever defined could not win, and so must not lose."""
    source = "int f(int a, int b) { return a / 2 % (b | 1); }"

    def edit(old, new):
        return llvm.Edit("operator", source.index(old), source.index(old) + len(old), new)

    endless, undefined = edit("a / 2", "({while (1) ; 1;})"), edit("a / 2", "*(int *)8")
    good = edit("a / 2", "a / 3")
    monkeypatch.setattr(llvm, "edits", lambda *_: [endless, undefined])
    result = build("x", source)
    assert result.why_not.startswith("no mutant is as good a source: hardly ever defined"), result
    assert sum(result.tried.values()) == 2
    monkeypatch.setattr(llvm, "edits", lambda *_: [endless, undefined, good])
    group = build("x", source).group
    assert {loser["operator"] for loser in group["meta"]["losers"]} == {"operator"}
    assert "a / 3" in group["source"] + group["meta"]["losers"][0]["now"]


def test_winners_that_disagree_are_rejected(monkeypatch):
    right = llvm.optimised

    def wrong_at_oz(programs):
        programs = list(programs)
        texts = right(programs)
        for place, (level, _) in enumerate(programs):
            if level == "Oz":
                texts[place] = texts[place].replace("mul nsw i32 %0, 3", "mul nsw i32 %0, 4")
        return texts

    monkeypatch.setattr(llvm, "optimised", wrong_at_oz)
    result = build("x", "int f(int a, int b) { return (a * 3 + b) % 7 ? b : a * 3; }")
    assert result.why_not.startswith("winners disagree: Oz"), result


def test_a_mutant_that_differs_seldom_is_second_choice(monkeypatch):
    source = "int f(int a, int b) { return a == 12345 ? b : a % 7 + b % 5; }"

    def edit(old, new):
        return llvm.Edit("constant", source.index(old), source.index(old) + len(old), new)

    seldom, often = edit("12345", "12346"), edit("7", "8")
    monkeypatch.setattr(llvm, "edits", lambda *_: [seldom, often])
    (loser, _) = build("x", source).group["meta"]["losers"]
    assert "% 8" in loser["was"] + loser["now"] and loser["on"] > 40
    monkeypatch.setattr(llvm, "edits", lambda *_: [seldom])
    (loser, _) = build("x", source).group["meta"]["losers"]
    assert "12346" in loser["was"] + loser["now"] and 0 < loser["on"] < 12


def test_too_few_winners_are_topped_up():
    group = build("x", "int f(int a, int b) { return a * 7 - b; }").group
    assert group["meta"]["levels"] == ["O3", "O0"]


def test_random_numbers_are_the_same_each_time():
    source = "#include <stdlib.h>\nint f(int n) { return rand() % 50 > 30 ? n % 7 : rand() % 9; }"
    first, again = build("x", source), build("x", source)
    assert first.group and first == again
    result = ir.check_group(first.group, 100)
    assert result.inputs == 100 and not result.wrong_winners + result.wrong_losers


def test_more_steps_drive_sources_that_run_for_long(tmp_path):
    source = "int f(int a) { int s = a % 7; for (int i = 0; i < 9000; i++) s = s * 31 % 1009; "
    source += "return s + a % 5; }"
    assert build("x", source).why_not.startswith("hardly ever defined and ending: on 0 of")
    settings = ir.Settings(["O3", "Oz"], 0, "verified", 0, steps=60_000)
    group = build("x", source, settings).group
    assert group["meta"]["steps"] == 60_000
    result = ir.check_group(group, 100)  # which takes the steps from meta
    assert result.inputs == 100 and not result.wrong_winners + result.wrong_losers
    # and they are in the fingerprint unless they are what they always were
    row = {"id": "x", "source": source}
    assert group["meta"]["fingerprint"] == ir.fingerprint(row, settings)
    assert ir.fingerprint(row, settings) != ir.fingerprint(row, SETTINGS)
    for id, shipped in SHIPPED.items():
        meta = shipped["meta"]
        if meta["clang"] == llvm.clang().version:
            assert meta["fingerprint"] == ir.fingerprint(CORPUS[id], SETTINGS)
    (tmp_path / "f.c").write_text(source)
    done = command("--source", tmp_path / "f.c", "--out", tmp_path / "g", "--steps", 2_000_000)
    assert "--steps must be 1 to 1000000" in done.stderr
    for steps in ("9", 0, 10**9, True):
        group["meta"]["steps"] = steps
        (tmp_path / "g.jsonl").write_text(json.dumps(group) + "\n")
        with pytest.raises(ValueError, match='g.jsonl:1: "steps" in "meta" must be 1 to 1000000'):
            ir.read_groups(tmp_path / "g.jsonl")


def test_drop_mode():
    source = "unsigned f(int x, unsigned char y) {\n    return (x < 0 ? -x : x) + y;\n}\n"
    result = build("abs", source, DROP)
    group = result.group
    assert not result.why_not and len(group["losers"]) == 2
    for text, loser in zip(group["losers"], group["meta"]["losers"]):
        winner = group["winners"][group["meta"]["levels"].index(loser["level"])].split("\n")
        assert winner[loser["line"] - 1].strip() == loser["was"]
        assert winner[: loser["line"] - 1] + winner[loser["line"] :] == text.split("\n")
        assert loser["class"] in ("does-not-assemble", "unverified")


def test_dropped_lines_are_losers_like_those_of_figure_2():
    """A sum that O3 turns into the closed form, in the figure's dialect.

    An assembler rejects what lacks a line of it."""
    source = """int sum(int n) {
    int s = 0;
    for (int i = 0; i < n; i++) s += i;
    return s;
}
"""
    group = build("sum", source, DROP).group
    if llvm.clang().major >= 19:
        assert "zext nneg" in group["winners"][0] and "trunc nuw" in group["winners"][0]
    assert [loser["class"] for loser in group["meta"]["losers"]] == ["does-not-assemble"] * 2
    assert llvm.which_assemble(group["losers"]) == [False, False]


STDIO = "#include <stdio.h>\n"
STDLIB = "#include <stdlib.h>\n"
BAD = {
    # what cannot be built or compared
    "return type long double": "long double f(int x) { return x; }",
    "parameter type bit-field": "struct P { int x : 3; }; int f(struct P *p) { return p->x; }",
    "parameter type struct Q *": "struct Q; int f(struct Q *p) { return !p; }",
    "parameter type struct _IO_FILE *": STDIO + "int f(FILE *p) { return !p; }",
    "parameter type long double": "int f(long double x) { return x > 0; }",
    "parameter type __int128": "int f(__int128 x) { return x > 0; }",
    "parameter type function int(long double) *: no callback with long double": "int f(int a, "
    "int (*g)(long double)) { return g(a); }",
    "parameter type function void(int, void) *": "void f(void (*g)(int, ...)) { g(1, 2); }",
    "parameter type int[-1]": "struct P { int n, x[]; }; int f(struct P *p) { return p->x[0]; }",
    "parameter type void": "int f(int n, ...) { return n; }",
    "takes too much": "struct P { int x[600], y[600]; }; int f(struct P p) { return p.x[0]; }",
    "takes no input": "int f(void) { return 3; }",
    "reads no input": STDIO + 'int main(void) { puts("hello"); return 0; }',
    "nothing to compare": "void f(int a) { }",
    # what depends on more than its input
    "calls fopen": STDIO + 'int f(int a) { return a + !fopen("/etc/passwd", "r"); }',
    "calls system": STDLIB + 'int f(int a) { return a + system("true"); }',
    "calls getrandom": "#include <sys/random.h>\nint f(int a) { getrandom(&a, 1, 0); return a; }",
    "calls time: the time is another one": STDLIB
    + "#include <time.h>\nint f(int a) { srand(time(0)); return rand() % 7 + a; }",
    "calls clock: the time": "#include <time.h>\nint f(int a) { return clock() % 7 + a; }",
    "calls signal": "#include <signal.h>\nint f(int a) { signal(a, SIG_IGN); return a; }",
    "calls _setjmp": "#include <setjmp.h>\njmp_buf b; int f(int a) { return setjmp(b) + a; }",
    "calls read": "#include <unistd.h>\nint f(int a) { char c; return read(0, &c, a); }",
    "calls pthread_self": "#include <pthread.h>\nint f(int a) { return pthread_self() != a; }",
    "global variable n": "extern int n; int f(int a) { return n + a; }",
    "inline asm": 'int f(int a) { __asm__("nop"); return a; }',
    "uses __TIME__: it is": "int f(int a) { return a + __TIME__[0]; }",
    "prints an address": STDIO + 'int f(int a) { printf("%8p", &a); return a; }',
    "fast-math": "#pragma clang fp reassociate(on)\ndouble f(double a) { return a + a * 3; }",
    # what is undefined, endless, or always the same
    "does the same on all 96 inputs": "int f(int a) { return 3; }",
    "hardly ever defined and ending": "int f(int a) { volatile int x = 1; while (x) ; return a; }",
    "hardly ever": "int f(int a) { int *p = 0; return *p + a; }",
    "hardly": "int f(int a) { volatile char big[400000000L + a]; big[5] = a; return big[5]; }",
    "hard": STDIO + 'int f(int a) { printf("%ld", (long)&a); return a > 3 ? a / 3 : a; }',
    "har": "int f(int a) { return f(a ^ 1) + 1; }",
    "no mutant behaves": "int f(int a) { return a; } // " + "9" * 5000,
    # what is not a C source of one function
    "no clear entry: f, g": "int f(int a) { return a; } int g(int a) { return -a; }",
    "no function": "int x;",
    "does not compile: source.c:1:26: error": "int f(int a) { return a +; }",
    "does not compile: source.c:1:1: error": "def f(a):\n    return a + 1\n",
    "does not compile: source.c:2:1: error": "\ntemplate <class T> T f(T a) { return a; }",
    "does not": "int f(int a) { return a; }".encode("utf-16").decode("latin-1"),
    "does": '#include "/etc/passwd"\nint f(int a) { return a; }',
    "not UTF-8": "int f(int a) { return a; } // \udcff",
    "over 64 KB": "// " + "x" * 10_000_000,
    "does not compile": "#define A B B\n#define B C C\n"
    + "int f(int a) { return "
    + "(" * 5000
    + "a;}",
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_sources_are_named(reason):
    result = build("x", BAD[reason])
    assert result.group is None and result.why_not.startswith(reason)


# ---------------------------------------------------------------------------------- the corpus

CORPUS = {row["id"]: row for row in llvm.read_sources(ROOT / "toy" / "corpus")}
SHIPPED_ROWS = (ROOT / "toy" / "corpus_groups.jsonl").read_text().splitlines()
SHIPPED = {row["id"]: row for row in map(json.loads, SHIPPED_ROWS)}


def test_the_corpus_is_whole_and_distinct():
    assert len(CORPUS) >= 150
    assert len(SHIPPED) >= 0.8 * len(CORPUS) and SHIPPED.keys() <= CORPUS.keys()
    for id, row in SHIPPED.items():
        assert (row["source"] != CORPUS[id]["source"]) == row["meta"]["edited"]
        assert len(row["winners"]) == len(row["losers"]) >= 2
    oz = set()
    for id, row in SHIPPED.items():
        oz.add(row["winners"][1].replace(f"@{id}", "@f"))
    assert len(oz) == len(SHIPPED)  # no two sources are one function


TODAYS = random.Random(time.time() // 86400).sample(sorted(SHIPPED), 4)  # others each day


@pytest.mark.parametrize("id", TODAYS)
def test_shipped_groups_hold_on_fresh_inputs_and_are_made_again(id):
    result = ir.check_group(SHIPPED[id], 1000)
    assert result.inputs >= 200 and not result.wrong_winners and not result.wrong_losers
    if SHIPPED[id]["meta"]["clang"] == llvm.clang().version:
        assert ir.build_group(CORPUS[id], SETTINGS).group == SHIPPED[id]


# ---------------------------------------------------------------------------------- the command


def test_a_loser_that_differs_on_few_small_numbers(tmp_path):
    """They have all built the group, so that no fresh input tells; it is no fault."""
    rows = [json.loads(row) for row in open(ROOT / "toy" / "ir_groups.jsonl")]
    few = [row for row in rows if row["id"] == "toy-f-097"]  # differs from 3 to 8
    write_rows(tmp_path / "few.jsonl", few)
    done = command("--check", tmp_path / "few.jsonl", "--inputs", 200)
    assert done.returncode == 0 and "losers that agree with it: 0 \n" in done.stdout
    assert "only those used: 2 toy-f-097 1 2\n" in done.stdout


def test_check_and_inspect(groups, tmp_path):
    rows = [groups[id] for id in ("loop", "float", "words")]
    undecided = {**rows[0], "id": "broken", "source": "int f(int a) { return a +; }"}
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write_rows(good, [*rows, undecided])
    done = command("--check", good, "--inputs", 200)
    assert done.returncode == 0, done
    no_fault = (
        "disagree with their source: 0 \nlosers that agree with it: 0 \nnot decided: 1 broken "
    )
    assert no_fault in done.stdout, done
    assert "3 groups, 600 inputs decided" in done.stdout
    assert "six features: pairs" in command("--audit", good).stdout
    swapped = {
        **rows[0],
        "winners": [rows[0]["losers"][0], rows[0]["winners"][1]],
        "losers": rows[0]["winners"][:1],
    }
    write_rows(bad, [swapped])
    done = command("--check", bad)
    assert done.returncode == 1
    assert "their source: 1 loop O3\nlosers that agree with it: 1 loop 1\n" in done.stdout
    assert "not decided" not in done.stdout
    shown = command("--inspect", good, "--id", "loop").stdout
    loser = rows[0]["meta"]["losers"][0]
    assert rows[0]["source"] in shown
    assert f"=== loser 1: {loser['operator']} in {loser['level']}, {loser['was']}" in shown
    assert "\n- " in shown and "\n+ " in shown
    assert "no row has \"id\" 'none'" in command("--inspect", good, "--id", "none").stderr


@pytest.mark.parametrize(
    "flag, missing",
    [
        ("--inspect", "levels"),
        ("--inspect", "losers"),
        ("--inspect", "inputs"),
        ("--inspect", "clang"),
        ("--audit", "levels"),
        ("--audit", "losers"),
        ("--check", "levels"),
        ("--check", "seed"),
    ],
)
def test_what_a_command_needs_of_meta_is_named(flag, missing, monkeypatch, tmp_path):
    """Of a group that trains: its meta may be anything."""
    rows = [json.loads(SHIPPED_ROWS[0]), json.loads(SHIPPED_ROWS[1])]
    del rows[1]["meta"][missing]
    path = tmp_path / "g.jsonl"
    write_rows(path, rows)
    data.read_groups(path)
    monkeypatch.setattr(sys, "argv", ["ir.py", flag, str(path), "--id", rows[1]["id"]])
    with pytest.raises(SystemExit, match=f'g.jsonl:2: "meta": "{missing}" is missing; add it'):
        ir.main()


@pytest.mark.parametrize("flag", ["--inspect", "--audit"])
def test_what_a_command_needs_of_an_edit_is_named(flag, monkeypatch, tmp_path):
    row = json.loads(SHIPPED_ROWS[0])
    row["meta"]["losers"][1] = {}
    path = tmp_path / "g.jsonl"
    write_rows(path, [row])
    monkeypatch.setattr(sys, "argv", ["ir.py", flag, str(path), "--id", row["id"]])
    with pytest.raises(SystemExit, match='g.jsonl:1: "losers" of "meta": "operator" is missing'):
        ir.main()


def test_inspect_asks_for_an_id():
    done = command("--inspect", ROOT / "toy" / "ir_groups.jsonl")
    assert done.returncode == 2 and "--inspect prints one group: give its --id" in done.stderr


def test_each_function_of_a_file_is_a_group(tmp_path):
    source, out = tmp_path / "pair.c", tmp_path / "g.jsonl"
    text = "#include <assert.h>\n" + DIGITS + LOOP.replace("return s", "return g(s)")
    main = "int main(void) { assert(g(12) == 3); return 0; }\n"
    source.write_text(text + DIGITS.replace("g(", "other(") + main)
    done = command("--source", source, "--out", out, "--workers", 2)
    assert "1 files: 3 functions and programs\n" in done.stdout, done
    rows = [json.loads(line) for line in out.open()]
    assert [row["id"] for row in rows] == ["pair:g", "pair:f", "pair:other"]
    assert "int g(" in rows[1]["source"] and "define i32 @g(" in rows[1]["winners"][1]
    assert all("main" not in row["source"] for row in rows)
    assert "int f(" not in rows[0]["source"] and "int f(" not in rows[2]["source"]


def test_a_table_of_sltrans_is_joined_on_the_source(tmp_path):
    texts = llvm.winners(LOOP, ["O3", "Oz"])
    raw = dict(zip(["O3", "Oz"], emit_ir(DIGITS, ["O3", "Oz"])))  # with all that clang prints
    tables = {
        "Perf_Optimized": [
            (LOOP, texts["O3"]),
            (DIGITS, raw["O3"]),
            (ABS, llvm.winners(ABS, ["O3"])["O3"]),
        ],
        "Size_Optimized": [
            (DIGITS, raw["Oz"]),
            (LOOP, texts["Oz"]),
            (SWITCH, llvm.winners(SWITCH, ["Oz"])["Oz"]),
        ],
    }
    files = [tmp_path / f"{name}.jsonl" for name in tables]
    for file, pairs in zip(files, tables.values()):
        write_rows(file, [{"Source_Code": source, "IR_Original": text} for source, text in pairs])
    out = tmp_path / "g.jsonl"
    done = command("--source", *files, "--out", out, "--loser", "drop")
    assert "SLTrans: 4 sources, 2 of them in every table" in done.stdout, done
    assert "4 sources read, 4 groups" in done.stdout, done
    rows = {row["source"]: row for row in map(json.loads, out.open())}
    # What the tables give goes through the optimiser.
    assert rows[LOOP]["winners"] == llvm.optimised(texts.items())
    assert rows[LOOP]["meta"]["levels"] == list(tables)
    assert rows[DIGITS]["winners"] == llvm.optimised(raw.items())
    topped_up = rows[SWITCH]
    assert topped_up["meta"]["levels"][0] == "Size_Optimized" and len(topped_up["winners"]) == 2
    # A mutant has nothing like it, so what runs is compiled here.
    done = command("--source", *files, "--out", tmp_path / "v.jsonl")
    assert "4 sources read, 4 groups" in done.stdout, done
    for row in map(json.loads, (tmp_path / "v.jsonl").open()):
        assert row["meta"]["levels"][0] == "O3"
        assert row["winners"][0] == llvm.winners(row["source"], ["O3"])["O3"]
    files[0].write_text('{"Source_Code": "x"}\n')
    done = command("--source", files[0], "--out", tmp_path / "h.jsonl")
    assert f'{files[0]}:1: "IR_Original" is missing' in done.stderr
    assert "Traceback" not in done.stderr
    parquet = tmp_path / "t.parquet"
    parquet.write_bytes(b"PAR1")
    done = command("--source", parquet, "--out", tmp_path / "h.jsonl")
    assert done.returncode == 1 and str(parquet) in done.stderr and "Traceback" not in done.stderr


def last_progress(done):
    """What the progress bar showed in the end."""
    return done.stderr.split("\r")[-1]


def test_command_is_the_same_for_any_workers_order_and_interruption(tmp_path):
    some = {"loop": LOOP, "digits": DIGITS, "abs": ABS}
    rows = [{"id": id, "source": source} for id, source in [*some.items(), ("bad", "int x;")]]
    source = tmp_path / "s.jsonl"
    first, second, third, killed = [tmp_path / f"g{k}.jsonl" for k in range(4)]
    write_rows(source, rows)
    one = command("--source", source, "--out", first, "--workers", 1)
    assert one.returncode == 0, one.stderr
    assert "4 sources read, 3 groups" in one.stdout
    assert "told without the source" in one.stdout
    assert "rejected, no function: 1 (bad)" in one.stdout
    assert [json.loads(line)["id"] for line in first.open()] == list(some)
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.tmp"))
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").open()]
    assert rejected == [{"out": "g0.jsonl", "id": "bad", "why": "no function"}]

    # cut short: two finished rows, one half-written line; another number of workers goes on
    partial = []
    others = json.dumps(["another source", None, "why", {}]) + "\n"
    for row in (rows[-1], rows[2]):
        result = ir.build_group(row, SETTINGS)
        key = ir.fingerprint(row, SETTINGS)
        partial.append(json.dumps([key, result.group, result.why_not, result.tried]))
    Path(f"{second}.partial").write_text(others + "\n".join(partial) + "\n" + partial[0][:40])
    two = command("--source", source, "--out", second, "--workers", 3)
    assert "| 2/2 " in last_progress(two) and second.read_bytes() == first.read_bytes()
    assert two.stdout.split("\n")[3:] == one.stdout.split("\n")[2:]
    # what another source left in the log is not ours to delete
    assert Path(f"{second}.partial").read_text() == others and "1 results of other" in two.stdout
    rejected = [json.loads(line)["out"] for line in (tmp_path / "rejected.jsonl").open()]
    assert rejected == ["g0.jsonl", "g1.jsonl"]

    # killed at some moments: the same file in the end
    for delay_s in (0.8, 1.4):
        run = subprocess.Popen(
            [sys.executable, str(ROOT / "ir.py"), "--source", str(source), "--out", str(killed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay_s)
        run.kill()
        run.wait()
        assert gone(str(tmp_path)) and not processes_of_slots()
    assert command("--source", source, "--out", killed).returncode == 0
    assert killed.read_bytes() == first.read_bytes()

    # a finished file is kept and completed; other settings are not taken for the same
    third.write_text("".join(first.read_text().splitlines(keepends=True)[1:3]))
    write_rows(source, reversed(rows[:3]))
    three = command("--source", source, "--out", third)
    assert "| 1/1 " in last_progress(three)
    assert third.read_text().splitlines() == first.read_text().splitlines()[::-1]
    assert "made again" not in three.stdout
    other = command("--source", source, "--out", third, "--seed", 1, "--loser", "drop")
    assert "| 3/3 " in last_progress(other)
    assert "3 groups of another source, settings or clang are made again\n" in other.stdout


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "size, why", [("100k", "No space left"), ("128k", "the disk of .* is full")]
)
def test_a_full_disk_rejects_no_source(size, why, kind, tmp_path, monkeypatch):
    """Not even the texts fit, or what they become does not."""
    source, out = tmp_path / "s.jsonl", tmp_path / "g.jsonl"
    write_rows(source, [{"id": "loop", "source": LOOP}])
    monkeypatch.setenv(sandbox.BOX_VARIABLE, kind)
    with small_disk(size) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        stopped = command("--source", source, "--out", out)
        assert re.search(rf"stopped \(.*{why}", stopped.stderr), stopped
        monkeypatch.setattr("tempfile.tempdir", folder)
        with pytest.raises(sandbox.SandboxError, match="is full"):
            llvm.which_assemble([emit_ir(LOOP, ["O3"])[0]])
    assert not out.exists() and not (tmp_path / "rejected.jsonl").exists()
    monkeypatch.delenv("TMPDIR")
    with_room = command("--source", source, "--out", out)
    assert "1 sources read, 1 groups" in with_room.stdout, with_room


def test_bad_input_is_an_error_that_names_the_place(tmp_path):
    source, out = tmp_path / "s.jsonl", tmp_path / "g.jsonl"
    for text, place in [
        ('{"id": "a"}\n', ':1: "source"'),
        ('{"id": "a", "source": "x"}\n{"id": "a", "source": "x"}\n', ':2: "id"'),
        ("{\n", ":1: "),
    ]:
        source.write_text(text)
        done = command("--source", source, "--out", out)
        assert done.returncode == 1
        assert f"{source}{place}" in done.stderr and "Traceback" not in done.stderr
    assert "no C source there" in command("--source", tmp_path / "none", "--out", out).stderr
    assert "O7" in command("--source", source, "--out", out, "--levels", "O3,O7").stderr
    assert not out.exists()
    source.write_text(json.dumps({"id": "a", "source": DIGITS}))
    out.write_text(json.dumps({"id": "other", "meta": {}}))
    assert "'other' is not in --source" in command("--source", source, "--out", out).stderr
    assert json.loads(out.read_text())["id"] == "other"


def test_files_that_cannot_be_written_are_named(tmp_path):
    source = tmp_path / "f.c"
    source.write_text(DIGITS)
    (tmp_path / "g.jsonl.tmp").mkdir()
    for out, message in [
        (source / "g.jsonl", f"ir.py: [Errno 17] File exists: '{source}'"),
        (tmp_path / "g.jsonl", "ir.py: [Errno 21] Is a directory: "),
        (tmp_path / "rejected.jsonl", "--out must not be rejected.jsonl"),
    ]:
        done = command("--source", source, "--out", out)
        assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "rejected.jsonl").exists()


def test_a_full_disk_takes_nothing_of_what_is_there(monkeypatch, tmp_path):
    partial, rejected = tmp_path / "g.jsonl.partial", tmp_path / "rejected.jsonl"
    partial.write_text('["one"]\n["another"]\n')
    rejected.write_text('{"out": "h.jsonl"}\n')
    before = partial.read_text(), rejected.read_text()

    def write_text(path, text):
        with open(path, "w"):  # it is empty now, and stays so
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match="No space"):
        ir.forget(partial, ["one"])
    with pytest.raises(OSError, match="No space"):
        ir.write_rejected(tmp_path / "g.jsonl", [], [])
    assert (partial.read_text(), rejected.read_text()) == before


@pytest.mark.parametrize("full", ["worker", "log"])
def test_a_full_disk_stops_the_run_with_a_message(monkeypatch, tmp_path, full):
    source, partial = tmp_path / "f.c", tmp_path / "g.jsonl.partial"
    source.write_text(DIGITS)
    if full == "log":
        partial.symlink_to("/dev/full")
        monkeypatch.setattr(ir, "read_finished", lambda *_: {})  # which would read it for ever
    else:
        error = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(ir, "build_group", Mock(side_effect=error))
    args = argparse.Namespace(source=[source], out=tmp_path / "g.jsonl", workers=1, include=[])
    with pytest.raises(SystemExit, match=f"No space left on device.*done is in {partial}: run"):
        ir.make_groups(args, SETTINGS)


def test_an_unexpected_error_is_not_shown_after_all_other_sources(monkeypatch, tmp_path):
    rows = [{"id": str(number), "source": f"int f{number};"} for number in range(50)]
    built = []

    def build_group(row, settings):
        built.append(row["id"])
        time.sleep(0.02)
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(ir, "build_group", build_group)
    monkeypatch.setattr(ir, "split_rows", lambda *_: rows)
    (tmp_path / "f.c").write_text("int f(int a) { return a; }")
    args = argparse.Namespace(
        source=[tmp_path / "f.c"], out=tmp_path / "g.jsonl", workers=1, include=[]
    )
    with pytest.raises(ValueError, match="a mistake of ours"):
        ir.make_groups(args, ir.Settings(["O3", "Oz"], 0, "verified", 0))
    assert len(built) < 10
