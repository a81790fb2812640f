"""What the judge says about an answer."""

import json
from dataclasses import astuple, dataclass

STATUSES = ("AC", "WA", "CE", "RE", "TLE", "MLE", "OLE", "NC", "JE")


@dataclass(frozen=True)
class Verdict:
    """The result of judging one answer. reward.py explains the statuses."""

    status: str  # one of STATUSES
    reward: float | None  # Eq. 4; None for a judge error
    detail: str = ""  # what failed, in words; empty for AC
    cpu_s: float = 0.0  # CPU time of compiling and of all runs together
    wall_s: float = 0.0
    # Only for harness problems: whether the answer also passes the guarded rule; None without one.
    guarded: bool | None = None


@dataclass(frozen=True)
class Judgement:
    """A verdict, and whether to ask for it once more because the machine may be at fault."""

    verdict: Verdict
    in_doubt: bool = False

    def to_json(self):
        """The line with which a worker process answers its pool."""
        return json.dumps([astuple(self.verdict), self.in_doubt])

    @classmethod
    def from_json(cls, line):
        """The inverse of to_json. Raises ValueError for a line that is empty or cut short."""
        fields, in_doubt = json.loads(line)
        return cls(Verdict(*fields), in_doubt)


def judge_error(detail):
    """A fault of the judge: it says nothing about the answer, so there is no reward, not even 0."""
    return Verdict("JE", None, detail)
