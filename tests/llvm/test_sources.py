"""llvm/sources.py: what counts as a C source, and by which id."""

import pytest

import llvm
from c_sources import DIGITS, need_clang_and_sandbox

need_clang_and_sandbox()


def test_folder_and_file(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "digits.c").write_text(DIGITS)
    (tmp_path / "latin1.c").write_bytes(b"int f(int a) { return a; } // \xe9\n")
    rows = llvm.read_sources(tmp_path)
    assert [row["id"] for row in rows] == ["c/digits", "latin1"]
    one_file = llvm.read_sources(tmp_path / "c" / "digits.c")
    assert one_file == [{"id": "digits", "source": DIGITS}]
    with pytest.raises(llvm.Rejected, match="not UTF-8"):
        llvm.winners(rows[1]["source"], ["O1"])
