"""llvm/compile.py: normalised IR is short, and still the same code."""

import pytest

import llvm
import llvm.compile
from c_sources import LOOP, NUMBERS, assemble_as_one, need_clang_and_sandbox

need_clang_and_sandbox()

NOISE = "; |!|#0|source_filename|target |noundef|declare|local_unnamed_addr|lifetime".split("|")


def test_normalised_text_assembles_and_is_short():
    texts = []
    for source in NUMBERS.values():
        texts += llvm.winners(source, llvm.LEVELS).values()
    assert assemble_as_one(texts)
    for text in texts:
        for noise in NOISE:
            assert noise not in text
    # what carries meaning stays
    source = "unsigned char f(unsigned char x, int y) { return x < 9 && y > 0 ? x + y : y; }"
    assert "zeroext" in llvm.winners(source, ["Oz"])["Oz"]
    assert "nsw" in llvm.winners(LOOP, ["O1"])["O1"]


def test_strings_are_left_alone():
    string = 'c"a ; b, !x !1 #0 tail\\00", align 1'
    line = f"@s = private unnamed_addr constant [20 x i8] {string}"
    assert llvm.normalise(line) == f"@s = private constant [20 x i8] {string}\n"


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
            "define dso_local range(i32 0, 2) i32 @f(i8 noundef signext %a) "
            "local_unnamed_addr #0 {",
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
    assert llvm.normalise(line) == short + "\n"


def test_names_do_not_survive():
    """Two texts that differ in names alone become one; what else they differ in stays."""
    (text,) = llvm.unoptimised(LOOP, ["Oz"]).values()
    renamed = text.replace("%rem", "%other").replace("for.body", "body")
    assert renamed != text and llvm.normalise(renamed) == llvm.normalise(text)
    changed = text.replace("srem i32 %2, 3", "srem i32 %2, 4")
    assert llvm.normalise(changed) != llvm.normalise(text)
    numbered = llvm.normalise(text)
    assert llvm.normalise(numbered) == numbered
    assert numbered.startswith("define i32 @f(i32 %0, i32 %1) {\n  %3 = alloca i32\n")


def test_names_of_types_are_no_locals():
    text = "%struct.P = type { i32, [9 x i64] }\n"
    text += "define i32 @f(ptr byval(%struct.P) align 8 %p, i32 %P) {\nentry:\n"
    text += "  %x = getelementptr %struct.P, ptr %p, i32 0, i32 0\n  br label %struct\n"
    text += "struct:\n  ret i32 %P\n}\n"
    assert llvm.normalise(text).splitlines()[1:] == [
        "define i32 @f(ptr byval(%struct.P) align 8 %0, i32 %1) {",
        "  %3 = getelementptr %struct.P, ptr %0, i32 0, i32 0",
        "  br label %4",
        "4:",
        "  ret i32 %1",
        "}",
    ]


def test_the_two_steps_give_what_clang_gives():
    """And an edit between them is optimised as its source would be."""
    sources = [LOOP, LOOP.replace("a % 3 > i", "a % 3 >= i")]
    whole = [llvm.winners(source, ["O1", "Oz"]) for source in sources]
    text = llvm.unoptimised(LOOP, ["O1"])["O1"]
    edited = text.replace("icmp sgt i32 %rem", "icmp sge i32 %rem")
    assert edited != text
    assert llvm.optimised([("O1", text), ("O1", edited), ("O1", "x")]) == [
        whole[0]["O1"],
        whole[1]["O1"],
        None,
    ]


def test_restrict_leaves_text_that_assembles():
    source = """static int g(int *restrict a, int *restrict b, int n) {
    for (int i = 0; i < n; i++) a[i] = b[i] * 3;
    return a[0];
}
int f(int *a, int n) { int b[8] = {1, 2, 3}; return g(a, b, n & 7); }
"""
    assert all(llvm.which_assemble(list(llvm.winners(source, ["O1", "O3", "Oz"]).values())))


def test_missing_clang_says_what_to_install(monkeypatch):
    monkeypatch.setattr(llvm.compile.os.path, "exists", lambda path: False)
    llvm.clang.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="apt-get install clang-19"):
            llvm.clang()
    finally:
        llvm.clang.cache_clear()
