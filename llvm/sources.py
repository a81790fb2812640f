"""Where sources come from: files of C and C++, folders, JSONL files, and the tables of SLTrans.

A header that a source names in quotes is written into it, if it lies in the file's own folder or in
one of --include: so a row stands for itself.
"""

import hashlib
import re
from pathlib import Path

import data
from llvm.compile import MAX_SOURCE_BYTES

OWN_FIELDS = {"id": str, "source": str}
CPP_SUFFIXES = {".cpp", ".cc", ".cxx"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)".*', re.M)
MAX_NESTING = 8  # of headers
SLTRANS_FIELDS = {"Source_Code": str, "IR_Original": str}


def read_sources(*paths: Path, include=()):
    """Rows {"id", "source"} of files, of those below folders, and of JSONL files.

    A row of C++ also has "language": "cpp".
    include: folders of headers, besides the own folder of a file. -> list of dict.
    Tables of SLTrans (JSONL, or parquet if pyarrow is installed) are joined on the source text;
    their rows also have "winners", the IR of the source in each table, by the name of the table.
    Raises ValueError."""
    rows = []
    places = {}  # id -> (path, line) where it was first given
    sltrans = {}  # source -> {name of the table: IR}
    for path in paths:
        is_table = path.suffix in (".jsonl", ".parquet")
        table = data.read_table(path) if is_table else read_c_files(path, include)
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
            if row.get("language", "c") not in ("c", "cpp"):
                raise ValueError(f'{path}:{line}: "language" must be "c" or "cpp"')
            if include and is_table:
                row["source"] = with_headers(row["source"], include, include)
            rows.append(row)
    if sltrans:
        in_every = sum(len(irs) == len(paths) for irs in sltrans.values())
        print(f"SLTrans: {len(sltrans)} sources, {in_every} of them in every table")
    for source, irs in sltrans.items():
        id = hashlib.sha256(source.encode(errors="replace")).hexdigest()[:16]
        rows.append({"id": id, "source": source, "winners": irs})
    return rows


def read_c_files(path, include=()):
    """The file `path`, or those of C and C++ below it, as rows of a table.

    path: Path. include: folders. -> list of (1, row): each counts as line 1 of `path`. Raises
    ValueError."""
    folder = path.parent
    files = [path]
    if path.is_dir():
        folder = path
        files = sorted(f for f in path.rglob("*") if f.suffix in {".c", *CPP_SUFFIXES})
    if not files or not files[0].is_file():
        raise ValueError(
            f"{path}: no C source there; give a .c or .cpp file, a folder of them, or a .jsonl file"
        )
    table = []
    for file in files:
        start = file.read_bytes()[: MAX_SOURCE_BYTES + 1]  # enough to see that it is too long
        folders = [file.parent, *include]
        source = with_headers(start.decode(errors="surrogateescape"), folders, [folder, *include])
        name = file.relative_to(folder)
        row = {"id": str(name.with_suffix("")), "source": source}
        if file.suffix in CPP_SUFFIXES:
            row = {"id": str(name), "source": source, "language": "cpp"}
        table.append((1, row))
    return table


def with_headers(source, folders, allowed, above=()):
    """`source` with the headers that it names in quotes in the place of their #include lines.

    source: str. folders: where they are looked for. allowed: the folders below which they must lie,
    or a source could name any file of this machine. above: headers that lead here. -> str. What is
    not found stays as it is."""

    def header_text(include_line):
        for folder in folders:
            path = (Path(folder) / include_line[1]).resolve()
            is_allowed = any(path.is_relative_to(Path(top).resolve()) for top in allowed)
            if path in above:
                return ""
            if is_allowed and path.is_file() and len(above) < MAX_NESTING:
                text = path.read_text(errors="surrogateescape")[: MAX_SOURCE_BYTES + 1]
                inner = [path.parent, *folders[1:]]
                return with_headers(text, inner, allowed, (*above, path))
        return include_line[0]

    return INCLUDE.sub(header_text, source)
