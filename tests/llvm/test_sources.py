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
