"""What the judge says of an answer."""

from dataclasses import dataclass

STATUSES = ("AC", "WA", "CE", "RE", "TLE", "MLE", "OLE", "NC", "JE")


@dataclass(frozen=True)
class Verdict:
    status: str  # of STATUSES
    reward: float | None
    detail: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    guarded: bool | None = (
        None  # a harness problem: passes by the guarded rule too; None if it has no guard
    )


def judge_error(detail: str) -> Verdict:
    """Our fault: no reward at all, never 0."""
    return Verdict("JE", None, detail)
