"""TCP ports of the loopback interface."""

import random
import socket


def free() -> int:
    """A port on 127.0.0.1 that nobody listens on now.

    Taken below the range from which the kernel gives ports to clients, so
    that no outgoing connection of a neighbour takes it before the server
    does.
    """
    for port in random.SystemRandom().sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 20000 and 32000")


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
