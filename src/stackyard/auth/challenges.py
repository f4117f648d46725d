"""The value of `WWW-Authenticate`: what a client has to show, and where to get it.

Always one challenge only: several clients read just the first (RFC 9110, 11.6.1; distribution token specification).
"""

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from stackyard.auth.principals import Action
from stackyard.oci.errors import Unauthorized

Needed: TypeAlias = Sequence[tuple[str, Sequence[Action]]] | Literal["catalog", "administration"]
"""What a request needs: repositories with actions, the list of all of them, or (empty) just to be somebody."""


class InvalidToken(Unauthorized):
    """A bearer token that is forged, expired, for somebody else or no token at all (RFC 6750, 3.1)."""

    message = "invalid token"


class InsufficientScope(Unauthorized):
    """A good token for something else. 401 and not RFC 6750's 403, so that clients fetch a better one."""

    message = "the token does not allow this"


_ERRORS = {InvalidToken: "invalid_token", InsufficientScope: "insufficient_scope"}
_UNQUOTABLE = re.compile(r"[^\x21\x23-\x5b\x5d-\x7e]")


def basic(realm: str) -> str:
    """Ask for a name and a password (RFC 7617)."""
    return f'Basic realm="{quoted(realm)}"'


def bearer(*, realm: str, service: str, needed: Needed = (), error: str | None = None) -> str:
    """Ask for a token that `realm`, an absolute URL, gives out for `service`.

    Args:
        realm: Where the token is to be fetched.
        service: The audience the token must be for.
        needed: What the token must be good for.
        error: `insufficient_scope` or `invalid_token`, when a token was shown.
    """
    address = _UNQUOTABLE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), realm)
    parts = [f'realm="{address}"', f'service="{quoted(service)}"']
    if scope := _scope(needed):
        parts.append(f'scope="{scope}"')
    if error:
        parts.append(f'error="{error}"')
    return "Bearer " + ",".join(parts)


def quoted(text: str) -> str:
    """The inside of a quoted-string (RFC 9110, 5.6.4), without anything that could end the header."""
    kept = "".join(character if character.isprintable() and character.isascii() else "?" for character in text)
    return kept.replace("\\", "\\\\").replace('"', '\\"')


def _scope(needed: Needed) -> str:
    if isinstance(needed, str):
        return f"registry:{needed}:*"
    return " ".join(f"repository:{name}:{','.join(actions)}" for name, actions in needed)


def error_name(error: Exception | None) -> str | None:
    """What a Bearer challenge calls this refusal; None when no token was shown."""
    return next((name for kind, name in _ERRORS.items() if isinstance(error, kind)), None)
