"""The command: `python -m bench [--lifecycle | --scale] [--quick] [--only NAME …] [--list]`."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import uvloop

from bench import cases, ground, machine, pages, report, servers
from bench.cases.case import Case
from bench.field import Field, note
from bench.machine import Missing
from bench.pages import Page
from bench.profiles import FULL, QUICK, Profile
from bench.results import Outcome
from bench.servers import Kind, Programs
from bench.wire import Unexpected

ROOT = Path(__file__).parent.parent
_BUILD = ROOT / "build/bench"


def main() -> int:
    """Measure, print and store; 1 when a case could not be measured."""
    options = _options()
    every, page = _set(options)
    if options.list:
        print("\n".join(f"{case.name:24}{case.title}" for case in every))
        return 0
    profile = QUICK if options.quick else FULL
    if options.again:
        report.write(_whole(report.read(_file(page, profile)), every), ROOT / "docs", page)
        return 0
    _offer_ciphers_as_docker_does()
    programs, kinds = _programs(options)
    chosen = [case for case in every if not options.only or case.name in options.only]
    if not chosen:
        raise SystemExit("bench: no such case among these; --list names them")
    _BUILD.mkdir(parents=True, exist_ok=True)
    if not options.only:
        _file(page, profile).unlink(missing_ok=True)
    _check_space(profile)
    signal.signal(signal.SIGTERM, _interrupt)
    field = Field(Path(tempfile.mkdtemp(prefix="field-", dir=_BUILD)), profile, programs, kinds)
    try:
        if profile is FULL:
            note("filling the page cache")
            machine.fill_page_cache(field.folder)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcomes = runner.run(_measure(field, chosen, page))
        result = _result(field, outcomes, page)
        _store(result, page, docs=options.docs or not (options.quick or options.only or options.without))
    except KeyboardInterrupt:
        return 130
    finally:
        note("cleaning up")
        field.close()
    return int(any(outcome.failure and not outcome.missing for outcome in outcomes))


async def _measure(field: Field, chosen: Sequence[Case], page: Page) -> list[Outcome]:
    end = time.monotonic() + page.minutes * field.profile.share * 60
    outcomes: list[Outcome] = []
    for case in chosen:
        late = time.monotonic() > end
        outcome = _empty(case, "not measured: the run took too long") if late else await _outcome(field, case)
        note("\n".join(report.lines(outcome)))
        outcomes.append(outcome)
        _keep(_result(field, outcomes, page), page)  # a run that is ended early has not been for nothing
    return outcomes


def _result(field: Field, outcomes: Sequence[Outcome], page: Page) -> report.Result:
    versions = {**servers.versions(field.programs), **(ground.versions() if page is pages.SCALE else {})}
    return report.Result(field.profile.name, machine.facts(_BUILD), versions, outcomes)


async def _outcome(field: Field, case: Case) -> Outcome:
    note(f"{case.name}: {case.title}")
    before, began = field.strangers(), time.monotonic()
    try:
        measured = await case.run(field)
    except Missing as error:
        return replace(_empty(case, f"not measured: {error}"), missing=True)
    except (Unexpected, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return _empty(case, f"{type(error).__name__}: {error}")
    # A case that tells of another one's contest takes no time in which anybody could have been busy.
    strangers = max(0, field.strangers() - before) / max(1, time.monotonic() - began)
    verdicts = [verdict for goal in case.goals if (verdict := goal.judge(measured))]
    return Outcome(case.name, case.title, case.unit, case.cost_unit, measured, verdicts, strangers)


def _empty(case: Case, failure: str) -> Outcome:
    return Outcome(case.name, case.title, case.unit, case.cost_unit, {}, [], failure=failure)


def _keep(result: report.Result, page: Page) -> Path:
    """Beside what was measured before of other cases."""
    file = _file(page, FULL if result.profile == FULL.name else QUICK)
    if file.exists():
        names = {outcome.name for outcome in result.outcomes}
        before = [outcome for outcome in report.read(file).outcomes if outcome.name not in names]
        result = replace(result, outcomes=[*before, *result.outcomes])
    file.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False))
    return file


def _store(result: report.Result, page: Page, *, docs: bool) -> None:
    file = _keep(result, page)
    print(report.table(result, page.kinds))
    note(f"stored in {file.relative_to(ROOT)}")
    if docs:
        report.write(report.read(file), ROOT / "docs", page)
        note(f"wrote docs/{page.name}.md and docs/{page.name}.svg")


def _whole(result: report.Result, every: Sequence[Case]) -> report.Result:
    """With a row for each case that a run which was ended early did not come to."""
    measured = {outcome.name: outcome for outcome in result.outcomes}
    outcomes = [measured.get(case.name, _empty(case, "not measured: the run was ended before")) for case in every]
    return replace(result, outcomes=outcomes)


def _file(page: Page, profile: Profile) -> Path:
    return _BUILD / f"{page.name}-{profile.name}.json"


def _offer_ciphers_as_docker_does() -> None:
    """Begin anew with OpenSSL set up so: Python cannot order TLS 1.3's ciphers, and OpenSSL reads this once."""
    wanted = str(Path(__file__).with_name("openssl.cnf"))
    if os.environ.get("OPENSSL_CONF") != wanted:
        os.environ["OPENSSL_CONF"] = wanted
        os.execv(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--lifecycle", action="store_true", help="what collecting, importing and quotas cost")
    chosen.add_argument("--scale", action="store_true", help="several nodes, and an object store")
    parser.add_argument("--quick", action="store_true", help="small sizes, one short round: shows that all of it works")
    every = [case.name for case in (*cases.CORE, *cases.LIFECYCLE, *cases.SCALE)]
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=every)
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--again", action="store_true", help="write the page from the numbers that are stored")
    parser.add_argument("--docs", action="store_true", help="write the page even for a part of the run")
    parser.add_argument("--program", type=Path, metavar="FILE", help="measure this program as Stackyard")
    parser.add_argument("--without", nargs="+", default=[], metavar="SERVER", choices=[str(kind) for kind in Kind])
    return parser.parse_args()


def _set(options: argparse.Namespace) -> tuple[Sequence[Case], Page]:
    if options.scale:
        return cases.SCALE, pages.SCALE
    return (cases.LIFECYCLE, pages.LIFECYCLE) if options.lifecycle else (cases.CORE, pages.CORE)


def _programs(options: argparse.Namespace) -> tuple[Programs, frozenset[Kind]]:
    """Where they are; those that are not there do not take part."""
    ours = options.program or Path(sys.executable).parent / "stackyard"
    reference, nginx = (_which(name) for name in ("docker-registry", "nginx"))
    if shutil.which("wrk") is None or not ours.exists():
        raise SystemExit(f"bench: needs wrk and {ours}")
    kinds = {Kind.STACKYARD: ours, Kind.REFERENCE: reference, Kind.NGINX: nginx}
    for kind, path in kinds.items():
        if path is None:
            note(f"{kind} is not installed and takes no part")
    present = frozenset(kind for kind, path in kinds.items() if path and kind not in options.without)
    return Programs(ours, reference or Path(), nginx or Path()), present


def _which(name: str) -> Path | None:
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin")
    return Path(found) if found else None


def _check_space(profile: Profile) -> None:
    # Both registries keep what is pushed at once, and about as much again in all other cases.
    needed = 4 * profile.pushes * profile.layer
    if shutil.disk_usage(_BUILD).free < needed:
        raise SystemExit(f"bench: needs {needed / 1e9:.0f} GB free in {_BUILD}")


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
