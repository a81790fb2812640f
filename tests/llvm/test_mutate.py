"""llvm/mutate.py: every operator makes small edits, and its text assembles."""

import random

import pytest

import llvm
from c_sources import LOOP, assemble_as_one, need_clang_and_sandbox
from llvm.mutate import constant, odds, opcode, predicate, swap_branch, swap_operands

need_clang_and_sandbox()


MORE = "int g(int a, int b) { if (a) a -= b; else a += b; return a; }"


def test_each_operator_makes_text_that_assembles():
    programs = llvm.unoptimised(LOOP + MORE, ["O0", "Oz"])
    texts = []
    for operator in llvm.OPERATORS:
        mutants = llvm.mutants(programs, [operator], 6, random.Random(0))
        assert mutants and all(mutant.operator is operator for mutant in mutants)
        texts += [mutant.ir for mutant in mutants]
        for mutant in mutants:  # loops keep their steps
            assert not mutant.was.startswith("  %inc")
    texts = llvm.optimised(("O1", text) for text in texts)
    assert all(texts)
    assert assemble_as_one(texts)


@pytest.mark.parametrize(
    "operator, line, expected",
    [
        (predicate, "  %c = icmp slt i32 %a, 3", {"  %c = icmp sle i32 %a, 3"}),
        (predicate, "  %c = icmp ne i32 %a, 3", {"  %c = icmp eq i32 %a, 3"}),
        (swap_operands, "  %c = sub nsw i32 %b, %a", {"  %c = sub nsw i32 %a, %b"}),
        (swap_operands, "  %c = sub nsw i32 0, %a", set()),  # nobody writes n - 0
        (swap_operands, "  %c = add nsw i32 %b, %a", set()),
        (
            constant,
            "  %c = phi i32 [ 7, %b.1 ], [ %d12, %e ]",
            {
                "  %c = phi i32 [ 8, %b.1 ], [ %d12, %e ]",
                "  %c = phi i32 [ 6, %b.1 ], [ %d12, %e ]",
            },
        ),
        (
            constant,
            "  store i32 7, ptr %s, align 4, !tbaa !5",
            {
                "  store i32 8, ptr %s, align 4, !tbaa !5",
                "  store i32 6, ptr %s, align 4, !tbaa !5",
            },
        ),
        (constant, "  %c = getelementptr [4 x i32], ptr @t, i64 0, i64 1", set()),
        (constant, "  store <4 x i16> %c, ptr %d, align 8", set()),
        (
            opcode,
            "  %c = add nuw nsw <4 x i32> %a, %b",
            {"  %c = sub nuw nsw <4 x i32> %a, %b", "  %c = mul nuw nsw <4 x i32> %a, %b"},
        ),
        (
            opcode,
            "  %c = or disjoint i32 %a, %b",
            {"  %c = and i32 %a, %b", "  %c = xor i32 %a, %b"},
        ),
        (
            swap_branch,
            "  br i1 %c, label %if.then, label %if.else",
            {"  br i1 %c, label %if.else, label %if.then"},
        ),
        (swap_branch, "  br i1 %c, label %for.body, label %for.end", set()),
        (swap_branch, "  br i1 %c, label %if.then, label %if.end", set()),
    ],
)
def test_operators_by_line(operator, line, expected):
    assert set(operator(line)) == expected


def test_an_edit_is_as_rare_as_its_result():
    """One of two directions is always taken, the other as often as makes their flows equal."""
    ten, nine = "  %c = srem i32 %a, 10", "  %c = srem i32 %a, 9"
    assert odds(nine, ten) > 1 > odds(ten, nine) == pytest.approx(1 / odds(nine, ten))
    less, at_most = "  %c = icmp slt i32 %a, %b", "  %c = icmp sle i32 %a, %b"
    assert odds(less, at_most) == pytest.approx(48 / 211)
    text = llvm.unoptimised("int f(int a, int b) { return a < b; }", ["O1"])
    made = 0
    for seed in range(200):
        made += len(llvm.mutants(text, [predicate], 1, random.Random(seed)))
    assert 25 < made < 68  # 45 are expected
