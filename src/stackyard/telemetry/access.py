"""The access log: one preformatted line per request, written at once.

As text it is the "combined" format that registry:2 writes and every log reader knows, then what is ours: seconds, the
request's id, and `cut-off` where the client left before the end.
"""

import json
import re
import time
from collections.abc import Mapping
from typing import Literal

from stackyard.telemetry.lines import write_line
from stackyard.telemetry.quoting import quoted

STDOUT = 1
# Bytes that need no escaping between quotes; whether there are more quotes than ours is counted.
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte != 0x5C)

# OAuth clients may send these in a query, against all advice (RFC 6749 §2.3.1).
_SECRET = re.compile(r"([?&](?:password|client_secret|(?:access_|refresh_)?token)=)[^&]*")

Fields = tuple[str, str, int, int, float, str, str, str, str, str, str, str]


class AccessLog:
    """Writes one line per request, or none where it is off: ask `enabled` first, and the rest costs nothing."""

    __slots__ = ("_constant", "_fd", "_json", "_quotes", "_second", "_stamp", "enabled")

    def __init__(
        self,
        *,
        enabled: bool = True,
        formatter: Literal["text", "json", "logstash"] = "text",
        fields: Mapping[str, str] | None = None,
        fd: int = STDOUT,
    ) -> None:
        """Settle the form of every line.

        Args:
            enabled: Whether there is an access log at all.
            formatter: `text`, or one JSON object per line.
            fields: Names and values added to each JSON line; text keeps to its format.
            fd: Descriptor to write to.
        """
        self.enabled = enabled
        self._json = formatter != "text"
        self._constant = "".join(
            f",{json.dumps(str(name))}:{json.dumps(str(value))}" for name, value in (fields or {}).items()
        )
        self._fd = fd
        self._second = 0
        self._stamp = ""
        empty = ("", "", 0, 0, 0.0, "", "", "", "", "", "", "")
        self._quotes = (self._object if self._json else self._combined)(empty, False).count('"')

    def line(  # noqa: PLR0913 - one call per request, and a record in between would cost as much as the line
        self,
        *,
        method: str,
        target: str,
        status: int,
        sent: int,
        seconds: float,
        client: str,
        request_id: str,
        repository: str = "",
        user: str = "",
        agent: str = "",
        referer: str = "",
        version: str = "1.1",
        cut_off: bool = False,
    ) -> None:
        """Write the line of one request.

        Args:
            method: As it came.
            target: Path and query, as they came; what looks like a secret in the query is left out.
            status: As it was answered.
            sent: Bytes of the body that left.
            seconds: From the header's end to the answer's.
            client: The client's address, without its port.
            request_id: Told to the client too, where it was.
            repository: Name of the repository, if the path has one.
            user: Name of the user; "" for nobody.
            agent: `User-Agent`.
            referer: `Referer`.
            version: Of HTTP.
            cut_off: The client left before the answer was complete.
        """
        if "password=" in target or "token=" in target or "secret=" in target:
            target = _SECRET.sub(r"\1-", target)
        now = int(time.time())
        if now != self._second:
            self._begin(now)
        fields = (method, target, status, sent, seconds, client, request_id, repository, user, agent, referer, version)
        form = self._object if self._json else self._combined
        line = form(fields, cut_off).encode(errors="surrogatepass")
        # Nearly every line is plain: looked through once as a whole, not field by field.
        plain = line.translate(None, _PLAIN) == b"\n" and line.count(b'"') == self._quotes
        if not plain or " " in user or " " in request_id or " " in client:
            line = form(_safe(fields), cut_off).encode()
        write_line(self._fd, line)

    def _combined(self, fields: Fields, cut_off: bool) -> str:
        method, target, status, sent, seconds, client, request_id, _, user, agent, referer, version = fields
        return (
            f'{client or "-"} - {user or "-"} [{self._stamp}] "{method} {target} HTTP/{version}" {status} {sent} '
            f'"{referer}" "{agent}" {seconds:.6f} {request_id or "-"}{" cut-off" if cut_off else ""}\n'
        )

    def _object(self, fields: Fields, cut_off: bool) -> str:
        method, target, status, sent, seconds, client, request_id, repository, user, agent, referer, version = fields
        return (
            f'{{"time":"{self._stamp}","level":"info","msg":"request","method":"{method}","path":"{target}"'
            f',"repository":"{repository}","status":{status},"bytes":{sent},"seconds":{seconds:.6f},"user":"{user}"'
            f',"client":"{client}","request":"{request_id}","agent":"{agent}","referer":"{referer}"'
            f',"version":"{version}","cutoff":{"true" if cut_off else "false"}{self._constant}}}\n'
        )

    def _begin(self, second: int) -> None:
        """Format a new second, once."""
        self._second = second
        form = "%Y-%m-%dT%H:%M:%SZ" if self._json else "%d/%b/%Y:%H:%M:%S +0000"
        self._stamp = time.strftime(form, time.gmtime(second))


def _safe(fields: Fields) -> Fields:
    """The same fields, none of which can end the line, or the quotes or the place between spaces it stands in."""
    method, target, status, sent, seconds, client, request_id, repository, user, agent, referer, version = fields
    return (
        quoted(method),
        quoted(target),
        status,
        sent,
        seconds,
        _word(client),
        _word(request_id),
        quoted(repository),
        _word(user),
        quoted(agent),
        quoted(referer),
        quoted(version),
    )


def _word(text: str) -> str:
    return quoted(text).replace(" ", "\\u0020")
