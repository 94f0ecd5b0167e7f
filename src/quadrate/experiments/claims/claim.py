"""Claims, verdicts, and the rules that let an interval decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from quadrate.core.table import number
from quadrate.evaluation.intervals import mean_interval
from quadrate.experiments.reports.summary import Row

Answer = Literal["yes", "no", "undecided"]
_WORDS: dict[Answer, str] = {"yes": "holds", "no": "does not hold", "undecided": "undecided"}


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, in a form that numbers can decide.

    Attributes:
        paper: The paper's short name: uRDP, URDC, RDPC, lossyless.
        text: The claim, in a line.
        published: The paper's measurement or proof, in words that follow "published".
        rule: When the claim holds; it is undecided if neither this nor its opposite is sure.
        of_published_data: Whether the claim compares with published numbers, which hold for the
            paper's data only.
    """

    paper: str
    text: str
    published: str
    rule: str
    of_published_data: bool = False


@dataclass(frozen=True)
class Check:
    """A claim and a function that decides it: rows to the measurement in words and the answer."""

    claim: Claim
    decide: Callable[[Sequence[Row]], tuple[str, Answer]]


@dataclass(frozen=True)
class Verdict:
    """A claim decided by measurements.

    Attributes:
        claim: The claim.
        measured: The numbers with their 95 % intervals.
        holds: "undecided" if the interval holds both answers, or there is only one seed.
        seeds: The number of seeds; 0 if nothing is random.
        command: The command that measures it again.
        data: The data measured on, if they are not the paper's.
    """

    claim: Claim
    measured: str
    holds: Answer
    seeds: int
    command: str
    data: str = ""

    @property
    def word(self) -> str:
        """The answer as it reads in a sentence."""
        return _WORDS[self.holds]

    @property
    def line(self) -> str:
        """The verdict in one line."""
        return f"{self.claim.text}: published {self.claim.published}; here {self.here}: {self.word}"

    @property
    def here(self) -> str:
        """The measurement, with the number of seeds and the data."""
        seeds = f"{self.seeds} {'seed' if self.seeds == 1 else 'seeds'}" if self.seeds else ""
        where = ", ".join(filter(None, (seeds, self.data)))
        return f"{self.measured} ({where})" if where else self.measured


class Spread(NamedTuple):
    """A mean over seeds with its 95 % t-interval, which is NaN for one seed."""

    mean: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Spread:
        """The spread of one number for each seed."""
        return cls(*mean_interval(list(values)))

    @classmethod
    def of(cls, found: Mapping[str, Any], name: str) -> Spread:
        """The spread of a comparison (`quadrate.experiments.claims.comparisons`)."""
        return cls(found[name], found[f"{name}_low"], found[f"{name}_high"])

    def percent(self) -> Spread:
        """A ratio as an excess over 1, in percent."""
        return Spread(*(100 * (value - 1) for value in self))

    def below(self, limit: float) -> Answer:
        """Whether the whole interval lies below a limit; "no" if it lies above."""
        return "yes" if self.high < limit else "no" if self.low > limit else "undecided"

    def above(self, limit: float) -> Answer:
        """Whether the whole interval lies above a limit; "no" if it lies below."""
        return opposite(self.below(limit))

    def text(self, decimals: int, unit: str = "", sign: str = "") -> str:
        """For a reader: `1.9 % [-1.6, 5.4]`."""
        ends = (
            ""
            if math.isnan(self.low)
            else f" [{number(self.low, decimals, sign)}, {number(self.high, decimals, sign)}]"
        )
        return f"{number(self.mean, decimals, sign)}{unit}{ends}"


def opposite(answer: Answer) -> Answer:
    """The answer to the opposite question."""
    opposites: dict[Answer, Answer] = {"yes": "no", "no": "yes", "undecided": "undecided"}
    return opposites[answer]


def all_of(answers: Iterable[Answer]) -> Answer:
    """Whether all are yes; no if any is no."""
    found = set(answers)
    return "no" if "no" in found else "yes" if found == {"yes"} else "undecided"
