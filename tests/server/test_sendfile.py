"""Files by sendfile(2), and over TLS mapped: byte for byte what a stream would send, whoever reads it how."""

import json
import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import Server, random_file
from tests.support.certificates import Authority
from tests.support.processes import wait_until

SIZE = 5 * 1024 * 1024 + 12345


@pytest.fixture(scope="module", params=["plain", "plain, prompt", "TLS, prompt"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    more: dict[str, Any] = {"prompt": "prompt" in request.param}
    if "TLS" in request.param:
        authority = Authority(folder / "authority")
        pair = authority.issue("localhost", "127.0.0.1")
        more["context"] = ssl.create_default_context(cafile=authority.certificate)
        more["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
    with Server(folder, **more) as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("file") / "file"
    return path, random_file(path, SIZE)


def test_whole_file_arrives(server: Server, file: tuple[Path, bytes]) -> None:
    path, content = file

    answer = server.get(f"/send-file?path={path}")

    assert answer.headers["x-way"] == "file"
    assert answer.body == content


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 1), (SIZE - 1, 1), (7, 64 * 1024), (7, 64 * 1024 + 1), (12345, 4096 * 600 + 7), (0, SIZE)],
)
def test_part_of_a_file_arrives(server: Server, file: tuple[Path, bytes], offset: int, count: int) -> None:
    path, content = file

    assert server.get(f"/send-file?path={path}&offset={offset}&count={count}").body == content[offset : offset + count]


def test_no_bytes_of_a_file_are_an_empty_answer(server: Server, file: tuple[Path, bytes]) -> None:
    with server.wire() as wire:
        assert wire.request("GET", f"/send-file?path={file[0]}&count=0").body == b""
        assert wire.request("GET", "/tell").status == 200


def test_connection_is_kept_between_files(server: Server, file: tuple[Path, bytes]) -> None:
    path, content = file

    with server.wire() as wire:
        for _ in range(5):
            assert wire.request("GET", f"/send-file?path={path}").body == content


def test_pipelined_files_and_answers_keep_their_order(server: Server, file: tuple[Path, bytes]) -> None:
    path, content = file
    ask = f"GET /send-file?path={path} HTTP/1.1\r\nHost: a\r\n\r\nGET /tell HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    with server.wire() as wire:
        wire.send(ask * 4)
        for _ in range(4):
            assert wire.answer().body == content
            assert json.loads(wire.answer().body)["path"] == "/tell"


def test_file_after_an_answer_that_still_fills_the_buffers_comes_behind_it(
    server: Server, file: tuple[Path, bytes]
) -> None:
    path, content = file
    stream, whole = (f"GET /{way}-file?path={path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for way in ("stream", "send"))

    with server.wire() as wire:
        wire.send((stream + whole) * 2)
        assert [wire.answer().body == content for _ in range(4)] == [True] * 4


def test_head_of_a_file_has_its_length_and_no_bytes(server: Server, file: tuple[Path, bytes]) -> None:
    with server.wire() as wire:
        head = wire.request("HEAD", f"/send-file?path={file[0]}")

        assert int(head.headers["content-length"]) == SIZE
        assert wire.request("GET", "/tell").status == 200


def test_client_that_leaves_midway_is_noted(server: Server, tmp_path: Path) -> None:
    note, large = tmp_path / "note", tmp_path / "large"
    large.touch()
    os.truncate(large, 100_000_000)  # more than the kernel's buffers on both sides hold
    with server.wire() as wire:
        wire.send(f"GET /send-file?path={large}&note={note} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wire.socket.recv(1000)

    wait_until(lambda: note.exists() and note.read_text() != "", "the application to hear of it")
    sent, cut_off, _ = json.loads(note.read_text())
    assert cut_off
    assert 0 < sent < 100_000_000


@pytest.mark.parametrize(("size", "announced"), [(1000, 2000), (1_500_000, 3_000_000), (2_000_000, 2_000_001)])
def test_file_shorter_than_announced_breaks_the_connection(
    server: Server, tmp_path: Path, size: int, announced: int
) -> None:
    short = tmp_path / "short"
    random_file(short, size)

    with server.wire() as wire, pytest.raises((AssertionError, ConnectionResetError)):
        wire.request("GET", f"/send-file?path={short}&count={announced}")


def test_file_that_is_not_cached_arrives(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "cold"
    content = random_file(path, SIZE)
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)

    assert server.get(f"/send-file?path={path}").body == content


def test_descriptors_do_not_leak(server: Server, file: tuple[Path, bytes], tmp_path: Path) -> None:
    [worker] = server.workers()
    folder = Path(f"/proc/{worker}/fd")
    server.get(f"/send-file?path={file[0]}")
    before = len(list(folder.iterdir()))

    for number in range(10):
        note = tmp_path / str(number)
        with server.wire() as wire:
            wire.send(f"GET /send-file?path={file[0]}&note={note} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            wire.socket.recv(1000)

    wait_until(lambda: len(list(folder.iterdir())) <= before, "the descriptors to be closed")


def test_client_that_rests_holds_one_descriptor(server: Server, file: tuple[Path, bytes]) -> None:
    [worker] = server.workers()
    folder = Path(f"/proc/{worker}/fd")
    server.get(f"/send-file?path={file[0]}")  # the first of all opens what stays
    wait_until(lambda: not _held(worker, file[0]), "what other tests opened to be closed")
    before = len(list(folder.iterdir()))

    with server.wire() as wire:
        assert wire.request("GET", f"/send-file?path={file[0]}").body == file[1]

        wait_until(lambda: len(list(folder.iterdir())) == before + 1, "the second descriptor to be closed")
        assert wire.request("GET", f"/send-file?path={file[0]}").body == file[1]


def test_many_readers_at_once_each_get_their_file(server: Server, file: tuple[Path, bytes]) -> None:
    path, content = file
    wires = [server.wire() for _ in range(20)]
    for wire in wires:
        wire.send(f"GET /send-file?path={path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    assert all(wire.answer().body == content for wire in wires)
    for wire in wires:
        wire.close()


def _held(pid: int, file: Path) -> list[str]:
    """The sockets of a process beside those that it listens on and is woken by, whatever their state, and this file."""
    held = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            held.append(os.readlink(each))
    tcp = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    unix = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    kept = {line[9] for line in tcp if line[3] == "0A"} | {line[6] for line in unix}  # TCP_LISTEN
    sockets = {each for each in held if each.startswith("socket:")} - {f"socket:[{inode}]" for inode in kept}
    return [each for each in held if each in sockets or each == str(file)]
