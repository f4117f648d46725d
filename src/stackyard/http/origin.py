"""Who asked, and under which address they know us: behind proxies, only as far as those are trusted."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from stackyard.http.asgi import Scope

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,253}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?", re.ASCII)
_FORWARDED = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^;,\s"]*))', re.ASCII)


@dataclass(frozen=True)
class Origins:
    """How requests are traced back through proxies, and what Locations start with."""

    host: str | None = None
    """`http.host`: an absolute URL that wins over everything a request says."""
    prefix: str = ""
    """`http.prefix` without its last slash."""
    relative: bool = False
    """`http.relativeurls`."""
    trusted: Sequence[Network] = ()

    def address(self, scope: Scope) -> str:
        """The client's address: the right-most in X-Forwarded-For that no trusted proxy has. "" on a unix socket."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not self._trusts(peer):
            return peer
        hops = [hop.strip() for hop in _values(scope, b"x-forwarded-for")]
        for hop in reversed(hops):
            if not _is_address(hop):
                return peer
            if not self._trusts(hop):
                return hop
            peer = hop
        real = _first(scope, b"x-real-ip")
        return real if not hops and real and _is_address(real) else peer

    def base(self, scope: Scope) -> str:
        """Scheme, host and prefix, as Distribution's absolute Locations; only the prefix when relative."""
        return self.prefix if self.relative else self.absolute(scope)

    def absolute(self, scope: Scope) -> str:
        """As `base`, never relative: the realm of a challenge must be absolute."""
        if self.host:
            return self.host.rstrip("/") + self.prefix
        client = scope.get("client")
        scheme, host = scope["scheme"], _first(scope, b"host") or ""
        if self._trusts(client[0] if client else ""):
            forwarded = _forwarded(_first(scope, b"forwarded") or "")
            scheme = forwarded.get("proto") or _first(scope, b"x-forwarded-proto") or scheme
            host = forwarded.get("host") or _first(scope, b"x-forwarded-host") or host
        if scheme not in ("http", "https") or not _HOST.fullmatch(host):
            return self.prefix  # nothing to build an absolute address from; a relative one always works
        return f"{scheme}://{host}{self.prefix}"

    def _trusts(self, address: str) -> bool:
        """A unix socket's peer has no address and was let in by the file's mode."""
        return not address or _within(address, tuple(self.trusted))


@lru_cache(maxsize=4096)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return any((mapped or parsed) in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _values(scope: Scope, name: bytes) -> list[str]:
    """All items of a comma list that may stand in several header lines."""
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return [item for item in ",".join(lines).split(",") if item.strip()]


def _first(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text.partition(",")[0].strip()
    return None


def _forwarded(value: str) -> dict[str, str]:
    """The first element of RFC 7239's header."""
    element = value.partition(",")[0]
    return {name.lower(): quoted or plain for name, quoted, plain in _FORWARDED.findall(element)}
