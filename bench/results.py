"""What was measured, what was to be reached, and whether it was."""

import statistics
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Measurement:
    """One contestant in one case."""

    values: list[float] = field(default_factory=list)
    """One per round, in the case's unit."""
    costs: list[float] = field(default_factory=list)
    """CPU seconds of the server per unit of work, one per round."""
    pss: float | None = None
    """MB afterwards."""

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def cost(self) -> float | None:
        return statistics.median(self.costs) if self.costs else None


Measurements = Mapping[str, Measurement]


@dataclass(frozen=True)
class Verdict:
    """A goal, what came of it, and whether that is enough."""

    of: str
    """The contestant."""
    goal: str
    got: str
    reached: bool


class Goal(Protocol):
    """Something that the issue asks of a case."""

    @abstractmethod
    def judge(self, measured: Measurements) -> Verdict | None:
        """None when what it compares was not measured."""


@dataclass(frozen=True)
class Faster:
    """`ours` does at least `least` times what `other` does."""

    least: float
    other: str
    ours: str = "Stackyard"

    def judge(self, measured: Measurements) -> Verdict | None:
        if not {self.ours, self.other} <= measured.keys():
            return None
        ratio = _ratio(measured[self.ours].values, measured[self.other].values)
        return Verdict(self.ours, f"≥ {self.least:g}x {self.other}", f"{ratio:.2f}x", ratio >= self.least)


@dataclass(frozen=True)
class Cheaper:
    """`ours` spends at most `most` times the CPU seconds of `other`."""

    most: float
    other: str
    ours: str = "Stackyard"

    def judge(self, measured: Measurements) -> Verdict | None:
        if not {self.ours, self.other} <= measured.keys():
            return None
        ratio = _ratio(measured[self.ours].costs, measured[self.other].costs)
        return Verdict(self.ours, f"≤ {self.most:g}x the CPU of {self.other}", f"{ratio:.2f}x", ratio <= self.most)


@dataclass(frozen=True)
class Sooner:
    """`ours` needs at most the `least`th part of the seconds that `other` needs."""

    least: float
    other: str
    ours: str = "Stackyard"

    def judge(self, measured: Measurements) -> Verdict | None:
        if not {self.ours, self.other} <= measured.keys():
            return None
        ratio = _ratio(measured[self.other].values, measured[self.ours].values)
        return Verdict(self.ours, f"≥ {self.least:g}x {self.other}", f"{ratio:.3g}x", ratio >= self.least)


@dataclass(frozen=True)
class AtLeast:
    """Stackyard does at least `least` of the case's unit."""

    least: float
    unit: str

    def judge(self, measured: Measurements) -> Verdict | None:
        if "Stackyard" not in measured:
            return None
        value = measured["Stackyard"].value
        return Verdict("Stackyard", f"≥ {self.least:g} {self.unit}", f"{value:.4g} {self.unit}", value >= self.least)


@dataclass(frozen=True)
class AtMost:
    """Stackyard needs at most `most` of the case's unit."""

    most: float
    unit: str

    def judge(self, measured: Measurements) -> Verdict | None:
        if "Stackyard" not in measured:
            return None
        value = measured["Stackyard"].value
        return Verdict("Stackyard", f"≤ {self.most:g} {self.unit}", f"{value:.3g} {self.unit}", value <= self.most)


def _ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of the rounds' ratios: the turns of one round lie side by side in time, so they met the same load."""
    return statistics.median(mine / (other or 1) for mine, other in zip(ours, others, strict=True))


@dataclass(frozen=True)
class Outcome:
    """A case after its run, or why it has none."""

    name: str
    title: str
    unit: str
    cost_unit: str
    measured: Measurements
    verdicts: Sequence[Verdict]
    strangers: float = 0
    """Cores that processes which are no part of this kept busy meanwhile."""
    failure: str = ""
    missing: bool = False
    """Whether it has none only because this machine has not what it needs."""
