"""The admin API as a verb sees it, wherever it answers."""

import contextlib
import errno
import getpass
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from stackyard.cli.loading import load_config
from stackyard.cli.verbs import Place
from stackyard.server.local import short_name
from stackyard.server.stopped import Stopped, local_socket
from stackyard.telemetry import logs

PREFIX = "/api/v1"
_PATIENCE = httpx.Timeout(120, connect=10)  # seconds; what takes longer is a job
_HEADERS = {"x-requested-with": "stackyard"}

Opening = Callable[[], AbstractAsyncContextManager["Client"]]


class Problem(Exception):
    """The request was refused, or nobody answered. The text is for the person at the terminal."""

    def __init__(self, sentence: str, *, status: int = 0, code: str = "") -> None:
        """Of an answer, its status and the problem's code."""
        super().__init__(sentence)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the admin API. Paths begin after `/api/v1`. Everything raises Problem when it is refused."""

    http: httpx.AsyncClient
    local: bool = False
    """Whether the API runs in this process, and ends with it."""

    async def get(self, path: str, **query: Any) -> Any:
        """One document."""
        return await self.call("GET", path, query=query)

    async def post(self, path: str, document: Any = None, **query: Any) -> Any:
        """Ask for something to be done."""
        return await self.call("POST", path, document=document, query=query)

    async def put(self, path: str, document: Any, **query: Any) -> Any:
        """Set something."""
        return await self.call("PUT", path, document=document, query=query)

    async def delete(self, path: str, **query: Any) -> Any:
        """Remove something."""
        return await self.call("DELETE", path, query=query)

    async def items(self, path: str, **query: Any) -> AsyncIterator[dict[str, Any]]:
        """Every item of a list, page by page."""
        page = await self.get(path, **query)
        while True:
            for item in page["items"]:
                yield item
            if page["next"] is None:
                return
            # Behind `http.prefix` it begins with that, and so does our base.
            page = await self._ask("GET", PREFIX + page["next"].partition(PREFIX)[2])

    async def call(self, method: str, path: str, *, document: Any = None, query: dict[str, Any] | None = None) -> Any:
        """One request; the document it was answered with, None when there is none."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._ask(method, PREFIX + path, json=document, params=given or None)

    async def _ask(self, method: str, url: str, **how: Any) -> Any:
        try:
            answer = await self.http.request(method, url, **how)
        except httpx.HTTPError as error:
            where = self.http.base_url if str(self.http.base_url.host) != "local" else "the server's local socket"
            raise Problem(f"{where} does not answer: {str(error) or type(error).__name__}") from error
        if not answer.is_success:
            raise _problem(answer)
        return answer.json() if answer.content else None


def quoted(name: str) -> str:
    """A repository, tag or digest as part of a path. Raises Problem when a server's name stands before it."""
    return quote(without_server(name), safe="/:@")


def without_server(name: str) -> str:
    """The name. Raises Problem when a server's stands before it, as in docker's commands."""
    first, slash, rest = name.partition("/")
    if slash and ":" in first:
        raise Problem(f"leave out the server's name: {rest}")
    return name


def tag_path(name: str) -> str:
    """The path of `REPO:TAG`. Raises Problem when it is something else."""
    if ":" not in name or "@" in name:
        raise Problem(f"{name!r} is no tag: write REPO:TAG")
    return f"/tags/{quoted(name)}"


def _problem(answer: httpx.Response) -> Problem:
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/problem+json"):
        document = answer.json()
        about = [str(each) for each in document.get("about", {}).values()]
        sentence = f"{document['detail']}: {about[0]}" if len(about) == 1 else document["detail"]
        return Problem(sentence, status=answer.status_code, code=document["code"])
    return Problem(f"{answer.url} is not Stackyard's admin API: it answers {answer.status_code}")


def find(place: Place) -> Opening:
    """How to reach the registry that the command line means.

    Raises:
        Problem: It cannot be reached like that.
        Unusable: The configuration cannot be used, which was told.
        StartError, CannotStepDown: No server runs, and the registry cannot be opened without one.
    """
    if place.server:
        return _at(place.server, place)
    config = load_config(place.config).config
    path = local_socket(config)
    if path is not None and answers(path):
        return _through(path)
    logs.configure(level="warn")
    stopped = Stopped.prepare(config, fresh=place.fresh)
    return lambda: _within(stopped)


def _at(server: str, place: Place) -> Opening:
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Problem(f"{server!r} is no server's URL: write https://host:port")
    if parts.username or parts.password:
        raise Problem("write no login into --server, where others see it: use --user, which asks for the password")
    login = (place.user, _password(place)) if place.user else None
    # The system's certificates, and what SSL_CERT_FILE names.
    verify = ssl.create_default_context() if parts.scheme == "https" else True

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Client]:
        async with httpx.AsyncClient(
            base_url=server, auth=login, verify=verify, timeout=_PATIENCE, headers=_HEADERS
        ) as http:
            yield Client(http)

    return opened


def _password(place: Place) -> str:
    if place.password_file:
        try:
            return place.password_file.read_text().splitlines()[0]
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise Problem(f"{place.password_file} holds no password: {error}") from error
    given = os.environ.get("STACKYARD_PASSWORD")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise Problem(f"the password of {place.user} is missing: set STACKYARD_PASSWORD or use --password-file")
    return getpass.getpass(f"Password of {place.user}: ")


def answers(path: Path) -> bool:
    """Whether a server listens there. Raises Problem when it may not be asked."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            failed = probe.connect_ex(short_name(path))
    except OSError:  # its folder is not there
        return False
    if failed in (errno.EACCES, errno.EPERM):
        raise Problem(f"only root and the server's own user may use {path}: run this as one of them, or use --server")
    return failed == 0


def _through(path: Path) -> Opening:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Client]:
        transport = httpx.AsyncHTTPTransport(uds=short_name(path))
        async with _client(transport) as http:
            yield Client(http)

    return opened


@contextlib.asynccontextmanager
async def _within(stopped: Stopped) -> AsyncIterator[Client]:
    async with stopped.api() as application, _client(httpx.ASGITransport(application)) as http:
        yield Client(http, local=True)


def _client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport, base_url="http://local", timeout=_PATIENCE, headers=_HEADERS, trust_env=False
    )
