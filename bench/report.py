"""The results as text: lines while it runs, a table, and the page in docs/."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import chart
from bench.pages import Page
from bench.results import Measurement, Outcome, Verdict
from bench.servers import Kind

_TOO_MANY_STRANGERS = 0.2  # cores


@dataclass(frozen=True)
class Result:
    """A whole run."""

    profile: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    outcomes: Sequence[Outcome]


def lines(outcome: Outcome) -> Iterator[str]:
    """A case as lines for the terminal."""
    if outcome.failure:
        yield f"    {outcome.failure}"
    for name, measured in outcome.measured.items():
        rounds = " ".join(f"{value:.3g}" for value in measured.values)
        pss = f"{measured.pss:.0f} MB" if measured.pss else ""
        yield f"    {name:34}{_value(measured, outcome.unit):>18}  {_cost(measured, outcome):>18}  {pss:>8}  [{rounds}]"
    yield f"    others kept {outcome.strangers:.2f} cores busy"
    for verdict in outcome.verdicts:
        yield f"    {'reached' if verdict.reached else 'MISSED '} {verdict.of}: {verdict.goal}: {verdict.got}"


def table(result: Result, kinds: Sequence[Kind] = tuple(Kind)) -> str:
    """The cases as a Markdown table with a column for each program."""
    header = _header(kinds)
    rows = [row for outcome in result.outcomes for row in _rows(outcome, kinds)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def write(result: Result, docs: Path, page: Page) -> None:
    """The page and its picture."""
    docs.mkdir(exist_ok=True)
    (docs / f"{page.name}.md").write_text(_page(result, page))
    (docs / f"{page.name}.svg").write_text(chart.draw(result.outcomes))


def read(file: Path) -> Result:
    """A result that was stored."""
    stored = json.loads(file.read_text())
    outcomes = [
        Outcome(
            **{
                **one,
                "measured": {name: Measurement(**measured) for name, measured in one["measured"].items()},
                "verdicts": [Verdict(**verdict) for verdict in one["verdicts"]],
            }
        )
        for one in stored.pop("outcomes")
    ]
    return Result(**stored, outcomes=outcomes)


def _header(kinds: Sequence[Kind]) -> Sequence[str]:
    costs, memory = " / ".join(kinds), " / ".join(kinds[:2])
    return "Case", "Target", *map(str, kinds), "Got", "Reached", f"CPU: {costs}", f"PSS after, MB: {memory}"


def _rows(outcome: Outcome, kinds: Sequence[Kind]) -> Iterator[Sequence[str]]:
    """A row per setting that was compared."""
    if outcome.failure:
        yield [outcome.title, outcome.failure.splitlines()[0][:200], *[""] * (len(_header(kinds)) - 2)]
        return
    for setting in dict.fromkeys(name.partition(",")[2] for name in outcome.measured):
        suffix = f",{setting}" if setting else ""
        mine = [outcome.measured.get(f"{kind}{suffix}") for kind in kinds]
        verdicts = [verdict for verdict in outcome.verdicts if verdict.of == f"{Kind.STACKYARD}{suffix}"]
        several = len({name.partition(",")[2] for name in outcome.measured}) > 1
        yield _row(outcome, f"{outcome.title}:{setting or ' none'}" if several else outcome.title, mine, verdicts)


def _row(
    outcome: Outcome, title: str, measured: Sequence[Measurement | None], verdicts: Sequence[Verdict]
) -> Sequence[str]:
    costs = [_cost(one, outcome) if one else "" for one in measured]
    memory = [f"{one.pss:.0f}" if one and one.pss else "" for one in measured[:2]]
    return [
        title,
        "<br>".join(verdict.goal for verdict in verdicts),
        *(_value(one, outcome.unit) if one else "" for one in measured),
        "<br>".join(verdict.got for verdict in verdicts),
        "<br>".join("yes" if verdict.reached else "**no**" for verdict in verdicts),
        " / ".join(cost for cost in costs if cost),
        " / ".join(one for one in memory if one),
    ]


def _value(measured: Measurement, unit: str) -> str:
    value = measured.value
    return f"{value:,.0f} {unit}".replace(",", " ") if value >= 100 else f"{value:.3g} {unit}"


def _cost(measured: Measurement, outcome: Outcome) -> str:
    if measured.cost is None or not outcome.cost_unit:
        return ""
    if outcome.cost_unit == "GB":
        return f"{measured.cost:.2f} s/GB"
    if measured.cost >= 1:
        return f"{measured.cost:.3g} s"
    micros = measured.cost * 1e6
    return f"{micros:.0f} µs" if micros < 1000 else f"{micros / 1000:.3g} ms"


def _strangers(outcomes: Sequence[Outcome]) -> str:
    """What else ran on the machine."""
    return f"other processes kept {_most(outcomes):.2f} cores busy at most, on average over a case"


def _most(outcomes: Sequence[Outcome]) -> float:
    return max((outcome.strangers for outcome in outcomes), default=0)


def _warning(result: Result) -> str:
    if result.profile != "full":
        return "\n**A short run with small sizes: it shows only that all of it works.**\n"
    if _most(result.outcomes) > _TOO_MANY_STRANGERS:
        return "\n**The machine was busy with other work: only the CPU columns of this run mean something.**\n"
    return ""


def _page(result: Result, page: Page) -> str:
    reached = [verdict.reached for outcome in result.outcomes for verdict in outcome.verdicts]
    return page.text.format(
        reached=sum(reached),
        goals=len(reached),
        table=table(result, page.kinds),
        machine="\n".join(f"- {name}: {value}" for name, value in result.machine.items()),
        strangers=_strangers(result.outcomes),
        versions="\n".join(f"- {name}: {value}" for name, value in result.versions.items()),
        warning=_warning(result),
    )
