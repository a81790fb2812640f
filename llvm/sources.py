"""Where C sources come from: C files, folders of them, JSONL files, and the tables of SLTrans."""

import hashlib
from pathlib import Path

import data
from llvm.compile import MAX_SOURCE_BYTES

OWN_FIELDS = {"id": str, "source": str}
SLTRANS_FIELDS = {"Source_Code": str, "IR_Original": str}


def read_sources(*paths: Path):
    """Rows {"id", "source"} of C files, of the C files below folders, and of JSONL files.

    -> list of dict.
    Tables of SLTrans (JSONL, or parquet if pyarrow is installed) are joined on the source text;
    their rows also have "winners", the IR of the source in each table, by the name of the table.
    Raises ValueError."""
    rows = []
    places = {}  # id -> (path, line) where it was first given
    sltrans = {}  # source -> {name of the table: IR}
    for path in paths:
        is_table = path.suffix in (".jsonl", ".parquet")
        table = data.read_table(path) if is_table else read_c_files(path)
        is_sltrans = bool(table) and "Source_Code" in table[0][1]
        fields = SLTRANS_FIELDS if is_sltrans else OWN_FIELDS
        for line, row in table:
            data.check_fields(f"{path}:{line}", row, fields)
        for line, row in table:
            if is_sltrans:
                irs = sltrans.setdefault(row["Source_Code"], {})
                irs.setdefault(path.stem, row["IR_Original"])
                continue
            first_path, first_line = places.setdefault(row["id"], (path, line))
            if (first_path, first_line) != (path, line):
                raise ValueError(
                    f'{path}:{line}: "id" {row["id"]!r} is already on line {first_line} of '
                    f"{first_path}; ids must be unique"
                )
            rows.append(row)
    if sltrans:
        in_every = sum(len(irs) == len(paths) for irs in sltrans.values())
        print(f"SLTrans: {len(sltrans)} sources, {in_every} of them in every table")
    for source, irs in sltrans.items():
        id = hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
        rows.append({"id": id, "source": source, "winners": irs})
    return rows


def read_c_files(path):
    """The C file `path`, or those below it, as rows of a table. path: Path.

    -> list of (1, {"id": str, "source": str}): each counts as line 1 of `path`. Raises
    ValueError."""
    folder = path.parent
    files = [path]
    if path.is_dir():
        folder = path
        files = sorted(path.rglob("*.c"))
    if not files or not files[0].is_file():
        raise ValueError(
            f"{path}: no C source there; give a .c file, a folder of them, or a .jsonl file"
        )
    table = []
    for file in files:
        start = file.read_bytes()[: MAX_SOURCE_BYTES + 1]  # enough to see that it is too long
        source = start.decode(errors="surrogateescape")
        table.append((1, {"id": str(file.relative_to(folder).with_suffix("")), "source": source}))
    return table
