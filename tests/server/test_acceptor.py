"""Taking connections, and no longer taking them."""

import asyncio
import socket
from contextlib import suppress

import pytest
import uvloop
from tests.support import ports

from stackyard.server.acceptor import Acceptor
from stackyard.server.protocol import Receive, Send
from stackyard.server.roster import Roster
from stackyard.server.settings import Limits


async def never(scope: object, receive: Receive, send: Send) -> None:
    raise AssertionError("nobody asked anything")


@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_is_being_opened_at_the_end_is_closed_too(turns: int) -> None:
    """However far it has come: each turn of the loop opens it a bit more."""

    async def end() -> int:
        loop = asyncio.get_running_loop()
        roster = Roster(loop, Limits())
        listening = socket.create_server(("127.0.0.1", ports.free()))
        listening.setblocking(False)
        acceptor = Acceptor(listening, roster, lambda _: never, ahead=lambda: 0, patience=1)
        with socket.create_connection(listening.getsockname()) as client:
            client.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            acceptor.close()
            await roster.drain(60)
            with suppress(ConnectionResetError):  # it was never accepted
                assert await asyncio.wait_for(loop.sock_recv(client, 1), 10) == b""
        return len(roster.connections)

    assert uvloop.run(end()) == 0
