"""What a bucket refuses, in the words of the driver's contract; and not asking one that does not answer."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from obstore.exceptions import BaseError

from stackyard.storage.driver import LocationGone, StorageError

log = structlog.get_logger("stackyard.storage")

_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_LONGEST = 300  # characters of a reason: some stores answer with a page
_REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "the access key is not known",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "AccessDenied": "the credentials may not do this",
    "QuotaExceeded": "the store's quota is used up",
}
_OVERLOADED = {"InternalError", "ServiceUnavailable", "SlowDown"}
_IN_A_ROW = 5
_PAUSE = 5.0  # seconds


class Calls:
    """The calls of one process to one bucket.

    When several in a row were not answered, each of them after retries, the next ones fail at once, and every few
    seconds one finds out whether that is over. So whoever does not need the store is not kept waiting behind them.
    """

    def __init__(self, *, told: bool) -> None:
        """Expects answers; `told`: a log line tells of each call."""
        self._told = told
        self._unanswered = 0
        self._ask_again = 0.0

    @contextmanager
    def about(self, location: str) -> Iterator[None]:
        """Turn what obstore raises in the block into StorageError about `location`."""
        if self._unanswered >= _IN_A_ROW:
            if time.monotonic() < self._ask_again:
                raise StorageError(f"{location}: the store does not answer, and is asked again in a moment")
            self._ask_again = time.monotonic() + _PAUSE
        began = time.monotonic()
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            code = _code(error)
            is_missing = isinstance(error, FileNotFoundError)
            self._answered(is_missing or (code is not None and code not in _OVERLOADED))
            self._tell(location, began, code or type(error).__name__)
            if is_missing and code != "NoSuchBucket":
                raise LocationGone(f"{location}: nothing lies there") from error
            raise StorageError(f"{location}: {_reason(error, code)}") from error
        self._answered(True)
        self._tell(location, began, "done")

    def _tell(self, location: str, began: float, outcome: str) -> None:
        if self._told:
            log.info("asked the bucket", about=location, outcome=outcome, seconds=round(time.monotonic() - began, 4))

    def _answered(self, answered: bool) -> None:
        self._unanswered = 0 if answered else self._unanswered + 1
        if self._unanswered == _IN_A_ROW:
            self._ask_again = time.monotonic() + _PAUSE


def _reason(error: BaseException, code: str | None) -> str:
    """The store's own code for it, or the first paragraph of what obstore says: it goes on with what it is made of."""
    if code:
        return f"{_REASONS[code]} ({code})" if code in _REASONS else code
    text = " ".join(str(error).partition("\n\nDebug source:")[0].split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _code(error: BaseException) -> str | None:
    found = _CODE.search(str(error))
    return found[1] if found else None
