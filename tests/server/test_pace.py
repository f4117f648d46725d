"""When a client counts as too slow."""

import socket
from datetime import timedelta

from tests.support.processes import wait_until

from stackyard.server.pace import Pace, acknowledged
from stackyard.server.settings import Limits

LIMITS = Limits(minimum_rate=100, rate_window=timedelta(seconds=10))


def verdicts(*looks: tuple[float, int | None]) -> list[bool]:
    """The verdict at each look; None: the client was not waited for."""
    pace, found = Pace(LIMITS), []
    for now, moved in looks:
        if moved is None:
            pace.forgive()
        else:
            found.append(pace.too_slow(now, moved))
    return found


def test_first_window_is_never_too_slow() -> None:
    assert verdicts((0, 0), (5, 0), (9.9, 0)) == [False, False, False]


def test_window_with_too_few_bytes_is_too_slow() -> None:
    assert verdicts((0, 0), (10, 999)) == [False, True]


def test_window_with_just_enough_bytes_is_not() -> None:
    assert verdicts((0, 0), (10, 1000)) == [False, False]


def test_every_window_is_judged_by_itself() -> None:
    assert verdicts((0, 0), (10, 1_000_000), (20, 1_000_500)) == [False, False, True]


def test_time_in_which_the_client_is_not_waited_for_does_not_count() -> None:
    assert verdicts((0, 0), (9, None), (10, 0), (19, 0), (20, 0)) == [False, False, False, True]


def test_minimum_of_zero_lets_everybody_be() -> None:
    pace = Pace(Limits(minimum_rate=0, rate_window=timedelta(seconds=1)))

    assert [pace.too_slow(now, 0) for now in range(5)] == [False] * 5


def test_acknowledged_is_what_the_clients_kernel_has_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        served, _ = listening.accept()
    with client, served:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        served.sendall(bytes(1000))
        wait_until(lambda: acknowledged(served) == 1000, "the client's kernel to say so")
        served.setblocking(False)
        while True:
            try:
                served.send(bytes(100_000))
            except BlockingIOError:
                break

        unread = acknowledged(served)
        assert unread is not None
        assert client.recv(1000) == bytes(1000)
        wait_until(lambda: (acknowledged(served) or 0) >= unread, "the rest to be counted")


def test_acknowledged_is_not_known_of_unix_sockets_and_closed_ones() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        assert acknowledged(ours) is None
        ours.close()
        assert acknowledged(ours) is None
