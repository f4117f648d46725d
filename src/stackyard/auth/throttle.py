"""How many wrong logins are checked before somebody has to wait.

Three leaking buckets are filled by wrong logins and drain by themselves: one per address and user together, one per
address, one per user. An attempt is charged before the password is checked, so that many at once cannot overtake the
count, and the charge is given back when the password was right.

Who shares the blame:

- A login that this process already verified is not asked at all (see `basic`): nobody who works is ever thrown out.
- Guessing one user's password from one place fills the first bucket, and what is refused then no longer counts
  against the address, so one misconfigured machine behind a NAT does not exhaust its neighbours.
- Guessing many users from one place fills the address's bucket.
- Guessing one user from many places fills the user's bucket. This one alone could be used to lock a user out from
  elsewhere, so it binds only addresses that failed for this user lately: everybody else keeps the first attempt.

Counts are per process and are lost with it; with n workers the limits are up to n times as high. They bound what a
guesser gets, bcrypt's cost and the cap on concurrent checks bound what it can burn.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from stackyard.oci.errors import TooManyRequests


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` wrong logins at once, then one per `seconds`."""

    burst: int
    seconds: float


PAIR = Limit(burst=10, seconds=6)
ADDRESS = Limit(burst=100, seconds=1)
USER = Limit(burst=50, seconds=2)
# About 200 bytes each; the one that failed longest ago is forgotten first.
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Buckets:
    """Levels by key; a level drains by one per `limit.seconds`."""

    limit: Limit
    levels: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def level(self, key: str, now: float) -> float:
        level, since = self.levels.get(key, (0.0, now))
        return max(0.0, level - (now - since) / self.limit.seconds)

    def wait(self, key: str, now: float) -> float:
        """Seconds until one more fits; 0 when it fits now."""
        return max(0.0, self.level(key, now) + 1 - self.limit.burst) * self.limit.seconds

    def add(self, key: str, amount: float, now: float) -> None:
        level = self.level(key, now) + amount
        self.levels.pop(key, None)
        if level > 0:
            self.levels[key] = (level, now)
        if len(self.levels) > _REMEMBERED:
            self.levels.popitem(last=False)


class Throttle:
    """Counts wrong logins of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only go forward."""
        self._clock = clock
        self._pairs, self._addresses, self._users = _Buckets(PAIR), _Buckets(ADDRESS), _Buckets(USER)

    def charge(self, address: str, user: str) -> None:
        """Count an attempt as wrong until `forgive` says otherwise.

        Raises:
            TooManyRequests: Not counted; `Retry-After` says in how many seconds to come back.
        """
        now, place = self._clock(), neighbourhood(address)
        pair = f"{place} {user}"
        waits = [self._pairs.wait(pair, now), self._addresses.wait(place, now)]
        if self._pairs.level(pair, now):
            waits.append(self._users.wait(user, now))
        if wait := max(waits):
            raise refusal(wait)
        self._add(place, user, 1.0, now)

    def forgive(self, address: str, user: str) -> None:
        """The password was right: give the charge back, and forget this user's slips at this address."""
        now, place = self._clock(), neighbourhood(address)
        self._add(place, user, -1.0, now)
        self._pairs.levels.pop(f"{place} {user}", None)

    def _add(self, place: str, user: str, amount: float, now: float) -> None:
        self._pairs.add(f"{place} {user}", amount, now)
        self._addresses.add(place, amount, now)
        self._users.add(user, amount, now)


def refusal(seconds: float) -> TooManyRequests:
    """429 with a `Retry-After` of at least one second."""
    return TooManyRequests("too many failed logins", headers={"Retry-After": str(max(1, math.ceil(seconds)))})


def neighbourhood(address: str) -> str:
    """What counts as one address: an IPv6 host owns its whole /64, and `::ffff:1.2.3.4` is 1.2.3.4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
