"""The picture: how many times as fast as docker-registry, case by case, with the target as a mark."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.results import Measurement, Outcome
from bench.servers import Kind

_LEFT, _WIDTH, _STEP, _TOP, _BAR = 330, 520, 26, 56, 16
_INK, _FAINT, _GOOD, _SHORT = "#24292f", "#d0d7de", "#2f81b7", "#d08a2e"


@dataclass(frozen=True)
class Bar:
    """One case."""

    title: str
    ratio: float
    target: float | None


def bars(outcomes: Sequence[Outcome]) -> list[Bar]:
    """The cases in which both registries took part in one setting, and more is better or both were to be quick."""
    found = []
    for outcome in outcomes:
        ours, theirs = (_only(outcome, kind) for kind in (Kind.STACKYARD, Kind.REFERENCE))
        if not ours or not theirs or not theirs.value:
            continue
        if "/s" in outcome.unit:
            found.append(Bar(outcome.title, ours.value / theirs.value, _target(outcome)))
        elif outcome.unit == "s" and outcome.cost_unit:
            found.append(Bar(outcome.title, theirs.value / ours.value, _target(outcome)))
    return found


def _only(outcome: Outcome, kind: Kind) -> Measurement | None:
    mine = [measured for name, measured in outcome.measured.items() if name.partition(",")[0] == kind]
    return mine[0] if len(mine) == 1 else None


def draw(outcomes: Sequence[Outcome]) -> str:
    """An SVG of its own, readable on light and dark pages."""
    drawn = bars(outcomes)
    most = max([10.0, *(max(bar.ratio, bar.target or 0) for bar in drawn)])
    decades = max(1, math.ceil(math.log10(most)))
    height = _TOP + _STEP * len(drawn) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 90}" height="{height}" '
        f'viewBox="0 0 {_LEFT + _WIDTH + 90} {height}" font-family="sans-serif" font-size="13" fill="{_INK}">',
        '<rect width="100%" height="100%" rx="6" fill="#ffffff"/>',
        '<text x="16" y="26" font-size="16" font-weight="bold">Times as fast as docker-registry 2.8.2</text>',
        f'<text x="{_LEFT + _WIDTH + 74}" y="26" text-anchor="end">a mark is the target</text>',
        *_axis(decades, height),
        *(part for row, bar in enumerate(drawn) for part in _bar(bar, row, decades)),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _target(outcome: Outcome) -> float | None:
    for verdict in outcome.verdicts:
        if verdict.goal.startswith("≥") and verdict.goal.endswith(Kind.REFERENCE):
            return float(verdict.goal.split()[1].removesuffix("x"))
    return None


def _x(ratio: float, decades: int) -> float:
    """Half of docker-registry's speed is the left edge; every decade is as wide as the next."""
    low = math.log10(0.5)
    return _LEFT + _WIDTH * (math.log10(max(ratio, 0.5)) - low) / (decades - low)


def _axis(decades: int, height: int) -> Iterator[str]:
    for power in range(decades + 1):
        for step in (1, 2, 5) if power < decades else (1,):
            x, colour = _x(step * 10**power, decades), _INK if step * 10**power == 1 else _FAINT
            yield f'<line x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - 30}" stroke="{colour}"/>'
            yield f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle">{step * 10**power}</text>'


def _bar(bar: Bar, row: int, decades: int) -> Iterator[str]:
    y, end, start = _TOP + _STEP * row, _x(bar.ratio, decades), _x(1, decades)
    colour = _SHORT if bar.target and bar.ratio < bar.target else _GOOD
    left, width = min(start, end), max(abs(end - start), 1)
    yield f'<text x="{_LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(bar.title)}</text>'
    yield f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>'
    if bar.target:
        mark = _x(bar.target, decades)
        yield f'<line x1="{mark:.1f}" y1="{y - 3}" x2="{mark:.1f}" y2="{y + 19}" stroke="{_INK}" stroke-width="2"/>'
    number = max(end, _x(bar.target, decades)) if bar.target else end
    yield f'<text x="{number + 6:.1f}" y="{y + 13}">{bar.ratio:.3g}</text>'
