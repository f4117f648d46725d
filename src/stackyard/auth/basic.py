"""Logins by name and password (RFC 7617), checked with bcrypt once and then remembered.

bcrypt is slow on purpose, and clients send the password with every request. So a verified login is kept as (user,
stored hash, keyed MAC of the password): it holds exactly as long as the file still has that hash for that user, and
the memory of this process reveals no password.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import bcrypt

from stackyard.auth.htpasswd import HtpasswdFile, cost
from stackyard.auth.principals import Kind, Principal
from stackyard.auth.slots import Slots
from stackyard.auth.throttle import Throttle, refusal
from stackyard.oci.errors import Unauthorized

# bcrypt looks at no more; Apache cuts silently, and so must we, or long passwords made there would be refused here.
_SIGNIFICANT = 72
# What htpasswd takes; longer ones are noise that would only fill the memory of the throttle.
_MAX_USER = 255
# Checks under way or waiting, of one process. At bcrypt's usual cost these are a queue of about ten seconds.
_MAX_WAITING = 200
_ALPHABET = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and the significant bytes of a password."""

    user: str
    password: bytes

    def __repr__(self) -> str:
        """Without the password, for it would reach a log one day."""
        return f"Credentials(user={self.user!r})"

    @property
    def empty(self) -> bool:
        """Whether the client meant to say that it has none (`Basic Og==`)."""
        return not self.user and not self.password


def credentials(user: str, password: str) -> Credentials:
    """Take a name and a password as a form or a header carries them.

    Raises:
        Unauthorized: They can be nobody's: a control character in the name, a NUL, or a name over 255 characters.
    """
    if len(user) > _MAX_USER or not (user.isprintable() or not user) or "\0" in password:
        raise Unauthorized("malformed credentials")
    return Credentials(user, password.encode("utf-8", "surrogatepass")[:_SIGNIFICANT])


def parse(value: str) -> Credentials:
    """Read what follows `Basic ` in an Authorization header. The name ends at the first colon.

    Raises:
        Unauthorized: Not base64, not UTF-8, or no colon.
    """
    try:
        user, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unauthorized("malformed credentials") from None
    if not colon:
        raise Unauthorized("malformed credentials")
    return credentials(user, password)


@dataclass(frozen=True, slots=True)
class _Login:
    stored: bytes
    mac: bytes
    principal: Principal


