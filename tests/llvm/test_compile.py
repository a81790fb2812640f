"""llvm/compile.py: normalised IR is short, and still the same code."""

import pytest

import llvm
import llvm.compile
from c_sources import LOOP, NUMBERS, SWITCH, assemble_as_one, need_clang_and_sandbox

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
    # a variable may be called like an attribute
    assert "%returned" in llvm.winners(SWITCH, ["O0"])["O0"]
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


def test_canonical_sees_through_names_only():
    text = llvm.winners(LOOP, ["Oz"])["Oz"]
    renamed = text.replace("%rem", "%other").replace("for.body", "body")
    assert llvm.canonical(renamed) == llvm.canonical(text)
    changed = text.replace("i32 0, %a", "i32 1, %a")
    assert llvm.canonical(changed) != llvm.canonical(text)


def test_missing_clang_says_what_to_install(monkeypatch):
    monkeypatch.setattr(llvm.compile.os.path, "exists", lambda path: False)
    llvm.clang.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="apt-get install clang-19"):
            llvm.clang()
    finally:
        llvm.clang.cache_clear()
