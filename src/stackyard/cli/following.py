"""Waiting for a job and telling how far it is: a bar on a terminal, lines otherwise."""

import asyncio
import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from stackyard.cli.client import Client, Problem
from stackyard.cli.output import Output, amount, printable

_BETWEEN_LOOKS = 0.3  # seconds
_BETWEEN_LINES = 10.0  # seconds; a new step is told at once


async def accepted(api: Client, out: Output, job: dict[str, Any], *, wait: bool) -> dict[str, Any] | None:
    """What to do with an answer of 202: with `wait` the job at its end, which was well; None when nobody waits.

    Raises:
        Problem: The job failed or was cancelled.
    """
    if wait:
        return await follow(api, job)
    number, when = job["id"], " when the server starts" if api.local else ""
    out.note(f"job {number} is queued{when}; see it with: stackyard job follow {number}")
    if out.as_json:
        out.show(job, {})
    return None


async def follow(api: Client, job: dict[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """The job at its end. Interrupted, it says that the job goes on. Raises Problem when it did not end well."""
    number = job["id"]
    try:
        with _teller(quiet=quiet) as told:
            while job["finished_at"] is None:
                told.tell(job)
                await asyncio.sleep(_BETWEEN_LOOKS)
                job = await api.get(f"/jobs/{number}")
            told.tell(job)
    except asyncio.CancelledError:
        goes_on = "goes on when the server starts" if api.local else "goes on"
        sys.stderr.write(
            f"\nstackyard: job {number} {goes_on}; `stackyard job follow {number}` waits for it again, "
            f"`stackyard job cancel {number}` ends it\n"
        )
        raise
    except Problem as error:
        if error.status:
            raise
        raise Problem(f"{error}; job {number} goes on when it does: stackyard job follow {number}") from error
    if job["state"] == "failed":
        raise Problem(job["result"]["detail"], code=job["result"]["code"])
    if job["state"] == "cancelled":
        raise Problem(f"job {number} was cancelled; what it did until then stays done")
    return job


def _teller(*, quiet: bool) -> "_Teller":
    if quiet:
        return _Silence()
    return _Bar() if sys.stderr.isatty() else _Lines()


class _Teller(Protocol):
    def tell(self, job: dict[str, Any]) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Silence:
    """Nothing."""

    def tell(self, job: dict[str, Any]) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class _Lines:
    """A line at each new step, and every so often."""

    def __init__(self) -> None:
        self._told: tuple[str, str] = ("", "")
        self._at = 0.0

    def tell(self, job: dict[str, Any]) -> None:
        progress = job["progress"]
        step, far = (progress["step"], _far(progress)) if progress else (job["state"], "")
        if (step, far) == self._told or (step == self._told[0] and time.monotonic() - self._at < _BETWEEN_LINES):
            return
        self._told, self._at = (step, far), time.monotonic()
        sys.stderr.write(printable(f"job {job['id']}: {step}{far and ': '}{far}") + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class _Bar:
    """Rich's progress bar, on standard error: results go to standard output."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[far]}", markup=False),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=None, far="")

    def tell(self, job: dict[str, Any]) -> None:
        progress = job["progress"]
        if progress:
            self._bar.update(
                self._task,
                description=printable(progress["step"]),
                completed=progress["done"],
                total=progress["total"],
                far=_far(progress),
            )
        else:
            self._bar.update(self._task, description=job["state"])

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _far(progress: dict[str, Any]) -> str:
    done, total, unit = progress["done"], progress["total"], progress["unit"]
    if not done and not total:
        return ""
    return amount(done, unit) if total is None else f"{amount(done, unit)} of {amount(total, unit)}"
