"""Keys with which this installation signs its tokens."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import installation, signing_key

_CURRENT = Prepared(
    select(signing_key.c.kid, signing_key.c.private_pem)
    .where(signing_key.c.retired_at.is_(None))
    .order_by(signing_key.c.created_at.desc(), signing_key.c.kid)
    .limit(1)
)
_LOCK = Prepared(select(installation.c.id).with_for_update())
_INSERT = Prepared(
    signing_key.insert().values(kid=bindparam("kid"), private_pem=bindparam("private_pem"), created_at=clock.now())
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair."""

    kid: str
    private_pem: str

    def __repr__(self) -> str:
        """Keeps the secret out of logs and traces."""
        return f"SigningKey(kid={self.kid!r})"


def current(c: Connection) -> SigningKey | None:
    """The newest key that is not retired, or None."""
    row = _CURRENT.one(c)
    return SigningKey(*row) if row else None


def ensure(c: Connection, make: Callable[[], SigningKey]) -> SigningKey:
    """The current key; the first one who finds none makes it. `make` runs inside the transaction: 10 ms at most."""
    found = current(c)
    if found is None:
        _LOCK.one(c)  # of two first ones, the second waits here and then finds a key
        found = current(c)
    if found is None:
        found = make()
        _INSERT.run(c, kid=found.kid, private_pem=found.private_pem)
    return found
