"""Clients that take for ever are let go, clients that merely take long are not."""

import json
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import Server, Wire, random_file
from tests.support.certificates import Authority
from tests.support.processes import wait_until

PUT = b"PUT /put%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def test_silent_connection_is_closed(tmp_path: Path) -> None:
    with Server(tmp_path, spans={"header_timeout": 0.3}) as server, Wire(server.port, timeout=10) as wire:
        assert wire.closed()


def test_header_that_never_ends_is_408(tmp_path: Path) -> None:
    with Server(tmp_path, spans={"header_timeout": 0.3}) as server, Wire(server.port, timeout=10) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-")

        assert wire.answer().status == 408
        assert wire.closed()


def test_header_byte_by_byte_does_not_reset_the_clock(tmp_path: Path) -> None:
    with Server(tmp_path, spans={"header_timeout": 0.5}) as server, Wire(server.port, timeout=0.02) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        deadline = time.monotonic() + 10
        answered = b""
        while not answered:
            assert time.monotonic() < deadline
            wire.send(b"x")
            try:
                answered = wire.socket.recv(4096)
            except TimeoutError:
                continue

        assert answered.startswith(b"HTTP/1.1 408 ")


def test_idle_connection_is_closed_without_a_word(tmp_path: Path) -> None:
    with Server(tmp_path, spans={"idle_timeout": 0.3}) as server, Wire(server.port, timeout=10) as wire:
        wire.request("GET", "/tell")

        assert wire.closed()


def test_body_slower_than_the_minimum_rate_is_a_disconnect(tmp_path: Path) -> None:
    spans, note = {"rate_window": 0.4}, tmp_path / "note"
    with Server(tmp_path, spans=spans) as server, Wire(server.port, timeout=10) as wire:
        wire.send(PUT % (b"?note=" + str(note).encode(), 100_000) + b"x")

        assert wire.closed()
        wait_until(note.exists, "the application to hear of it")

    assert json.loads(note.read_text())[::2] == [1, "http.disconnect"]


def test_slow_body_above_the_minimum_rate_is_taken_however_long_it_takes(tmp_path: Path) -> None:
    """Ten windows long, each just fast enough."""
    limits: dict[str, Any] = {"spans": {"rate_window": 0.2}, "sizes": {"minimum_rate": 100}}
    with Server(tmp_path, **limits) as server, Wire(server.port) as wire:
        wire.send(PUT % (b"", 200 * 20))
        begun = time.monotonic()
        for _ in range(20):
            wire.send(b"x" * 200)
            time.sleep(0.1)  # the client's own pace, which is what is tested

        assert wire.answer().status == 201
        assert time.monotonic() - begun > 2


def test_slow_application_is_not_the_clients_fault(tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    with Server(tmp_path, spans={"rate_window": 0.2, "idle_timeout": 0.2}) as server, Wire(server.port) as wire:
        wire.send(f"GET /wait?begun={begun}&file={go} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(begun.exists, "the request to be under way")
        time.sleep(1)  # five windows without a byte
        go.touch()

        assert wire.answer().body == b"waited"


def slow_reader(server: Server, path: str, *, buffer: int = 4096) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    reader.settimeout(10)
    reader.connect(("127.0.0.1", server.port))
    if server.context is not None:
        reader = server.context.wrap_socket(reader, server_hostname="localhost")
    reader.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    return reader


@pytest.fixture(params=["plain", "TLS"])
def spoken(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What makes a server speak plain HTTP or HTTPS."""
    if request.param == "plain":
        return {}
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("localhost")
    context = ssl.create_default_context(cafile=authority.certificate)
    return {"context": context, "tls": {"certificate": str(pair.certificate), "key": str(pair.key)}}


def check_reader_that_stops_is_let_go(tmp_path: Path, route: str, spoken: dict[str, Any]) -> None:
    note, file = tmp_path / "note", tmp_path / "file"
    random_file(file, 30_000_000)
    path = f"/{route}?path={file}&note={note}"
    with Server(tmp_path, spans={"rate_window": 0.4}, **spoken) as server, slow_reader(server, path):
        wait_until(lambda: note.exists() and note.read_text() != "", "the reader to be let go", timeout=10)

    sent, cut_off, too_slow = json.loads(note.read_text())
    assert sent < 30_000_000
    assert (cut_off, too_slow) == (True, True)


def test_reader_that_stops_reading_a_file_is_let_go(tmp_path: Path, spoken: dict[str, Any]) -> None:
    check_reader_that_stops_is_let_go(tmp_path, "send-file", spoken)


def test_reader_that_stops_reading_a_stream_is_let_go(tmp_path: Path, spoken: dict[str, Any]) -> None:
    check_reader_that_stops_is_let_go(tmp_path, "stream-file", spoken)


def test_slow_reader_above_the_minimum_rate_is_served_to_the_end(tmp_path: Path, spoken: dict[str, Any]) -> None:
    """A full send buffer takes more only after a third of it has left, which here takes longer than the window."""
    file = tmp_path / "file"
    content = random_file(file, 9_000_000)
    # Over TLS a busy machine's client stands still for a quarter of a second now and then.
    limits: dict[str, Any] = {"spans": {"rate_window": 1 if spoken else 0.25}, "sizes": {"minimum_rate": 100_000}}
    path = f"/send-file?path={file}"
    with Server(tmp_path, **limits, **spoken) as server, slow_reader(server, path, buffer=128 * 1024) as reader:
        got, answer = b"", reader.makefile("rb")
        while part := answer.read(90_000):
            got += part
            time.sleep(0.03)  # the client's own pace: 3 MB/s
        answer.close()

    assert got.endswith(content), f"cut off after {len(got)} bytes"


def test_hundred_clients_of_a_byte_per_second_do_not_starve_others(tmp_path: Path) -> None:
    spans = {"header_timeout": 5, "rate_window": 1}
    with Server(tmp_path, spans=spans, workers=2) as server:
        slow = [Wire(server.port) for _ in range(100)]
        for number, wire in enumerate(slow):
            wire.send(PUT % (b"", 1_000_000) if number % 2 else b"GET / HTTP/1.1\r\nX")
        begun, answered = time.monotonic(), 0
        while time.monotonic() - begun < 2.5:
            for wire in slow[: answered % 20]:
                try:
                    wire.send(b"x")
                except OSError:
                    continue
            with Wire(server.port) as other:
                asked = time.monotonic()
                assert other.request("GET", "/tell").status == 200
                assert time.monotonic() - asked < 1
            answered += 1

        for wire in slow:
            wire.socket.settimeout(10)
            assert wire.rest()[:12] in (b"", b"HTTP/1.1 408")
            wire.close()
    assert answered > 20
