"""Events, in the three formats of registry:2."""

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from stackyard.telemetry import logs

Read = Callable[[], str]


@pytest.fixture
def configure() -> Iterator[Callable[..., Read]]:
    """Configure logs for this test; returns what reads them."""
    handlers, level = logging.root.handlers[:], logging.root.level
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def read() -> str:
        try:
            return os.read(reader, 1 << 16).decode()
        except BlockingIOError:
            return ""

    def begin(**settings: Any) -> Read:
        logs.configure(fd=writer, **settings)
        return read

    yield begin
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    os.close(reader)
    os.close(writer)


def test_text_is_logfmt_with_the_keys_of_registry_2(configure: Callable[..., Read]) -> None:
    read = configure(fields={"environment": "my prod"})
    structlog.get_logger("server").info("now serving", address="http://[::]:5000", workers=2)

    time, _, rest = read().partition(" ")
    assert re.fullmatch(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"', time)
    assert rest == (
        'level=info msg="now serving" part=server environment="my prod" address=http://[::]:5000 workers=2\n'
    )


def test_foreign_text_stays_in_its_quotes(configure: Callable[..., Read]) -> None:
    read = configure()
    structlog.get_logger("http").warning('odd "thing"\nlevel=error', path='/a"\n b=c', empty="", number=None)

    line = read()
    assert line.count("\n") == 1
    assert r'msg="odd \"thing\"\nlevel=error" part=http path="/a\"\n b=c" empty="" number=None' in line


def test_json_and_logstash_are_objects_with_their_keys(configure: Callable[..., Read]) -> None:
    read = configure(formatter="json", fields={"environment": "prod"})
    structlog.get_logger("server").error("odd\n", count=1, thing=b"x")
    row = json.loads(read())
    assert row.pop("time").endswith("Z")
    assert row == {
        "level": "error",
        "msg": "odd\n",
        "part": "server",
        "environment": "prod",
        "count": 1,
        "thing": "b'x'",
    }

    read = configure(formatter="logstash")
    structlog.get_logger("server").info("odd")
    assert json.loads(read()).keys() == {"@timestamp", "@version", "level", "message", "part"}


@pytest.mark.parametrize(
    ("level", "written"),
    [("error", "e"), ("warn", "we"), ("info", "iwe"), ("debug", "diwe")],
)
def test_less_important_events_are_left_out(configure: Callable[..., Read], level: str, written: str) -> None:
    read = configure(level=level)
    log = structlog.get_logger("server")
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")

    assert "".join(re.findall(r'msg="(.)"', read())) == written


def test_traceback_is_indented_below_its_event(configure: Callable[..., Read]) -> None:
    read = configure()
    try:
        raise ValueError("broken\ntime=forged")
    except ValueError:
        structlog.get_logger("http").exception("failed", path="/v2/")

    first, *rest = read().splitlines()
    assert 'level=error msg="failed" part=http path=/v2/' in first
    assert all(line.startswith("\t") for line in rest)
    assert any("ValueError: broken" in line for line in rest)


def test_traceback_is_one_value_in_json(configure: Callable[..., Read]) -> None:
    read = configure(formatter="json")
    structlog.get_logger("http").error("failed", exc_info=ValueError("broken"))

    assert json.loads(read())["trace"] == "ValueError: broken"


def test_libraries_are_heard_from_warnings_on(configure: Callable[..., Read]) -> None:
    read = configure(level="debug")
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("odd %s", "thing")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old way", stacklevel=1)

    text = read()
    assert "chatter" not in text
    assert 'level=warning msg="odd thing" part=library' in text
    assert "old way" in text
