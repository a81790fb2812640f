"""ir.py: winners are equivalent, losers are not, and nothing but the row, the seed and clang decides which is which."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import data
import ir
from conftest import ROOT
from judge import sandbox
from support import gone, processes_of_slots

try:
    ir.clang()
    sandbox.probe()
except (RuntimeError, OSError) as e:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip(f"needs clang and the sandbox: {e}", allow_module_level=True)

LOOP = """int f(int a, int b) {
    int s = 0;
    for (int i = 1; i <= b; i++) {
        if (a % 3 > i) {
            s = s + i * 2;
        } else {
            s = s - a;
        }
    }
    return s;
}
"""
DIGITS = "int g(int n) {\n    int s = 0;\n    while (n > 0) {\n        s = s + n % 10;\n        n = n / 10;\n    }\n    return s;\n}\n"
SWITCH = """static const short T[4] = {3, -1, 4, 1};
short f(unsigned char k, long x) {
    int returned = 0;
    switch (k % 6) { case 0: returned = x % 7; break; case 1: case 2: returned = T[k & 3]; break; default: returned = -k; }
    return returned;
}
"""
ARRAY = """_Bool f(unsigned n) {
    int t[8];
    for (int i = 0; i < 8; i++) t[i] = n >> i;
    for (int i = 0; i < 8; i++) if (t[i] == i * 5) return 1;
    return 0;
}
"""
ABS = "long f(unsigned x, int y) {\n    return (long)x + (y < 0 ? -(long)y : y);\n}\n"
TEXT = (
    "#include <string.h>\nvoid reverse(char *s) {\n    int n = strlen(s);\n    for (int i = 0; i < n / 2; i++) {\n        char t = s[i];\n"
    "        s[i] = s[n - 1 - i];\n        s[n - 1 - i] = t;\n    }\n}\n"
)
BUFFERS = (
    "typedef unsigned char byte;\nint weigh(const byte *a, int n, short *b) {\n    int s = 0;\n    for (int i = 0; i < n; i++) {\n"
    "        s += a[i] * 3;\n        b[i] -= s % 7;\n    }\n    return s;\n}\n"
)
FLOAT = (
    "double dot(const double *a, const float *b, int n, float scale) {\n    double s = 0.5;\n    for (int i = 0; i < n; i++) s += a[i] * b[i] * scale;\n"
    "    return s > 100 ? 100 : s;\n}\n"
)
FIND = "const char *find(const char *s, char c) { while (*s && *s != c) s++; return *s ? s : 0; }\n"
ENUM = "enum kind { A, B = 5, C };\ntypedef enum kind Kind;\nint step(Kind k, int x) { switch (k) { case A: return x % 100 + 1; case B: return x / 7; default: return 3; } }\n"
WORDS = """#include <ctype.h>
#include <stdio.h>
int main(void) {
    int c, words = 0, in = 0, lines = 0;
    while ((c = getchar()) != EOF) {
        if (c == '\\n') lines++;
        if (isspace(c)) in = 0;
        else if (!in) { in = 1; words++; }
    }
    printf("%d %d\\n", lines, words);
    return words > 3;
}
"""
SORT = """#include <stdio.h>
#include <stdlib.h>
static int order(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int calls;
int main(void) {
    int n, *a;
    if (scanf("%d", &n) != 1 || n < 0 || n > 50) return 1;
    a = malloc(sizeof(int) * (n + 1));
    while (calls < n && scanf("%d", &a[calls]) == 1) a[calls++] %= 1000;
    qsort(a, calls, sizeof *a, order);
    for (int i = 0; i < calls; i++) fprintf(stdout, "%d ", a[i]);
    puts("");
    free(a);
    return 0;
}
"""
POINTERS = {
    "text": TEXT,
    "buffers": BUFFERS,
    "float": FLOAT,
    "find": FIND,
    "enum": ENUM,
    "words": WORDS,
    "sort": SORT,
}
SOURCES = {"loop": LOOP, "digits": DIGITS, "switch": SWITCH, "array": ARRAY, "abs": ABS}


def build(id, source, levels=("O3", "Oz"), losers=2, mode="verified", seed=0):
    return ir.build_group({"id": id, "source": source}, list(levels), losers, mode, seed)


def outcomes(source, texts, seed="fresh"):
    """[differs, crashed, endless, unstable] of each text against the source."""
    return ir.compare(source, texts, random.Random(seed))


def assembles(texts):
    with (
        tempfile.TemporaryDirectory() as box
    ):  # not tmp_path: its parents are closed to the box's uid
        return ir.assemble(texts, box, "echo *.o").stdout.decode().split() == ["all.o"]


def test_prompt_and_response():
    assert data.ir_prompt("int f;\n") == "Compile this C program to LLVM IR.\n```c\nint f;\n```"
    assert data.ir_response("define\n") == "```llvm\ndefine\n```"


def test_normalised_text_assembles_and_is_short():
    texts = [text for source in SOURCES.values() for text in ir.winners(source, ir.LEVELS).values()]
    assert assembles(texts)
    for text in texts:
        for noise in (
            "; ",
            "!",
            "#0",
            "source_filename",
            "target ",
            "noundef",
            "declare",
            "local_unnamed_addr",
            "lifetime",
        ):
            assert noise not in text
    assert (
        "%returned" in ir.winners(SWITCH, ["O0"])["O0"]
    )  # a variable may be called like an attribute
    oz = ir.winners(
        "unsigned char f(unsigned char x, int y) { return x < 9 && y > 0 ? x + y : y; }", ["Oz"]
    )["Oz"]
    assert "zeroext" in oz and "nsw" in ir.winners(LOOP, ["O1"])["O1"]  # what carries meaning stays


def test_strings_are_left_alone():
    line = '@s = private unnamed_addr constant [20 x i8] c"a ; b, !x !1 #0 tail\\00", align 1'
    assert (
        ir.normalise(line)
        == '@s = private constant [20 x i8] c"a ; b, !x !1 #0 tail\\00", align 1\n'
    )


@pytest.mark.parametrize(
    "line, short",
    [
        (
            "  store <4 x i32> %a, ptr %p, align 4, !tbaa !5",
            "  store <4 x i32> %a, ptr %p, align 4",
        ),  # less than natural
        ("  %t = alloca [8 x i32], align 16", "  %t = alloca [8 x i32], align 16"),
        ("  %0 = load i64, ptr %p, align 8", "  %0 = load i64, ptr %p"),
        ("  %0 = load i64, ptr %p, align 4", "  %0 = load i64, ptr %p, align 4"),
        (
            "define dso_local range(i32 0, 2) i32 @f(i8 noundef signext %a) local_unnamed_addr #0 {",
            "define i32 @f(i8 signext %a) {",
        ),
        (
            "  %c = tail call i32 @llvm.abs.i32(i32 %a, i1 true), !range !2 ; why",
            "  %c = call i32 @llvm.abs.i32(i32 %a, i1 true)",
        ),
        ("  %c = trunc nuw nsw i64 %a to i32", "  %c = trunc nuw nsw i64 %a to i32"),
    ],
)
def test_normalise_by_line(line, short):
    assert ir.normalise(line) == short + "\n"


def test_canonical_sees_through_names_only():
    text = ir.winners(LOOP, ["Oz"])["Oz"]
    assert ir.canonical(text.replace("%rem", "%other").replace("for.body", "body")) == ir.canonical(
        text
    )
    assert ir.canonical(text.replace("i32 0, %a", "i32 1, %a")) != ir.canonical(text)


@pytest.fixture(scope="module")
def groups():
    made = {id: build(id, source) for id, source in {**SOURCES, **POINTERS}.items()}
    assert {id: reason for id, (_, reason, _) in made.items()} == dict.fromkeys(made, "")
    return {id: group for id, (group, _, _) in made.items()}


def test_winners_agree_and_losers_differ_on_fresh_inputs(groups):
    for id, group in groups.items():
        assert len(group["winners"]) == len(group["losers"]) == 2
        inputs, told = outcomes(group["source"], group["winners"] + group["losers"])
        assert inputs >= 64
        assert told[:2] == [[0, 0, 0, 0]] * 2
        for loser, outcome in zip(group["meta"]["losers"], told[2:]):
            assert any(outcome[:3]), (id, loser)
            assert loser["class"] == "differs" and loser["was"] != loser["now"]


def test_a_group_has_what_the_trainer_reads(groups, tmp_path):
    group = groups["loop"]
    assert (
        set(group) == {"id", "language", "source", "winners", "losers", "meta"}
        and group["language"] == "c"
    )
    assert group["meta"]["levels"] == ["O3", "Oz"] and "clang" in group["meta"]["clang"]
    assert len({ir.canonical(text) for text in group["winners"] + group["losers"]}) == 4
    line = group["meta"]["losers"][0]
    assert (
        group["winners"][group["meta"]["levels"].index(line["level"])]
        .split("\n")[line["line"] - 1]
        .strip()
        == line["was"]
    )


def test_equivalent_mutant_is_rejected(monkeypatch):
    """i <= b and i < b + 1 are the same where the source is defined; a commuted sum is the same everywhere."""
    text = ir.winners("int f(int a, int b) { return a * 3 + b; }", ["O1"])["O1"]
    commuted = text.replace("%mul, %b", "%b, %mul")
    flag = text.replace("mul nsw", "mul")
    assert len({text, commuted, flag}) == 3
    made = [
        {"ir": t, "operator": "predicate", "level": "O1", "line": 1, "was": "", "now": ""}
        for t in (commuted, flag)
    ]
    monkeypatch.setattr(ir, "mutants", lambda *_: made)
    assert build("x", "int f(int a, int b) { return a * 3 + b; }")[:2] == (
        None,
        "no mutant behaves differently",
    )


def test_winners_that_disagree_are_rejected(monkeypatch):
    right = ir.winners
    monkeypatch.setattr(
        ir,
        "winners",
        lambda source, levels: {
            level: text.replace("mul nsw i32 %a, 3", "mul nsw i32 %a, 4") if level == "Oz" else text
            for level, text in right(source, levels).items()
        },
    )
    assert build("x", "int f(int a, int b) { return a * 3 + b; }")[1].startswith(
        "winners disagree: Oz"
    )


def test_each_operator_makes_text_that_assembles():
    texts, made = {level: ir.winners(LOOP, [level])[level] for level in ("O0", "Oz")}, []
    for operator in ir.OPERATORS:
        some = ir.mutants(texts, [operator], 6, random.Random(0))
        assert some and all(mutant["operator"] == operator.__name__ for mutant in some)
        made += some
    assert assembles([mutant["ir"] for mutant in made])


@pytest.mark.parametrize(
    "operator, line, expected",
    [
        (
            ir.predicate,
            "  %c = icmp slt i32 %a, 3",
            {"  %c = icmp sle i32 %a, 3", "  %c = icmp sgt i32 %a, 3", "  %c = icmp sge i32 %a, 3"},
        ),
        (ir.swap_operands, "  %c = sub nsw i32 0, %a", {"  %c = sub nsw i32 %a, 0"}),
        (ir.swap_operands, "  %c = add nsw i32 0, %a", set()),
        (
            ir.constant,
            "  %c = phi i32 [ 7, %b.1 ], [ %d12, %e ]",
            {
                "  %c = phi i32 [ 8, %b.1 ], [ %d12, %e ]",
                "  %c = phi i32 [ 6, %b.1 ], [ %d12, %e ]",
            },
        ),
        (ir.constant, "  %c = getelementptr [4 x i32], ptr @t, i64 0, i64 1", set()),
        (ir.constant, "  store <4 x i16> %c, ptr %d, align 8", set()),
        (ir.opcode, "  %c = add nuw nsw <4 x i32> %a, %b", {"  %c = sub nuw nsw <4 x i32> %a, %b"}),
        (ir.opcode, "  %c = or disjoint i32 %a, %b", {"  %c = and i32 %a, %b"}),
        (
            ir.opcode,
            "  %c = call i32 @llvm.smax.i32(i32 %b, i32 0)",
            {"  %c = call i32 @llvm.smin.i32(i32 %b, i32 0)"},
        ),
        (ir.drop_instruction, "  ret i32 %a", set()),
        (ir.swap_branch, "  br i1 %c, label %x, label %y", {"  br i1 %c, label %y, label %x"}),
    ],
)
def test_operators_by_line(operator, line, expected):
    assert set(operator(line)) == expected


def test_undefined_inputs_do_not_decide():
    """Texts that differ from the source only where it is undefined are equivalent to it."""
    cases = [
        (
            "int f(int a) { return a / (a - 3); }",
            "define i32 @f(i32 %a) {\n  %b = sub i32 %a, 3\n  %c = icmp eq i32 %b, 0\n"
            "  %d = select i1 %c, i32 1, i32 %b\n  %e = sdiv i32 %a, %d\n  ret i32 %e\n}\n",
        ),  # division by 0
        (
            "int f(int a) { return a + 1 > a; }",
            "define i32 @f(i32 %a) {\n  ret i32 1\n}\n",
        ),  # overflow
        (
            "int f(int a) { int x; if (a > 5) x = a; return x; }",
            "define i32 @f(i32 %a) {\n  ret i32 %a\n}\n",
        ),
        (
            "int f(int a) { int t[9]; if (a > 5) t[a & 7] = a; return t[a & 7]; }",
            "define i32 @f(i32 %a) {\n  ret i32 %a\n}\n",
        ),
        (
            "int f(int a) { if (a > 5) return 1; }",
            "define i32 @f(i32 %a) {\n  ret i32 1\n}\n",
        ),  # no value
        (
            "int f(int a) { while (a != 4 && a != 5) a = a ^ 8; return 7; }",  # no end
            "define i32 @f(i32 %a) {\n  ret i32 7\n}\n",
        ),
    ]
    for source, text in cases[:-1]:
        inputs, told = outcomes(source, [text])
        assert told == [[0, 0, 0, 0]] and inputs >= ir.MIN_INPUTS, source
    with pytest.raises(ir.Rejected, match="hardly ever defined and ending"):
        outcomes(*[cases[-1][0], [cases[-1][1]]])


def test_crashing_and_endless_texts_are_told_apart():
    texts = [
        "define i32 @f(i32 %a) {\n  %b = sdiv i32 %a, 0\n  ret i32 %b\n}\n",
        "define i32 @f(i32 %a) {\n  br label %x\nx:\n  br label %x\n}\n",
        "define i32 @f(i32 %a) {\n  %b = call i32 @f(i32 %a)\n  %c = add i32 %b, 1\n  ret i32 %c\n}\n",
        "define i32 @f(i32 %a) {\n  %p = alloca i32\n  %b = load i32, ptr %p\n  ret i32 %b\n}\n",
        "define i32 @f(i32 %a) {\n  ret i32 %b\n}\n",
        "define i32 @f(i32 %a) {\n  ret i32 %a\n}\n",
    ]
    inputs, (crash, endless, recursion, unwritten, invalid, right) = outcomes(
        "int f(int a) { return a; }", texts
    )
    assert (
        crash == [0, inputs, 0, 0]
        and endless == [0, 0, 8, 0]
        and any(recursion[1:3])
        and recursion[0] == 0
    )
    assert unwritten == [0, 0, 0, inputs] and invalid is None and right == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "source, decides, wrong",
    [
        # what the source does where it is undefined does not decide: an input that reaches behind a buffer, what malloc left, no value
        (
            "int f(int *a, int n) { int s = 0; for (int i = 0; i < n + 20; i++) s += a[i]; return s; }",
            True,
            "define i32 @f(ptr %a, i32 %n) {\n  ret i32 3\n}\n",
        ),
        (
            "void f(short *a, int n) { for (int i = 0; i < n + 20; i++) a[i] = i; }",
            True,
            "define void @f(ptr %a, i32 %n) {\n  ret void\n}\n",
        ),
        (
            "#include <stdlib.h>\nint f(int *a) { int *p = malloc(8), x = p[1] & 0; x += a[0] < 99 ? 7 : p[1]; free(p); return x; }",
            True,
            "define i32 @f(ptr %a) {\n  ret i32 8\n}\n",
        ),
        ("int f(int *a, int n) { return a[n + 32]; }", False, ""),
        (
            '#include <stdio.h>\nint main(void) { int x; scanf("%d", &x); printf("%d", x); return 0; }',
            True,
            "define i32 @main() {\n  ret i32 0\n}\n",
        ),
        ('#include <stdio.h>\nint main(void) { for (;;) puts("x"); }', False, ""),
        (
            '#include <stdio.h>\nint main(void) { char b[70000]; for (int i = 0; i < 1100; i++) printf("%65d", i); return b[0] & 0; }',
            False,
            "",
        ),
        (
            "float f(float x) { return x > 0 ? 0 / (x - x) : x; }",
            True,
            "define float @f(float %x) {\n  ret float %x\n}\n",
        ),
    ],
)
def test_undefined_behaviour_of_memory_and_programs_does_not_decide(source, decides, wrong):
    if not decides:
        with pytest.raises(ir.Rejected, match="hardly ever defined and ending"):
            outcomes(source, [])
        return
    inputs, (self, other) = outcomes(source, [ir.winners(source, ["O1"])["O1"], wrong])
    assert ir.MIN_INPUTS <= inputs and self == [0, 0, 0, 0] and other[0] > 0


def test_what_mutants_do_to_memory_and_streams_is_seen():
    def told(source, was, now):
        text = ir.winners(source, ["Oz"])["Oz"]
        assert was in text, text
        inputs, (outcome,) = outcomes(source, [text.replace(was, now)])
        return [inputs, *outcome]

    inputs, differs, crashed, *_ = told(
        "void f(int *a, int n) { for (int i = 0; i < n; i++) a[i] = i; }",
        "getelementptr inbounds i32, ptr %a",
        "getelementptr inbounds i32, ptr null",
    )
    assert crashed > inputs / 2
    inputs, differs, crashed, *_ = told(
        "void f(int *a, int n) { a[0] = n; }",
        "store i32 %n, ptr %a",
        "%p = getelementptr i32, ptr %a, i64 40\n  store i32 %n, ptr %p",
    )
    assert crashed == inputs  # written behind a buffer
    inputs, differs, *_ = told(
        '#include <stdio.h>\nint main(void) { puts("a"); return 0; }', "ret i32 0", "ret i32 1"
    )
    assert differs == inputs  # the same text, another exit code
    inputs, _, crashed, *_ = told(
        "#include <stdio.h>\nint main(void) { int c; while ((c = getchar()) != -1) putchar(c + 1); return 0; }",
        "icmp eq i32 %call, -1",
        "icmp eq i32 %call, -2",
    )
    assert crashed > 0  # it prints for ever: too much


def test_a_table_of_sltrans_is_joined_on_the_source(tmp_path):
    texts = ir.winners(LOOP, ["O3", "Oz"])
    broken = ir.winners(ABS, ["O3", "Oz"])
    raw = dict(zip(["O3", "Oz"], ir.compiled(DIGITS, ["O3", "Oz"])))  # with all that clang prints
    tables = {
        "Perf_Optimized": [
            (LOOP, texts["O3"]),
            (DIGITS, raw["O3"]),
            (ABS, broken["O3"].replace("add", "sub")),
        ],
        "Size_Optimized": [
            (DIGITS, raw["Oz"]),
            (LOOP, texts["Oz"]),
            (ABS, broken["Oz"]),
            (SWITCH, ir.winners(SWITCH, ["Oz"])["Oz"]),
        ],
    }
    files = [tmp_path / f"{name}.jsonl" for name in tables]
    for file, rows in zip(files, tables.values()):
        file.write_text(
            "".join(
                json.dumps({"Source_Code": source, "IR_Original": text}) + "\n"
                for source, text in rows
            )
        )
    done = command("--source", *files, "--out", tmp_path / "g.jsonl")
    assert (
        "SLTrans: 4 sources, 3 of them in every table" in done.stdout
        and "4 sources read, 3 groups" in done.stdout
    ), done
    assert "rejected, winners disagree: 1" in done.stdout
    rows = {row["source"]: row for row in map(json.loads, open(tmp_path / "g.jsonl"))}
    assert rows[LOOP]["winners"] == list(texts.values()) and rows[LOOP]["meta"]["levels"] == list(
        tables
    )
    assert rows[DIGITS]["winners"] == list(map(ir.normalise, raw.values()))
    assert (
        rows[SWITCH]["meta"]["levels"][0] == "Size_Optimized" and len(rows[SWITCH]["winners"]) == 2
    )  # topped up
    files[0].write_text('{"Source_Code": "x"}\n')
    done = command("--source", files[0], "--out", tmp_path / "h.jsonl")
    assert (
        f'{files[0]}:1: "IR_Original" is missing' in done.stderr and "Traceback" not in done.stderr
    )
    parquet = tmp_path / "t.parquet"
    parquet.write_bytes(b"PAR1")
    done = command("--source", parquet, "--out", tmp_path / "h.jsonl")
    assert done.returncode == 1 and str(parquet) in done.stderr and "Traceback" not in done.stderr


def test_check_and_inspect(groups, tmp_path):
    rows = [groups[id] for id in ("loop", "float", "words")]
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("--check", good, "--inputs", 200)
    assert (
        done.returncode == 0
        and "disagree with their source: 0 \nlosers that agree with it: 0 \n3 groups, 600 inputs"
        in done.stdout
    ), done
    swapped = {
        **rows[0],
        "winners": [rows[0]["losers"][0], rows[0]["winners"][1]],
        "losers": rows[0]["winners"][:1],
    }
    bad.write_text(json.dumps(swapped) + "\n")
    done = command("--check", bad)
    assert (
        done.returncode == 1
        and "their source: 1 loop O3\nlosers that agree with it: 1 loop 1\n" in done.stdout
    )
    shown = command("--inspect", good, "--id", "loop").stdout
    loser = rows[0]["meta"]["losers"][0]
    assert (
        LOOP in shown
        and f"- {'  ' + loser['was']}" in shown
        and f"=== loser 1: {loser['operator']} in {loser['level']}" in shown
    )
    assert "no row has \"id\" 'none'" in command("--inspect", good, "--id", "none").stderr


def test_fresh_inputs_are_none_of_those_that_built():
    for source in (LOOP, BUFFERS, WORDS):
        called = ir.entry(*ir.compiled(source, [ir.ORACLE]))
        built = ir.input_pool(called, source, random.Random(0), ir.POOL)
        again = ir.input_pool(called, source, random.Random(0), ir.POOL)
        assert built == again and len(set(built)) == len(built) > 100
    with pytest.raises(ir.Rejected, match="0 inputs"):
        ir.compare(source, [], random.Random(0), others=built)


CORPUS = {row["id"]: row for row in ir.read_sources(ROOT / "toy" / "corpus")}
SHIPPED = {
    row["id"]: row
    for row in map(json.loads, (ROOT / "toy" / "corpus_groups.jsonl").read_text().splitlines())
}


def test_the_corpus_is_whole_and_distinct():
    assert (
        len(CORPUS) >= 150 and len(SHIPPED) >= 0.8 * len(CORPUS) and SHIPPED.keys() <= CORPUS.keys()
    )
    assert all(
        row["source"] == CORPUS[id]["source"]
        and len(row["winners"]) >= 2
        and len(row["losers"]) >= 2
        for id, row in SHIPPED.items()
    )
    oz = [ir.canonical(row["winners"][1]).replace(f"@{id}", "@f") for id, row in SHIPPED.items()]
    assert len(set(oz)) == len(oz)  # no two sources are one function


@pytest.mark.parametrize(
    "id", random.Random(time.time() // 86400).sample(sorted(SHIPPED), 6)
)  # others each day
def test_shipped_groups_hold_on_fresh_inputs_and_are_made_again(id):
    decided, wrong, agreeing = ir.check_group(SHIPPED[id], 1000)
    assert decided >= 200 and not wrong and not agreeing
    if SHIPPED[id]["meta"]["clang"] == ir.clang()[1]:
        assert ir.build_group(CORPUS[id], ["O3", "Oz"], 2, "verified", 0)[0] == SHIPPED[id]


def test_drop_mode():
    source = "unsigned f(int x, unsigned char y) {\n    return (x < 0 ? -x : x) + y;\n}\n"
    group, reason, stats = build("abs", source, mode="drop")
    assert not reason and len(group["losers"]) == 2
    for loser, told in zip(group["losers"], group["meta"]["losers"]):
        winner = group["winners"][group["meta"]["levels"].index(told["level"])].split("\n")
        assert winner[told["line"] - 1].strip() == told["was"]
        assert winner[: told["line"] - 1] + winner[told["line"] :] == loser.split("\n")
        assert told["class"] in ("does-not-assemble", "unverified")


def test_dropped_lines_are_losers_like_those_of_figure_2():
    """A sum that O3 turns into the closed form, in the figure's dialect; an assembler rejects what lacks a line of it."""
    group, _, _ = build(
        "sum",
        "int sum(int n) {\n    int s = 0;\n    for (int i = 0; i < n; i++) s += i;\n    return s;\n}\n",
        mode="drop",
    )
    if ir.clang()[2] >= 19:
        assert "zext nneg" in group["winners"][0] and "trunc nuw" in group["winners"][0]
    assert [loser["class"] for loser in group["meta"]["losers"]] == ["does-not-assemble"] * 2
    with tempfile.TemporaryDirectory() as box:
        assert ir.assemble(group["losers"], box, "echo *.o").stdout.decode().split() == ["*.o"]


def test_too_few_winners_are_topped_up():
    group, _, _ = build("x", "int f(int a, int b) { return a * 7 - b; }")
    assert group["meta"]["levels"] == ["O3", "O0"]


BAD = {
    "return type struct P": "struct P { int x, y; }; struct P f(int x) { struct P p = {x, x}; return p; }",
    "parameter type int **": "int f(int n, int **p) { return **p + n; }",
    "parameter type struct P *": "struct P { int x, y; }; int f(struct P *p) { return p->x; }",
    "parameter type struct P": "struct P { int x, y; }; int f(int a, struct P p) { return p.x; }",
    "parameter type long double": "int f(long double x) { return x > 0; }",
    "parameter type function *": "int f(int (*g)(int)) { return g(3); }",
    "parameter type void *": "int f(void *p) { return !p; }",
    "parameter type void": "int f(int n, ...) { return n; }",
    "nothing to compare": "void f(int a) { }",
    "calls fopen": '#include <stdio.h>\nint main(void) { FILE *f = fopen("/etc/passwd", "r"); return !f; }',
    "calls system": '#include <stdlib.h>\nint main(void) { return system("true"); }',
    "no clear entry: f, g": "int f(int a) { return a; } int g(int a) { return -a; }",
    "no function": "int x;",
    "does not compile: source.c:1:26: error": "int f(int a) { return a +; }",
    "calls rand": "#include <stdlib.h>\nint f(int a) { return rand() + a; }",
    "global variable n": "int n; int f(int a) { return n += a; }",
    "inline asm": 'int f(int a) { __asm__("nop"); return a; }',
    "hardly ever defined and ending": "int f(int a) { volatile int x = 1; while (x) ; return a; }",
    "not UTF-8": "int f(int a) { return a; } // \udcff",
    "no mutant behaves": "int f(int a) { return a; } // " + "9" * 5000,
    "over 64 KB": "// " + "x" * 10_000_000,
    "does not compile": "#define A B B\n#define B C C\n"
    + "int f(int a) { return "
    + "(" * 5000
    + "a;}",
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_sources_are_named(reason):
    group, told, _ = build("x", BAD[reason])
    assert group is None and told.startswith(reason)


def command(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "ir.py"), *map(str, arguments)], capture_output=True, text=True
    )


