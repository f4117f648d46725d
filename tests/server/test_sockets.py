"""Listening sockets, opened in this process."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import ports

from stackyard.server import sockets
from stackyard.server.errors import StartError
from stackyard.server.settings import Listen


@contextmanager
def listening(listen: Listen) -> Iterator[list[socket.socket]]:
    opened = sockets.open_listener(listen)
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def connects(family: socket.AddressFamily, address: object) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0  # type: ignore[arg-type]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="IPv6 is off here")


@needs_ipv6
def test_port_alone_listens_on_ipv4_and_ipv6() -> None:
    port = ports.free()
    with listening(Listen(f":{port}")) as opened:
        assert len(opened) == 1
        assert connects(socket.AF_INET, ("127.0.0.1", port))
        assert connects(socket.AF_INET6, ("::1", port))
        assert sockets.describe(opened[0], tls=True) == f"https://[::]:{port}"


def test_port_alone_listens_on_ipv4_where_ipv6_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_has_ipv6", lambda: False)
    port = ports.free()
    with listening(Listen(f":{port}")) as opened:
        assert opened[0].family == socket.AF_INET
        assert connects(socket.AF_INET, ("127.0.0.1", port))


@needs_ipv6
def test_ipv6_address_listens_there_alone() -> None:
    port = ports.free()
    with listening(Listen(f"[::1]:{port}")) as opened:
        assert connects(socket.AF_INET6, ("::1", port))
        assert not connects(socket.AF_INET, ("127.0.0.1", port))
        assert sockets.describe(opened[0], tls=False) == f"http://[::1]:{port}"


def test_name_listens_on_each_of_its_addresses() -> None:
    with listening(Listen("localhost:0")) as opened:
        assert {each.getsockname()[0] for each in opened} <= {"127.0.0.1", "::1"}
        assert len({each.getsockname()[1] for each in opened}) == 1


def test_taken_port_says_how_to_choose_another() -> None:
    port = ports.free()
    with listening(Listen(f"127.0.0.1:{port}")), pytest.raises(StartError) as refused:
        sockets.open_listener(Listen(f":{port}"))

    assert f":{port} is taken" in str(refused.value)
    assert "REGISTRY_HTTP_ADDR=:5001" in str(refused.value)


def test_port_in_time_wait_is_free() -> None:
    port = ports.free()
    with listening(Listen(f"127.0.0.1:{port}")) as opened:
        client = socket.create_connection(("127.0.0.1", port))
        opened[0].setblocking(True)
        accepted, _ = opened[0].accept()
        accepted.close()  # closes first: the port goes to TIME_WAIT on this side
        client.recv(1)
        client.close()

    with listening(Listen(f"127.0.0.1:{port}")):
        pass


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("5000", "write host:port"),
        ("::1:5000", "write host:port"),
        (":", "write host:port"),
        (":nosuchservice", "no service is called 'nosuchservice'"),
        (":70000", "ports end at 65535"),
        ("192.0.2.1:5000", "is not an address of this machine"),
        ("no.such.host.invalid:5000", "cannot listen on 'no.such.host.invalid:5000'"),
    ],
)
def test_address_that_cannot_be_listened_on_says_why(address: str, said: str) -> None:
    with pytest.raises(StartError, match=said):
        sockets.open_listener(Listen(address))


def test_unix_socket_has_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(Listen(str(path), unix=True, mode=0o660)) as opened:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert sockets.describe(opened[0], tls=False) == f"unix:{path}"
        assert connects(socket.AF_UNIX, str(path))


def test_unix_socket_of_a_server_that_is_no_more_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(Listen(path, unix=True)):
        pass
    assert os.path.exists(path)

    with listening(Listen(path, unix=True)):
        assert connects(socket.AF_UNIX, path)


def test_unix_socket_of_a_running_server_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(Listen(path, unix=True)):
        with pytest.raises(StartError, match="another process listens"):
            sockets.open_listener(Listen(path, unix=True))
        assert connects(socket.AF_UNIX, path)


def test_file_in_the_place_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")

    with pytest.raises(StartError, match="is not a socket"):
        sockets.open_listener(Listen(str(path), unix=True))
    assert path.read_text() == "precious"


def test_unix_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(Listen(str(path), unix=True)) as opened:
        sockets.close(opened)
        assert not path.exists()
        sockets.close(opened)


def test_descriptors_of_another_process_are_not_taken() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2"}

    assert sockets.inherited(environ) == {}
    assert environ == {}


INHERITED = """
import os, socket
from stackyard.server import sockets
os.environ["LISTEN_PID"] = str(os.getpid())
found = sockets.inherited(os.environ)
print({name: [each.getsockname()[1] for each in opened] for name, opened in found.items()})
print([each.get_inheritable() or each.getblocking() for opened in found.values() for each in opened])
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def test_sockets_of_systemd_are_taken_by_name() -> None:
    with listening(Listen("127.0.0.1:0")) as main, listening(Listen("127.0.0.1:0")) as debug:
        moved = f"exec 3<&{main[0].fileno()} 4<&{debug[0].fileno()}; exec {sys.executable} -c '{INHERITED}'"
        done = subprocess.run(
            ["/bin/bash", "-c", moved],
            pass_fds=(main[0].fileno(), debug[0].fileno()),
            env=os.environ | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "registry:debug"},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        main_port, debug_port = main[0].getsockname()[1], debug[0].getsockname()[1]

    assert done.stdout.splitlines() == [f"{{'main': [{main_port}], 'debug': [{debug_port}]}}", "[False, False]", "[]"]