class Logins:
    """Checks logins against an htpasswd file."""

    def __init__(
        self,
        file: HtpasswdFile,
        *,
        groups: Mapping[str, frozenset[str]],
        slots: Slots,
        throttle: Throttle | None = None,
    ) -> None:
        """`groups` maps a group's name to its users; `slots` bounds the checks at one time on the whole machine."""
        self.file = file
        self._groups = groups
        self._slots = slots
        self._throttle = throttle or Throttle()
        self._key = secrets.token_bytes(32)
        self._known: dict[str, _Login] = {}
        self._headers: dict[bytes, _Login] = {}
        self._under_way: dict[tuple[str, bytes | None, bytes], asyncio.Task[bool]] = {}
        self._threads = ThreadPoolExecutor(slots.count, thread_name_prefix="bcrypt")

    def recall(self, given: Credentials) -> Principal | None:
        """The principal, if these very credentials were verified before and the file still says the same."""
        login = self._known.get(given.user)
        if login is None or login.stored != self.file.users.hashes.get(given.user):
            return None
        return login.principal if hmac.compare_digest(login.mac, self._mac(given.password)) else None

    def recall_header(self, value: str) -> Principal | None:
        """As `recall`, from what follows `Basic `: clients send the very same text with every request, so it is
        remembered by a keyed MAC of its own and need not be taken apart. Raises Unauthorized as `parse`.
        """
        key = self._mac(value.encode("utf-8", "surrogatepass"))
        login = self._headers.get(key)
        if login is not None and login.stored == self.file.users.hashes.get(login.principal.name):
            return login.principal
        given = parse(value)
        principal = self.recall(given)
        if principal is not None:
            if len(self._headers) > 2 * len(self._known):
                self._headers.clear()
            self._headers[key] = self._known[given.user]
        return principal

    async def verify(self, given: Credentials, address: str) -> Principal:
        """Check a name and a password, with bcrypt if need be.

        The same credentials arriving many times at once are checked once. A name that is not in the file costs as
        much as one that is.

        Raises:
            Unauthorized: Wrong, without saying which of the two.
            TooManyRequests: Not checked: too many failures (see `throttle`) or too many checks waiting.
        """
        if remembered := self.recall(given):
            return remembered
        stored = self.file.users.hashes.get(given.user)
        mac = self._mac(given.password)
        check = self._under_way.get((given.user, stored, mac))
        if check is None:
            check = self._start(given, stored, mac, address)
        right = await asyncio.shield(check)
        # The file may have changed while bcrypt ran.
        if not right or stored is None or stored != self.file.users.hashes.get(given.user):
            raise Unauthorized("incorrect user name or password")
        return self._remember(given.user, stored, mac)

    def principal(self, user: str) -> Principal:
        """The principal of a user of the file, without a token."""
        groups = frozenset(group for group, users in self._groups.items() if user in users)
        return Principal(Kind.USER, user, groups)

    def stored(self, user: str) -> bytes | None:
        """The hash the file has for `user` now; None when it has none."""
        return self.file.users.hashes.get(user)

    def close(self) -> None:
        """Take no more checks."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, given: Credentials, stored: bytes | None, mac: bytes, address: str) -> asyncio.Task[bool]:
        if len(self._under_way) >= _MAX_WAITING:
            raise refusal(1)
        self._throttle.charge(address, given.user)
        key = (given.user, stored, mac)
        check = asyncio.create_task(self._check(given, stored, address))
        self._under_way[key] = check
        check.add_done_callback(lambda _: self._under_way.pop(key, None))
        return check

    async def _check(self, given: Credentials, stored: bytes | None, address: str) -> bool:
        loop = asyncio.get_running_loop()
        work = _work(given.password, stored, self.file.users.highest_cost)
        right = await loop.run_in_executor(self._threads, self._in_slot, work)
        if right:
            self._throttle.forgive(address, given.user)
        return right

    def _in_slot(self, work: Callable[[], bool]) -> bool:
        with self._slots.hold():
            return work()

    def _remember(self, user: str, stored: bytes, mac: bytes) -> Principal:
        principal = self.principal(user)
        self._known[user] = _Login(stored, mac, principal)
        if len(self._known) > len(self.file.users.hashes):
            self._known = {name: login for name, login in self._known.items() if self.stored(name)}
        return principal

    def _mac(self, password: bytes) -> bytes:
        return hashlib.blake2b(password, key=self._key, digest_size=32).digest()


def _work(password: bytes, stored: bytes | None, highest: int) -> Callable[[], bool]:
    """What one check computes: a refusal always takes 2**highest rounds, whatever the reason for it."""

    def check() -> bool:
        if stored is not None and _matches(password, stored):
            return True
        if stored is None:
            _burn(password, highest)
        else:
            # 2**c + (2**c + 2**(c+1) + … + 2**(highest-1)) == 2**highest
            for each in range(cost(stored), highest):
                _burn(password, each)
        return False

    return check


def _matches(password: bytes, stored: bytes) -> bool:
    computed = bcrypt.hashpw(password, _salt(stored))
    return hmac.compare_digest(computed[29:], stored[29:])


def _salt(stored: bytes) -> bytes:
    """The setting part of a hash. Its last character carries two bits that count; crypt(3) ignores the others, and
    so some tools set them, but the bcrypt library refuses them."""
    return stored[:28] + _ALPHABET[_ALPHABET.index(stored[28:29]) & 0x30 :][:1]


def _burn(password: bytes, rounds: int) -> None:
    bcrypt.hashpw(password, b"$2b$%02d$" % rounds + b"." * 22)
