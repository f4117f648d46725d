"""The load generators for reading, each the cheapest that was found for its job.

Small answers: wrk, which spends less on a request than the servers do. It
cannot send HEAD (it waits for the body that Content-Length announces) and
reads blobs in pieces of 8 KiB, which costs more than sending them; so these
two are done here, with one epoll loop and with a thread per connection.
"""

import itertools
import json
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.servers import Server
from bench.wire import ACCEPT, Unexpected

_TIMEOUT = 60  # seconds for one answer
_PIECE = 256 * 1024  # bytes taken from the kernel at once

_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %d, "failed": %d}\\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
_ROTATE = """
local paths = {%s}
local turn = 0
request = function()
  turn = turn %% #paths + 1
  return wrk.format("GET", paths[turn])
end
"""


def gets(
    server: Server,
    paths: Sequence[str],
    seconds: float,
    *,
    connections: int,
    scratch: Path,
    headers: Mapping[str, str],
) -> int:
    """GET the paths in turn on all connections; how many answers came.

    Raises:
        Unexpected: One of them was an error.
    """
    script = scratch / "wrk.lua"
    rotate = _ROTATE % ",".join(f'"{path}"' for path in paths) if len(paths) > 1 else ""
    script.write_text(rotate + _DONE)
    options = [f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={_TIMEOUT}s", f"-s{script}"]
    sent = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    done = subprocess.run(
        ["wrk", "-t1", *options, *sent, server.url(paths[0])], capture_output=True, text=True, check=True
    )
    summary = json.loads(done.stdout.splitlines()[-1])
    if summary["failed"]:
        raise Unexpected(f"{server}: {paths[0]}: {summary['failed']} of {summary['requests']} failed\n{done.stdout}")
    return int(summary["requests"])


def paced(server: Server, paths: Sequence[str], seconds: float, *, rate: float, connections: int) -> list[float]:
    """GET the paths in turn, `rate` times a second, however long the answers take.

    Returns the seconds from when each request was due until its answer was there: one that has to wait for a free
    connection, because the answers before it were late, was due all the same.

    Raises:
        Unexpected: An answer was an error.
    """
    requests = itertools.cycle([_request("GET", server, path, {"Accept": ACCEPT}) for path in paths])
    idle = [_connect(server) for _ in range(connections)]
    running: dict[socket.socket, tuple[float, bytes]] = {}
    waiting: deque[float] = deque()
    took: list[float] = []
    due = began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds or running or waiting:
        while due <= now and due < began + seconds:
            waiting.append(due)
            due += 1 / rate
        while waiting and idle:
            client = idle.pop()
            client.sendall(next(requests))
            running[client] = (waiting.popleft(), b"")
        ready, _, _ = select.select(list(running), [], [], max(0, due - time.perf_counter()))
        for client in ready:
            asked, data = running[client]
            data += client.recv(65536)
            if _is_whole(server, data):
                took.append(time.perf_counter() - asked)
                del running[client]
                idle.append(client)
            else:
                running[client] = (asked, data)
    for client in idle:
        client.close()
    return took


def _is_whole(server: Server, data: bytes) -> bool:
    """Whether that is all of an answer. Raises Unexpected unless it is 200."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not data.startswith(b"HTTP/1.1 200"[: len(data)]) or not data:
        raise Unexpected(f"{server}: {data[:500]!r}")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def heads(
    server: Server, path: str, seconds: float, *, connections: int, headers: Mapping[str, str] | None = None
) -> int:
    """HEAD one path on all connections; how many answers came. Raises Unexpected unless all are 200."""
    request = _request("HEAD", server, path, headers or {})
    poll = select.epoll()
    clients = [_connect(server) for _ in range(connections)]
    calls = {client.fileno(): (client.recv, client.send) for client in clients}
    for client in clients:
        poll.register(client, select.EPOLLIN)
        client.send(request)
    answers, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for file, _ in poll.poll(_TIMEOUT):
            receive, send = calls[file]
            answer = receive(65536)
            if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"\r\n\r\n"):
                raise Unexpected(f"{server}: HEAD {path}: {answer[:500]!r}")
            answers += 1
            send(request)
    for client in clients:
        client.close()
    poll.close()
    return answers


def downloads(
    server: Server, path: str, size: int, *, connections: int, seconds: float = 0, each: int | None = None
) -> int:
    """GET a blob of `size` bytes again and again and drop the bytes; how many bytes came.

    Every connection stops after the answer in which `seconds` end, or after `each` answers.
    """
    request = _request("GET", server, path, {})
    end = time.monotonic() + seconds
    got: list[int] = []
    errors: list[BaseException] = []

    def pull() -> None:
        try:
            got.append(_download(server, request, size, end=end, each=each))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=pull) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(got)


def _download(server: Server, request: bytes, size: int, *, end: float, each: int | None) -> int:
    buffer = memoryview(bytearray(_PIECE))
    answers = 0
    with _connect(server) as client:
        while answers < each if each is not None else time.monotonic() < end:
            client.sendall(request)
            left = size - _read_head(client, buffer)
            while left > 0:
                read = client.recv_into(buffer)
                if not read:
                    raise Unexpected(f"{server}: the answer ended {left} bytes early")
                left -= read
            answers += 1
    return answers * size


def _read_head(client: socket.socket, buffer: memoryview) -> int:
    """Read up to the end of the header; how many bytes of the body came along."""
    filled = 0
    while True:
        read = client.recv_into(buffer[filled:])
        filled += read
        end = bytes(buffer[:filled]).find(b"\r\n\r\n")
        if end >= 0 or not read:
            break
    if not bytes(buffer[:12]) == b"HTTP/1.1 200":
        raise Unexpected(f"not a blob: {bytes(buffer[: min(filled, 500)])!r}")
    return filled - end - 4


def _connect(server: Server) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), timeout=_TIMEOUT)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not server.tls:
        return client
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(client)


def _request(method: str, server: Server, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "\r\n"]).encode()
