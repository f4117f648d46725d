"""The health checks that the configuration asks for, as probes."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from stackyard.config.health import Health, HttpCheck, TcpCheck
from stackyard.config.http import split_address
from stackyard.jobs.health import Check


class Unhealthy(Exception):
    """What is wrong, in words."""


def checks(health: Health, storage: Callable[[], Awaitable[None]]) -> list[Check]:
    """Distribution's four kinds. `storage` proves that the store and the database answer."""
    driver = health.storagedriver
    found = [Check("storagedriver", storage, driver.interval, driver.threshold or 1)] if driver.enabled else []
    found += [
        Check(one.file, partial(_absent, Path(one.file)), one.interval, one.threshold or 1) for one in health.file
    ]
    found += [Check(one.uri, partial(_head, one), one.interval, one.threshold or 1, one.timeout) for one in health.http]
    found += [
        Check(one.addr, partial(_connect, one), one.interval, one.threshold or 1, one.timeout) for one in health.tcp
    ]
    return found


async def _absent(path: Path) -> None:
    if await asyncio.to_thread(path.exists):
        raise Unhealthy("the file exists")


async def _connect(check: TcpCheck) -> None:
    host, port = split_address(check.addr)
    _, writer = await asyncio.open_connection(host or "localhost", port)
    writer.close()
    await writer.wait_closed()


async def _head(check: HttpCheck) -> None:
    status = await asyncio.to_thread(_status, check)
    if status != check.statuscode:
        raise Unhealthy(f"answers {status}, not {check.statuscode}")


def _status(check: HttpCheck) -> int:
    request = urllib.request.Request(check.uri, method="HEAD")  # noqa: S310 - config takes http and https only
    for name, values in check.headers.items():
        for value in values:
            request.add_header(name, value.get_secret_value())
    try:
        with urllib.request.urlopen(request, timeout=check.timeout.total_seconds()) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
