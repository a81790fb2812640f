"""The room behind problems.py: problem sets that people have, read, run and compared.

In: files and folders of published sets (readers.py for rows, packages.py for problem packages).
Out: Problems, records of one form (record.py); what their solutions do on their tests, in the
sandbox of judge/ (running.py); programs with one edit, to see what the tests catch (mutants.py);
and which problems are nearly the same (overlap.py).

A malformed file raises ValueError, which names file, row and field. A problem of a kind that
cannot be used is read and marked as refused. Imports no torch.
"""

from problemsets.mutants import mutants
from problemsets.overlap import Evaluation, clusters, features
from problemsets.readers import FORMATS, read_problem_sets
from problemsets.record import Case, Problem, Refused, Solution
from problemsets.running import ELSEWHERE, half_limit_s, outcomes

__all__ = [
    "ELSEWHERE",
    "FORMATS",
    "Evaluation",
    "Problem",
    "Refused",
    "Solution",
    "Case",
    "clusters",
    "features",
    "half_limit_s",
    "mutants",
    "outcomes",
    "read_problem_sets",
]
