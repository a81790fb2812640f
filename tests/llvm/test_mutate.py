"""llvm/mutate.py: every operator makes small edits, and its text assembles."""

import random

import pytest

import llvm
from c_sources import LOOP, assemble_as_one, need_clang_and_sandbox
from llvm.mutate import constant, drop_instruction, opcode, predicate, swap_branch, swap_operands

need_clang_and_sandbox()


def test_each_operator_makes_text_that_assembles():
    winners = llvm.winners(LOOP, ["O0"]) | llvm.winners(LOOP, ["Oz"])
    texts = []
    for operator in llvm.OPERATORS:
        mutants = llvm.mutants(winners, [operator], 6, random.Random(0))
        assert mutants and all(mutant.operator is operator for mutant in mutants)
        texts += [mutant.ir for mutant in mutants]
    assert assemble_as_one(texts)


@pytest.mark.parametrize(
    "operator, line, expected",
    [
        (
            predicate,
            "  %c = icmp slt i32 %a, 3",
            {"  %c = icmp sle i32 %a, 3", "  %c = icmp sgt i32 %a, 3", "  %c = icmp sge i32 %a, 3"},
        ),
        (swap_operands, "  %c = sub nsw i32 0, %a", {"  %c = sub nsw i32 %a, 0"}),
        (swap_operands, "  %c = add nsw i32 0, %a", set()),
        (
            constant,
            "  %c = phi i32 [ 7, %b.1 ], [ %d12, %e ]",
            {
                "  %c = phi i32 [ 8, %b.1 ], [ %d12, %e ]",
                "  %c = phi i32 [ 6, %b.1 ], [ %d12, %e ]",
            },
        ),
        (constant, "  %c = getelementptr [4 x i32], ptr @t, i64 0, i64 1", set()),
        (constant, "  store <4 x i16> %c, ptr %d, align 8", set()),
        (opcode, "  %c = add nuw nsw <4 x i32> %a, %b", {"  %c = sub nuw nsw <4 x i32> %a, %b"}),
        (opcode, "  %c = or disjoint i32 %a, %b", {"  %c = and i32 %a, %b"}),
        (
            opcode,
            "  %c = call i32 @llvm.smax.i32(i32 %b, i32 0)",
            {"  %c = call i32 @llvm.smin.i32(i32 %b, i32 0)"},
        ),
        (drop_instruction, "  ret i32 %a", set()),
        (swap_branch, "  br i1 %c, label %x, label %y", {"  br i1 %c, label %y, label %x"}),
    ],
)
def test_operators_by_line(operator, line, expected):
    assert set(operator(line)) == expected
