"""The socket on which the running server is administered."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.server.serving import Server, Wire

from stackyard.server import sockets
from stackyard.server.errors import StartError
from stackyard.server.local import open_local, peer_of, short_name
from stackyard.server.settings import LocalSocket


@contextmanager
def listening(path: Path, *, required: bool = False) -> Iterator[list[socket.socket]]:
    opened = open_local(LocalSocket(path, required))
    try:
        yield opened
    finally:
        sockets.close(opened)


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(short_name(path))
    return client


def test_only_its_user_may_open_it(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with listening(path) as (opened,), connected(path):
        opened.setblocking(True)
        with opened.accept()[0] as peer:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert peer_of(peer) == os.getuid()
    assert not path.exists()


def test_a_path_longer_than_a_sockets_address_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)

    with listening(folder / "admin.sock") as opened:
        assert len(opened) == 1
        connected(folder / "admin.sock").close()
    assert not (folder / "admin.sock").exists()


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()

    with listening(path):
        connected(path).close()


def test_the_socket_of_a_running_server_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with listening(path):
        with listening(path) as second:
            assert second == []
        with pytest.raises(StartError, match=r"another process listens .* choose another stackyard\.api\.socket"):
            open_local(LocalSocket(path, required=True))
        connected(path).close()


def test_a_folder_that_is_not_there_matters_only_where_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "none" / "admin.sock"

    assert open_local(LocalSocket(path)) == []
    with pytest.raises(StartError, match="cannot listen on the unix socket"):
        open_local(LocalSocket(path, required=True))


def test_connections_are_answered_by_their_peer(folder: Path) -> None:
    with Server(folder, local=str(folder / "admin.sock")), Wire(str(folder / "admin.sock")) as wire:
        assert json.loads(wire.request("GET", "/").body) == {"peer": os.getuid()}
