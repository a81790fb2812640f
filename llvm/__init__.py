"""The room behind ir.py: C sources and LLVM IR.

In: C sources (sources.py), function by function (split.py). Out: edits of them (mutate.py), their
IR at several optimisation levels (compile.py), and whether a text behaves like its source
(compare.py). The latter runs both in the sandbox: driver.c calls what drive.py finds in the
source, on memory that layout.py lays out for the types of debug_info.py, with the values that
inputs.py draws.

A source that cannot be handled raises Rejected, with the reason. Needs clang, and the sandbox of
judge/. Imports no torch.
"""

from llvm.compare import (
    MIN_INPUTS,
    STEPS,
    Outcome,
    check_driven,
    compare_with_source,
    offered_inputs,
    which_assemble,
)
from llvm.compile import (
    CPP,
    LEVELS,
    Rejected,
    clang,
    has_sanitizers,
    length,
    normalise,
    optimised,
    unoptimised,
    winners,
)
from llvm.mutate import Edit, applied, edits, without_a_line
from llvm.sources import read_sources
from llvm.split import split

__all__ = [
    "CPP",
    "LEVELS",
    "MIN_INPUTS",
    "STEPS",
    "Edit",
    "Outcome",
    "Rejected",
    "applied",
    "check_driven",
    "clang",
    "compare_with_source",
    "edits",
    "has_sanitizers",
    "length",
    "normalise",
    "offered_inputs",
    "optimised",
    "read_sources",
    "split",
    "unoptimised",
    "which_assemble",
    "winners",
    "without_a_line",
]