def test_command_is_the_same_for_any_workers_order_and_interruption(tmp_path):
    rows = [{"id": id, "source": source} for id, source in [*SOURCES.items(), ("bad", "int x;")]]
    source, outs = tmp_path / "s.jsonl", [tmp_path / f"g{k}.jsonl" for k in range(3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = command("--source", source, "--out", outs[0], "--workers", 1)
    assert one.returncode == 0, one.stderr
    assert (
        "6 sources read, 5 groups" in one.stdout and "rejected, no function: 1 (bad)" in one.stdout
    )
    assert [json.loads(line)["id"] for line in outs[0].open()] == list(SOURCES)
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.tmp"))

    # cut short: two finished rows, one half-written line; another number of workers goes on
    settings = ["O3", "Oz"], 2, "verified", 0
    partial = [
        json.dumps([ir.fingerprint(row, *settings), *ir.build_group(row, *settings)])
        for row in rows[-1:] + rows[2:3]
    ]
    Path(f"{outs[1]}.partial").write_text("\n".join(partial) + "\n" + partial[0][:40])
    two = command("--source", source, "--out", outs[1], "--workers", 3)
    assert "| 4/4 " in two.stderr.split("\r")[-1] and outs[1].read_bytes() == outs[0].read_bytes()
    assert two.stdout.split("\n")[2:] == one.stdout.split("\n")[2:]

    # killed at some moments: the same file in the end
    killed = tmp_path / "killed.jsonl"
    for delay_s in (0.4, 0.8, 1.1, 1.4):
        run = subprocess.Popen(
            [sys.executable, str(ROOT / "ir.py"), "--source", str(source), "--out", str(killed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay_s)
        run.kill()
        run.wait()
        assert gone(str(tmp_path)) and not processes_of_slots()
    assert (
        command("--source", source, "--out", killed).returncode == 0
        and killed.read_bytes() == outs[0].read_bytes()
    )

    # a finished file is kept and completed; other settings are not taken for the same
    outs[2].write_text("".join(outs[0].read_text().splitlines(keepends=True)[1:3]))
    source.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows[:4])))
    three = command("--source", source, "--out", outs[2])
    assert "| 2/2 " in three.stderr.split("\r")[-1]
    assert outs[2].read_text().splitlines() == outs[0].read_text().splitlines()[:4][::-1]
    assert (
        "| 4/4 "
        in command(
            "--source", source, "--out", outs[2], "--seed", 1, "--loser", "drop"
        ).stderr.split("\r")[-1]
    )


def test_folder_and_file(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "digits.c").write_text(DIGITS)
    (tmp_path / "latin1.c").write_bytes(b"int f(int a) { return a; } // \xe9\n")
    assert [row["id"] for row in ir.read_sources(tmp_path)] == ["c/digits", "latin1"]
    assert ir.read_sources(tmp_path / "c" / "digits.c") == [{"id": "digits", "source": DIGITS}]
    with pytest.raises(ir.Rejected, match="not UTF-8"):
        ir.winners(ir.read_sources(tmp_path)[1]["source"], ["O1"])


def test_bad_input_is_an_error_that_names_the_place(tmp_path):
    source, out = tmp_path / "s.jsonl", tmp_path / "g.jsonl"
    for text, told in [
        ('{"id": "a"}\n', ':1: "source"'),
        ('{"id": "a", "source": "x"}\n{"id": "a", "source": "x"}\n', ':2: "id"'),
        ("{\n", ":1: "),
    ]:
        source.write_text(text)
        done = command("--source", source, "--out", out)
        assert (
            done.returncode == 1
            and f"{source}{told}" in done.stderr
            and "Traceback" not in done.stderr
        )
    assert "no C source there" in command("--source", tmp_path / "none", "--out", out).stderr
    assert "O7" in command("--source", source, "--out", out, "--levels", "O3,O7").stderr
    assert not out.exists()
    source.write_text(json.dumps({"id": "a", "source": DIGITS}))
    out.write_text(json.dumps({"id": "other", "meta": {}}))
    assert "'other' is not in --source" in command("--source", source, "--out", out).stderr
    assert json.loads(out.read_text())["id"] == "other"


def test_missing_clang_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ir.os.path, "exists", lambda path: False)
    ir.clang.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="apt-get install clang-19"):
            ir.clang()
    finally:
        ir.clang.cache_clear()
