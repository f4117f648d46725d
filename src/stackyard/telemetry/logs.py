"""Events: what happens in the server beside its requests. Any room says `structlog.get_logger("room")` and logs.

Text is logfmt with registry:2's keys (`time level msg`), JSON and logstash are its formats too, so whatever reads its
log reads ours. To stderr; the access log goes to stdout.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from stackyard.telemetry.lines import write_line
from stackyard.telemetry.quoting import word

STDERR = 2
_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}

Render = Callable[[dict[str, Any]], str]


def configure(
    *,
    level: Literal["error", "warn", "info", "debug"] = "info",
    formatter: Literal["text", "json", "logstash"] = "text",
    fields: Mapping[str, str] | None = None,
    fd: int = STDERR,
) -> None:
    """Settle where events go and how they look; those of libraries too, warnings and above.

    Args:
        level: The least important events still written.
        formatter: The form of a line.
        fields: Names and values added to each line.
        fd: Descriptor to write to.
    """
    shape = _Shape(_RENDER[formatter], dict(fields or {}))
    structlog.configure(
        processors=[shape],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *names: _Sink(fd, *names),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Bridge()], level=max(_LEVELS[level], logging.WARNING), force=True)
    logging.captureWarnings(True)


class _Sink:
    """Where a rendered line goes, and for which room it speaks."""

    __slots__ = ("_fd", "part")

    def __init__(self, fd: int, part: str = "") -> None:
        self._fd = fd
        self.part = part

    def write(self, line: str) -> None:
        """Write one line."""
        write_line(self._fd, line.encode(errors="backslashreplace") + b"\n")

    debug = info = warning = error = critical = msg = write


class _Shape:
    """The last processor: one event as one line."""

    def __init__(self, render: Render, fields: dict[str, str]) -> None:
        self._render = render
        self._fields = fields

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Render an event, its exception included."""
        failure = _trace(event.pop("exc_info", None))
        message = str(event.pop("event", ""))
        part = {"part": logger.part} if logger.part else {}
        row: dict[str, Any] = {"time": _now(), "level": method, "msg": message, **part, **self._fields, **event}
        if failure:
            row["trace"] = failure
        return self._render(row)


def _trace(info: Any) -> str:
    """The exception as the interpreter would print it; "" for none."""
    failure = info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else None
    if failure is None and info:
        failure = sys.exc_info()[1]
    return "".join(traceback.format_exception(failure)).rstrip() if failure else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(row: dict[str, Any]) -> str:
    failure = row.pop("trace", "")
    message = row.pop("msg")
    stamp, level = row.pop("time"), row.pop("level")
    start = f'time="{stamp}" level={level} msg="{_sentence(message)}"'
    line = " ".join([start, *(f"{name}={word(_plain(value))}" for name, value in row.items())])
    # A trace is for people: indented, so that none of its lines can pass for one of ours.
    return line + "".join(f"\n\t{_sentence(part)}" for part in failure.splitlines())


def _sentence(text: str) -> str:
    escaped = word(text)
    return escaped[1:-1] if escaped.startswith('"') else escaped


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, default=str, separators=(",", ":"))


def _logstash(row: dict[str, Any]) -> str:
    renamed = {"@timestamp": row.pop("time"), "@version": "1", "level": row.pop("level"), "message": row.pop("msg")}
    return _json(renamed | row)


_RENDER: Mapping[str, Render] = {"text": _text, "json": _json, "logstash": _logstash}


class _Bridge(logging.Handler):
    """What libraries say through the standard library's logging, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        if self.filter(record):
            log = structlog.get_logger(record.name)
            log.log(min(record.levelno, logging.ERROR), record.getMessage(), exc_info=record.exc_info)
