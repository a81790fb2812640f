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


def test_files_of_cpp_say_so(tmp_path):
    for name in ("a.c", "a.cpp", "b.cc", "c.cxx", "d.h"):
        (tmp_path / name).write_text(DIGITS)
    rows = llvm.read_sources(tmp_path)
    ids = {row["id"]: row.get("language") for row in rows}
    assert ids == {"a": None, "a.cpp": "cpp", "b.cc": "cpp", "c.cxx": "cpp"}
    table = tmp_path / "rows.jsonl"
    table.write_text('{"id": "x", "source": "int f;", "language": "rust"}')
    with pytest.raises(ValueError, match='rows.jsonl:1: "language" must be "c" or "cpp"'):
        llvm.read_sources(table)


def test_headers_beside_a_file_are_written_into_it(tmp_path):
    """So are those of --include, but nothing from outside of what the user named."""
    sources, headers = tmp_path / "c", tmp_path / "headers"
    sources.mkdir()
    headers.mkdir()
    (tmp_path / "secret.h").write_text("int secret;\n")
    (headers / "two.h").write_text("#define TWO 2\n")
    (sources / "one.h").write_text('#include "two.h"\n#include "one.h"\n#define ONE 1\n')
    text = '#include <math.h>\n # include "one.h" // why\nint f(int a) { return a * ONE + TWO; }\n'
    (sources / "f.c").write_text(text + '#include "../secret.h"\n#include "none.h"\n')
    (row,) = llvm.read_sources(sources, include=[headers])
    assert row["source"] == (
        "#include <math.h>\n#define TWO 2\n\n\n#define ONE 1\n\n"
        "int f(int a) { return a * ONE + TWO; }\n"
        '#include "../secret.h"\n#include "none.h"\n'
    )
    (row,) = llvm.read_sources(sources)
    assert '#include "two.h"\n' in row["source"]
