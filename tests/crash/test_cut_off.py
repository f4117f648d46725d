"""Bodies that end before they should, or go on after it: nothing of them becomes a blob."""

import json
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.server.serving import Answer, Wire
from tests.support.processes import wait_until
from tests.support.running import Running

from stackyard.oci import layout
from stackyard.oci.digests import Digest

REPOSITORY = "cut/off"
LARGE = 4 << 20
"""Bytes: more than a server gathers before it writes the first of them."""
STREAMED = "Transfer-Encoding: chunked"


def end(wire: Wire) -> None:
    """FIN: nothing more will be sent; the answer can still be read."""
    wire.socket.shutdown(socket.SHUT_WR)


def reset(wire: Wire) -> None:
    """RST: the connection is no more, in both directions."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


LEAVING = pytest.mark.parametrize("leave", [end, reset], ids=["fin", "rst"])
FRAMING = pytest.mark.parametrize("framing", ["Content-Length: 9000000", STREAMED], ids=["length", "chunked"])


def wire_to(server: Running) -> Wire:
    return Wire(server.port)


def send(wire: Wire, method: str, path: str, framing: str, sent: bytes, *headers: str) -> None:
    """A request's header and a first part of its body, of which more is promised."""
    wire.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", framing, *headers, "", ""]).encode())
    wire.send(b"%x\r\n%b\r\n" % (len(sent), sent) if framing == STREAMED else sent)


def start(server: Running) -> str:
    """The path of a new session."""
    answer = server.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    assert answer.status == 202
    return urlsplit(answer.headers["Location"]).path


def offset(server: Running, session: str) -> int:
    """How many bytes the session counts, as its Range says; 0 for an empty one."""
    answer = server.request("GET", session)
    assert answer.status == 204
    last = int(answer.headers["Range"].removeprefix("0-"))
    return last + 1 if last else 0


def finish(server: Running, session: str, content: bytes, rest: bytes) -> None:
    """Finish the session with `rest`, and read back what came of it."""
    digest = Digest.of(content)
    answer = server.request("PUT", f"{session}?digest={digest}", body=rest)
    assert answer.status == 201, answer.body
    assert server.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}").body == content


def unfinished(server: Running) -> set[Path]:
    """The files of unfinished uploads."""
    folder = server.data / layout.UPLOADS
    return set(folder.iterdir()) if folder.exists() else set()


def first_bytes(server: Running, session: str) -> int:
    """How many bytes the session's first writer has handed to the disk."""
    file = server.data / layout.UPLOADS / f"{session.rpartition('/')[2]}.0"
    return file.stat().st_size if file.exists() else 0


def is_free(server: Running, session: str) -> Callable[[], bool]:
    """Whether nobody writes to the session any more: a chunk out of order is refused for its place."""

    def check() -> bool:
        answer = server.request("PATCH", session, headers={"Content-Range": "7000000-7000000"}, body=b"x")
        assert answer.status == 416
        return "another request" not in answer.body.decode()

    return check


def check_refused(answer: Answer, status: int) -> None:
    """An error in the specification's form."""
    assert answer.status == status
    assert json.loads(answer.body)["errors"][0]["message"]


@LEAVING
@FRAMING
def test_push_at_once_that_is_cut_off_leaves_nothing(
    server: Running, leave: Callable[[Wire], None], framing: str
) -> None:
    content = secrets.token_bytes(LARGE)
    digest, before = Digest.of(content), unfinished(server)
    with wire_to(server) as wire:
        send(wire, "POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest}", framing, content)
        wait_until(lambda: unfinished(server) > before, "the upload to be under way")

        leave(wire)

        if leave is end:
            check_refused(wire.answer(), 400)
    wait_until(lambda: unfinished(server) == before, "what arrived to be removed")
    assert server.request("HEAD", f"/v2/{REPOSITORY}/blobs/{digest}").status == 404


@LEAVING
@FRAMING
def test_put_that_is_cut_off_leaves_the_session_as_it_was(
    server: Running, leave: Callable[[Wire], None], framing: str
) -> None:
    content, session = secrets.token_bytes(LARGE), start(server)
    assert server.request("PATCH", session, body=content[:1000]).status == 202
    with wire_to(server) as wire:
        send(wire, "PUT", f"{session}?digest={Digest.of(content)}", framing, content[1000:])
        wait_until(lambda: first_bytes(server, session) > 1000, "the request to be under way")

        leave(wire)

        if leave is end:
            check_refused(wire.answer(), 400)
    wait_until(is_free(server, session), "the session to be free again")
    assert offset(server, session) == 1000
    finish(server, session, content, content[1000:])


