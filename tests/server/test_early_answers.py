"""An error answered before the body was read reaches the client: a reset must not throw it away."""

import http.client
import os
import subprocess
from pathlib import Path

import pytest
from tests.server.serving import Server, Wire
from tests.support import tools
from tests.support.processes import wait_until

BIG = 32 * 1024 * 1024


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("big") / "body"
    file.write_bytes(bytes(BIG))
    return file


def curl(*arguments: str | Path) -> str:
    done = subprocess.run(
        [tools.path("curl"), "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_that_expects_100_sends_no_body(server: Server, big: Path) -> None:
    assert curl("-T", big, f"http://127.0.0.1:{server.port}/deny") == "401 0"


def test_curl_that_does_not_wait_gets_the_answer(server: Server, big: Path) -> None:
    assert curl("-H", "Expect:", "-T", big, f"http://127.0.0.1:{server.port}/deny").startswith("401 ")


def test_curl_that_sends_chunks_gets_the_answer(server: Server, big: Path) -> None:
    url = f"http://127.0.0.1:{server.port}/deny"

    assert curl("-H", "Expect:", "-H", "Transfer-Encoding: chunked", "-T", big, url).startswith("401 ")


def test_curl_that_expects_100_uploads_what_is_wanted(server: Server, big: Path) -> None:
    assert curl("-H", "Expect: 100-continue", "-T", big, f"http://127.0.0.1:{server.port}/put") == f"201 {BIG}"


def test_client_that_reads_only_after_its_whole_body_gets_the_answer(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("PUT", "/deny", body=bytes(BIG))

    answer = connection.getresponse()
    assert (answer.status, answer.getheader("connection")) == (401, "close")
    assert answer.read() == b'{"errors":[]}'
    connection.close()


def test_nothing_is_said_before_the_application_reads(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"PUT /put HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")

        assert wire.file.readline() == b"HTTP/1.1 100 Continue\r\n"
        wire.file.readline()
        wire.send(b"abc")
        assert wire.answer().status == 201


def test_unread_body_that_is_expected_closes_the_connection(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")

        answer = wire.answer()
        assert (answer.status, answer.closes) == (401, True)


def test_small_unread_body_keeps_the_connection(server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(b"PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + b"x" * 1000)
        denied = wire.answer()
        wire.send(b"x" * 3000)

        assert (denied.status, denied.closes) == (401, False)
        assert wire.request("GET", "/tell").status == 200


def connections(pid: int) -> int:
    """Connections that a process holds, by the kernel's own list."""
    held = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    rows = [row.split() for row in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{row[9]}]" in held and row[3] != "0A" for row in rows)  # 0A: listening


def is_refused(wire: Wire, data: bytes) -> bool:
    """Whether the server has let go and takes no more."""
    try:
        wire.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_client_that_sends_on_for_ever_is_let_go(tmp_path: Path) -> None:
    spans = {"linger": 0.5, "linger_idle": 0.4, "rate_window": 5}
    with Server(tmp_path, spans=spans) as server, Wire(server.port) as wire:
        wire.send(b"PUT /deny HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.answer()

        wait_until(lambda: is_refused(wire, b"1000\r\n" + bytes(4096) + b"\r\n"), "the client to be let go")


def test_client_that_stays_after_an_early_answer_is_let_go(tmp_path: Path) -> None:
    with Server(tmp_path, spans={"linger": 20, "linger_idle": 0.2}) as server, Wire(server.port, timeout=10) as wire:
        wire.send(b"PUT /deny HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        wire.answer()

        assert wire.closed()
        [worker] = server.workers()
        wait_until(lambda: connections(worker) == 0, "the client to be let go", timeout=10)
