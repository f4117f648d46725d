"""The results as text: lines while it runs, a table, and the page in docs/."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import chart
from bench.results import Measurement, Outcome, Verdict
from bench.servers import Kind

_HEADER = (
    "Case",
    "Target",
    *map(str, Kind),
    "Got",
    "Reached",
    "CPU: Stackyard / docker-registry / nginx",
    "PSS after, MB: Stackyard / docker-registry",
)


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


def table(result: Result) -> str:
    """The cases as a Markdown table."""
    rows = [row for outcome in result.outcomes for row in _rows(outcome)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [_HEADER, ["---"] * len(_HEADER), *rows])


def write(result: Result, docs: Path) -> None:
    """The page and its picture."""
    docs.mkdir(exist_ok=True)
    (docs / "benchmarks.md").write_text(_page(result))
    (docs / "benchmarks.svg").write_text(chart.draw(result.outcomes))


def _rows(outcome: Outcome) -> Iterator[Sequence[str]]:
    """A row per setting that was compared."""
    if outcome.failure:
        yield [outcome.title, outcome.failure.splitlines()[0][:200], *[""] * (len(_HEADER) - 2)]
        return
    for setting in dict.fromkeys(name.partition(",")[2] for name in outcome.measured):
        suffix = f",{setting}" if setting else ""
        mine = [outcome.measured.get(f"{kind}{suffix}") for kind in Kind]
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


def _page(result: Result) -> str:
    reached = [verdict.reached for outcome in result.outcomes for verdict in outcome.verdicts]
    return _TEXT.format(
        reached=sum(reached),
        goals=len(reached),
        table=table(result),
        machine="\n".join(f"- {name}: {value}" for name, value in result.machine.items()),
        strangers=_strangers(result.outcomes),
        versions="\n".join(f"- {name}: {value}" for name, value in result.versions.items()),
        warning=_warning(result),
    )


_TEXT = """<!-- Written by `make bench`; edit bench/report.py instead. -->
# Benchmarks

Stackyard beside Debian's docker-registry on one machine, in one run; nginx, which only sends files, is the ceiling.
{reached} of {goals} targets are reached.
{warning}
![How many times as fast as docker-registry](benchmarks.svg)

{table}

## How to read it

- Each server takes its turn at a case, then the next one does, several rounds long, in opposite order every other
  round. The median counts, and for what was got the median of the rounds' ratios. One turn before that warms up and
  does not count (it holds each worker's first login).
- The load comes from the same cores: a server that needs less CPU leaves more to its clients, as in life.
- CPU is user and system time of all processes of the server, from /proc, per request, push or GB (10⁹ bytes).
- PSS is memory in which pages shared between processes count once. For the last two cases it is the memory before.
- All servers have their access log off and log errors only, except in the row that says defaults. Both registries use
  the same config file, docker-registry with the in-memory cache that its package and image switch on.
- Nothing is switched off: pushed bytes and rows are on the disk before the answer.
- Manifests are 1.5 KiB. Small answers are asked for by wrk over 32 connections, HEAD by an epoll loop over as many,
  blobs by four connections that read and drop the bytes (over TLS they offer the ciphers in the order in which docker
  does), listings by wrk over four. A 1 KiB blob is pushed by POST and
  PUT, a large layer by POST, PATCH and PUT as Docker does it, one at a time.
- The catalogue is asked for page after page. For it and for the start, 10 000 repositories hold 10 manifests each;
  docker-registry, which looks only at the names of folders there, has just the folders.
- The growth of a push is the straight line through the time per push of ten windows of 1 000: a config that is there, a
  layer of 1 KiB and a manifest with a tag of its own, 8 clients, all to one repository.

## The machine

{machine}
- meanwhile: {strangers}

## The programs

{versions}

## Run it

    make bench                                  # all of it, about 20 minutes; writes this page
    .venv/bin/python -m bench --quick           # small sizes, about a minute
    .venv/bin/python -m bench --list
    .venv/bin/python -m bench --only blob-1m ready

It needs wrk, docker-registry and nginx (Debian packages) and, in full, 40 GB of disk; it uses the loopback interface
only, ends its servers and removes their data. All numbers of the last run are in build/bench/.
"""
