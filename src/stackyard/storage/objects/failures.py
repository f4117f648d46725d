"""What a bucket refuses, in the words of the driver's contract."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from stackyard.storage.driver import LocationGone, StorageError

_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_LONGEST = 300  # characters of a reason: some stores answer with a page
_REASONS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidAccessKeyId": "the access key is not known",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "AccessDenied": "the credentials may not do this",
    "QuotaExceeded": "the store's quota is used up",
}


@contextmanager
def translated(location: str) -> Iterator[None]:
    """Turn what obstore raises in the block into StorageError about `location`."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        code = _code(error)
        if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
            raise LocationGone(f"{location}: nothing lies there") from error
        raise StorageError(f"{location}: {_reason(error, code)}") from error


def _reason(error: BaseException, code: str | None) -> str:
    """The store's own code for it, or the first paragraph of what obstore says: it goes on with what it is made of."""
    if code:
        return f"{_REASONS[code]} ({code})" if code in _REASONS else code
    text = " ".join(str(error).partition("\n\nDebug source:")[0].split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _code(error: BaseException) -> str | None:
    found = _CODE.search(str(error))
    return found[1] if found else None
