"""Connections to known nodes, as tests/crash has them to known workers."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection

from tests.crash.callers import Caller
from tests.support.nodes import Node


class NodeCaller(Caller):
    """One connection to one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.worker = node.server.process.pid
        self.connection = HTTPConnection(node.host, node.port, timeout=60)
        self.headers: dict[str, str] = {}
        self.body = b""
        self.status = 0
        """Of the last answer that `at_once` waited for."""

    def offset(self, session: str) -> int:
        """Bytes of the session that its status tells of."""
        assert self("GET", session) == 204
        assert self.headers["docker-upload-uuid"] == session.rpartition("/")[2]
        return upto(self)


def upto(caller: Caller) -> int:
    """Bytes that the last answer's Range tells of. Of none it says 0-0 as well, as docker wants."""
    return int(caller.headers["range"].removeprefix("0-")) + 1


@contextmanager
def calling(nodes: Sequence[Node]) -> Iterator[list[NodeCaller]]:
    """A connection to each of them."""
    with ExitStack() as until_the_end:
        callers = [NodeCaller(node) for node in nodes]
        for caller in callers:
            until_the_end.enter_context(closing(caller.connection))
        yield callers