@LEAVING
@FRAMING
def test_patch_that_is_cut_off_keeps_what_arrived(server: Running, leave: Callable[[Wire], None], framing: str) -> None:
    content, session = secrets.token_bytes(LARGE), start(server)
    with wire_to(server) as wire:
        send(wire, "PATCH", session, framing, content[:-1000])
        wait_until(lambda: first_bytes(server, session) > 0, "the first bytes to be written")
        written = first_bytes(server, session)

        leave(wire)

        if leave is end:
            check_refused(wire.answer(), 400)
    wait_until(lambda: offset(server, session) > 0, "the session to have them")
    kept = offset(server, session)
    assert kept == LARGE - 1000 if leave is end else written <= kept < LARGE
    finish(server, session, content, content[kept:])


@LEAVING
def test_patch_with_a_range_that_is_cut_off_leaves_the_session_as_it_was(
    server: Running, leave: Callable[[Wire], None]
) -> None:
    content, session = secrets.token_bytes(LARGE), start(server)
    assert server.request("PATCH", session, body=content[:1000]).status == 202
    with wire_to(server) as wire:
        send(
            wire,
            "PATCH",
            session,
            f"Content-Length: {LARGE - 1000}",
            content[1000:-1],
            f"Content-Range: 1000-{LARGE - 1}",
        )
        wait_until(lambda: first_bytes(server, session) > 1000, "the request to be under way")

        leave(wire)

        if leave is end:
            check_refused(wire.answer(), 400)
    wait_until(is_free(server, session), "the session to be free again")
    assert offset(server, session) == 1000
    finish(server, session, content, content[1000:])


def test_manifest_that_is_cut_off_is_not_there(server: Running) -> None:
    manifest = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
    with wire_to(server) as wire:
        kind = "Content-Type: application/vnd.oci.image.index.v1+json"
        send(wire, "PUT", f"/v2/{REPOSITORY}/manifests/cut", "Content-Length: 2000", manifest, kind)
        end(wire)

        check_refused(wire.answer(), 400)
    assert server.manifest(REPOSITORY, "cut").status == 404
    assert server.manifest(REPOSITORY, Digest.of(manifest)).status == 404


def test_body_longer_than_announced_is_taken_as_far_as_it_was_announced(server: Running) -> None:
    """What follows would be the next request, and is none: the connection ends, with or without saying so."""
    content = secrets.token_bytes(10_000)
    whole, announced = Digest.of(content), Digest.of(content[:9000])
    with wire_to(server) as wire:
        send(wire, "POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={announced}", "Content-Length: 9000", content)

        assert wire.answer().status == 201
        assert wire.rest()[:12] in (b"", b"HTTP/1.1 400")
    assert server.request("HEAD", f"/v2/{REPOSITORY}/blobs/{whole}").status == 404
    assert server.request("GET", f"/v2/{REPOSITORY}/blobs/{announced}").body == content[:9000]


def test_body_longer_than_announced_is_not_its_digests(server: Running) -> None:
    content, before = secrets.token_bytes(10_000), unfinished(server)
    with wire_to(server) as wire:
        path = f"/v2/{REPOSITORY}/blobs/uploads/?digest={Digest.of(content)}"
        send(wire, "POST", path, "Content-Length: 9000", content)

        check_refused(wire.answer(), 400)
    assert server.request("HEAD", f"/v2/{REPOSITORY}/blobs/{Digest.of(content)}").status == 404
    assert unfinished(server) == before


def test_chunk_whose_size_is_no_number_is_refused_and_keeps_what_came_before(server: Running) -> None:
    content, session = secrets.token_bytes(LARGE), start(server)
    with wire_to(server) as wire:
        send(wire, "PATCH", session, STREAMED, content[:-1000])
        wait_until(lambda: first_bytes(server, session) > 0, "the first bytes to be written")
        wire.send(b"zz\r\n" + content[-1000:])

        check_refused(wire.answer(), 400)
    wait_until(lambda: offset(server, session) > 0, "the session to have them")
    assert offset(server, session) == LARGE - 1000
    finish(server, session, content, content[-1000:])
