"""A server with a small application, run as a process by these tests: `program.py <settings as JSON>`."""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from stackyard.server.errors import StartError
from stackyard.server.protocol import Application
from stackyard.server.settings import ClientCertificates, Limits, Listen, LocalSocket, ServerSettings, TlsSettings
from stackyard.server.supervisor import serve
from stackyard.server.worker import WorkerContext
from stackyard.telemetry import logs

STEP = 64 * 1024


async def answer(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def read_all(receive: Any) -> tuple[int, str, str]:
    """Bytes and digest of the body, and the type of the message that ended it."""
    size, digest = 0, hashlib.sha256()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return size, digest.hexdigest(), message["type"]
        size += len(message["body"])
        digest.update(message["body"])
        if not message["more_body"]:
            return size, digest.hexdigest(), "http.request"


async def put(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    size, digest, ended = await read_all(receive)
    if "note" in query:
        Path(query["note"]).write_text(json.dumps([size, digest, ended]))
    if ended == "http.request":
        await answer(send, 201, json.dumps([size, digest]).encode())


async def wait(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Answer once a file exists; tells that it waits by making another."""
    Path(query["begun"]).touch()
    while not Path(query["file"]).exists():
        await asyncio.sleep(0.01)
    await answer(send, 200, b"waited")


async def send_file(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    offset, extensions, delivery = (
        int(query.get("offset", 0)),
        scope["extensions"],
        scope["extensions"]["stackyard.delivery"],
    )
    fd = os.open(query["path"], os.O_RDONLY)
    try:
        count = int(query.get("count", os.fstat(fd).st_size - offset))
        headers = [
            (b"content-length", b"%d" % count),
            (b"x-way", b"file" if "stackyard.sendfile" in extensions else b"stream"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if "stackyard.sendfile" in extensions:
            await send({"type": "stackyard.sendfile", "file": fd, "offset": offset, "count": count})
        else:
            await stream(send, fd, offset, count)
    finally:
        os.close(fd)
        if "note" in query:
            Path(query["note"]).write_text(json.dumps([delivery.sent, delivery.cut_off, delivery.too_slow]))


async def stream_file(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    del scope["extensions"]["stackyard.sendfile"]
    await send_file(scope, receive, send, query)


async def stream(send: Any, fd: int, offset: int, count: int) -> None:
    while count:
        body = os.pread(fd, min(STEP, count), offset)
        offset, count = offset + len(body), count - len(body)
        await send({"type": "http.response.body", "body": body, "more_body": count > 0})


async def chunks(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in (b"one ", b"", b"two"):
        await send({"type": "http.response.body", "body": part, "more_body": part != b"two"})


async def tell(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """What the application sees of the request; with `wait` after its body."""
    if "wait" in query:
        await read_all(receive)
    told = {name: scope[name] for name in ("method", "path", "scheme", "client", "server", "http_version")}
    told |= {"pid": os.getpid(), "query": scope["query_string"].decode(), "raw_path": scope["raw_path"].decode()}
    told["headers"] = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    await answer(send, 200, json.dumps(told).encode())


async def deny(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await answer(send, 401, b'{"errors":[]}', (b"www-authenticate", b'Basic realm="tests"'))


async def fail(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    if "late" in query:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
    raise RuntimeError("secret details")


async def silent(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    pass


async def header(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await answer(send, 200, b"", (b"x-value", query["value"].encode()))


async def wrong_length(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"x" * int(query["size"])})


async def watch(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    """Wait for the client to leave, and note it."""
    Path(query["begun"]).touch()
    await read_all(receive)
    message = await receive()
    Path(query["note"]).write_text(message["type"])


async def leave(scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


ROUTES: dict[str, Any] = {
    f"/{each.__name__.replace('_', '-')}": each
    for each in (
        put,
        wait,
        send_file,
        stream_file,
        chunks,
        tell,
        deny,
        fail,
        silent,
        header,
        wrong_length,
        watch,
        leave,
    )
}


class App:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        await ROUTES.get(scope["path"], tell)(scope, receive, send, query)

    def is_prompt(self, scope: Any) -> bool:
        return bool(told.get("prompt")) and scope["method"] in ("GET", "HEAD")


async def debug_app(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, 200, b"debug")


@dataclass
class Running:
    app: Application
    debug_app: Application | None
    notes: str

    def local_app(self, uid: int) -> Application:
        async def tell_peer(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, 200, json.dumps({"peer": uid}).encode())

        return tell_peer

    async def reload(self) -> None:
        self._note("reload")

    async def close(self) -> None:
        self._note("close")

    def _note(self, what: str) -> None:
        if self.notes:
            Path(self.notes, f"{what}-{os.getpid()}").touch()


async def build(context: WorkerContext) -> Running:
    if told.get("crash") and (told["crash"] == "always" or os.path.exists(told["crash"])):
        raise RuntimeError("the database is away")
    if "build" in told and context.index:
        write("BUILDING")
        while not Path(told["build"]).exists():
            await asyncio.sleep(0.01)
    return Running(App(), debug_app, told.get("notes", ""))


def prepare() -> None:
    if "prepare" in told:
        write("PREPARING")
        while not Path(told["prepare"]).exists():
            time.sleep(0.01)


def settings() -> ServerSettings:
    tls = told.get("tls")
    listen = Listen(
        told["address"],
        unix=told.get("unix", False),
        tls=TlsSettings(
            Path(tls["certificate"]),
            Path(tls["key"]),
            tls.get("minimum", "1.2"),
            tuple(map(Path, tls.get("authorities", ()))),
            ClientCertificates(tls.get("clients", "none")),
        )
        if tls
        else None,
    )
    spans: dict[str, Any] = {name: timedelta(seconds=value) for name, value in told.get("spans", {}).items()}
    return ServerSettings(
        main=listen,
        debug=Listen(told["debug"]) if "debug" in told else None,
        local=LocalSocket(Path(told["local"])) if "local" in told else None,
        workers=told.get("workers", 1),
        background=told.get("background", False),
        limits=Limits(**spans, **told.get("sizes", {})),
        drain=timedelta(seconds=told.get("drain", 0)),
    )


def say(addresses: Any) -> None:
    write("READY", *addresses)


def write(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    logs.configure(level="debug")
    try:
        status = serve(settings(), build=build, prepare=prepare, ready=say)
    except StartError as error:
        write("REFUSED", error)
        status = 1
    write("ENDED", status)
    sys.exit(status)
