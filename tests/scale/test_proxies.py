"""deploy/nginx.conf and deploy/haproxy.cfg at work: what they pass on, what they ask twice, what they never do."""

import asyncio
import http.client
import itertools
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.crash.callers import written
from tests.support import postgresql, pushing, workers
from tests.support.nodes import Node, Proxy, ShippedNginx, cluster, shared, shipped_haproxy
from tests.support.processes import wait_until

from stackyard.oci.digests import Digest

REPOSITORY = "through/a/proxy"
UPLOADS = f"/v2/{REPOSITORY}/blobs/uploads/"
CONFIG = b"{}"
CLIENTS = 24


@pytest.fixture(scope="module")
def nodes(engine: postgresql.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    folder = tmp_path_factory.mktemp("proxies")
    common = shared(asyncio.run(engine.create()), {"filesystem": {"rootdirectory": str(folder / "data")}})
    with cluster(folder, common) as running:
        yield running


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest, nodes: Sequence[Node]) -> Iterator[Proxy]:
    """Each of the two in turn."""
    running: Proxy = ShippedNginx(nodes) if request.param == "nginx" else shipped_haproxy(nodes)
    yield running
    running.stop()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{proxy.address}", timeout=120) as opened:
        yield opened


def port_of(proxy: Proxy) -> int:
    return int(proxy.address.rpartition(":")[2])


def image(node: Node) -> bytes:
    """A manifest whose blobs are there."""
    config = pushing.blob(node.server, REPOSITORY, CONFIG, pushing.CONFIG)
    layer = pushing.blob(node.server, REPOSITORY, secrets.token_bytes(1000))
    document = {"schemaVersion": 2, "mediaType": pushing.IMAGE, "config": config, "layers": [layer]}
    return json.dumps(document).encode()


def put(client: httpx.Client, tag: str, manifest: bytes) -> int:
    headers = {"Content-Type": pushing.IMAGE}
    return client.put(f"/v2/{REPOSITORY}/manifests/{tag}", content=manifest, headers=headers).status_code


def logged(nodes: Sequence[Node], text: str) -> list[str]:
    """The lines of all access logs with this text, once there is one."""
    found: list[str] = []

    def is_there() -> bool:
        found.extend(line for node in nodes for line in node.server.log.splitlines() if text in line)
        return bool(found)

    wait_until(is_there, f"{text} in an access log", timeout=60)
    return found


def test_nodes_see_the_client_s_own_address_whatever_it_claims(nodes: list[Node], proxy: Proxy) -> None:
    mark = secrets.token_hex(8)
    connection = http.client.HTTPConnection("127.0.0.1", port_of(proxy), timeout=60, source_address=("127.0.0.77", 0))
    with closing(connection):
        headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
        connection.request("POST", f"{UPLOADS}?mark={mark}", b"", headers | {"Host": "registry.example:8443"})
        answer = connection.getresponse()

    assert answer.status == 202
    assert answer.headers["Location"].startswith(f"http://registry.example:8443{UPLOADS}")
    assert [line.split()[0] for line in logged(nodes, mark)] == ["127.0.0.77"]


def test_an_upload_reaches_the_node_while_it_is_still_being_sent(nodes: list[Node], proxy: Proxy) -> None:
    content = secrets.token_bytes(8 << 20)
    session = urlsplit(nodes[0].request("POST", UPLOADS).headers["Location"]).path
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(proxy), timeout=120)) as connection:
        connection.putrequest("PATCH", session)
        connection.putheader("Content-Length", str(len(content)))
        connection.endheaders(content[: len(content) // 2])

        wait_until(lambda: written(nodes[0].server, session) > 1 << 20, "the first half to be on the disk", timeout=60)

        connection.send(content[len(content) // 2 :])
        assert connection.getresponse().status == 202
    done = nodes[0].request("PUT", f"{session}?digest={Digest.of(content)}")
    assert done.status == 201


def test_nginx_keeps_no_layer_on_its_disk(nodes: list[Node]) -> None:
    """Neither one that comes from a slow node nor one that goes to a slow client."""
    content = secrets.token_bytes(48 << 20)
    proxy = ShippedNginx(nodes)
    try:
        pids = [proxy.pid, *workers.children(proxy.pid)]
        session = urlsplit(nodes[0].request("POST", UPLOADS).headers["Location"]).path
        with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=120)) as connection:
            connection.putrequest("PATCH", session)
            connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content[: 40 << 20])
            wait_until(lambda: written(nodes[0].server, session) > 30 << 20, "most to be on the node's disk")
            sending = temporary(pids, proxy.folder)
            connection.send(content[40 << 20 :])
            assert connection.getresponse().status == 202
        assert nodes[1].request("PUT", f"{session}?digest={Digest.of(content)}").status == 201
        with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=120)) as connection:
            connection.request("GET", f"/v2/{REPOSITORY}/blobs/{Digest.of(content)}")
            answer = connection.getresponse()
            first = answer.read(1000)  # and no more for now: the rest waits in the sockets
            fetching = temporary(pids, proxy.folder)
            rest = answer.read()

        assert first + rest == content
        assert (sending, fetching) == ([], [])
    finally:
        proxy.stop()


def temporary(pids: Sequence[int], folder: Path) -> list[str]:
    """Files of bodies that nginx has open, removed or not."""
    found = []
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                name = str(entry.readlink())
                if name.startswith((f"{folder}/client_body", f"{folder}/proxy")):
                    found.append(name)
    return found


def test_nothing_fails_at_a_node_that_was_stopped_without_a_word(nodes: list[Node], client: httpx.Client) -> None:
    """A connection that cannot be made costs no request of any kind: nothing was sent on it."""
    manifest = image(nodes[0])
    nodes[1].kill()
    try:
        statuses = []
        for number in range(15):
            statuses.append(put(client, f"v{number}", manifest))
            statuses.append(client.get(f"/v2/{REPOSITORY}/manifests/v{number}").status_code)
            content = secrets.token_bytes(2000)
            statuses.append(
                client.post(UPLOADS, params={"digest": str(Digest.of(content))}, content=content).status_code
            )
            statuses.append(client.delete(f"/v2/{REPOSITORY}/manifests/v{number}").status_code)
    finally:
        nodes[1].start()

    assert statuses == [201, 200, 201, 202] * 15


def test_what_may_be_asked_twice_is_asked_elsewhere_when_its_node_dies(nodes: list[Node], proxy: Proxy) -> None:
    """The node took the request and dies before it answers."""
    manifest = image(nodes[0])
    with httpx.Client(base_url=f"http://{proxy.address}") as client:
        assert put(client, "twice", manifest) == 201
    kinds = itertools.cycle(["GET", "HEAD", "PUT", "POST"])

    def ask(client: httpx.Client) -> int:
        kind = next(kinds)
        if kind == "PUT":
            return put(client, "twice", manifest) - 1
        if kind == "POST":
            return client.post(UPLOADS).status_code - 2
        return client.request(kind, f"/v2/{REPOSITORY}/manifests/twice").status_code

    assert while_a_node_dies(nodes, proxy, ask) == [200] * CLIENTS


def test_a_piece_of_a_layer_is_never_sent_twice(nodes: list[Node], proxy: Proxy) -> None:
    """Its node dies before it answers: the client is told, and the piece is in the session once or not at all."""
    content = secrets.token_bytes(1000)
    sessions: list[str] = []

    def ask(client: httpx.Client) -> int:
        session = urlsplit(nodes[0].request("POST", UPLOADS).headers["Location"]).path
        sessions.append(session)
        try:
            return client.patch(session, content=iter([content])).status_code
        except httpx.TransportError:  # HAProxy hangs up on who is still sending
            return 502

    statuses = while_a_node_dies(nodes, proxy, ask)

    assert set(statuses) == {202, 502}
    offsets = {nodes[0].request("GET", session).headers["Range"] for session in sessions}
    assert offsets <= {"0-0", "0-999"}


def while_a_node_dies(nodes: list[Node], proxy: Proxy, ask: Callable[[httpx.Client], int]) -> list[int]:
    """CLIENTS ask at once while a node stands still, which then dies. What they were answered."""
    statuses: list[int] = []

    def once() -> None:
        with httpx.Client(base_url=f"http://{proxy.address}", timeout=120) as client:
            statuses.append(ask(client))

    threads = [threading.Thread(target=once) for _ in range(CLIENTS)]
    with nodes[2].frozen():
        for thread in threads:
            thread.start()
        wait_until(
            lambda: sum(not thread.is_alive() for thread in threads) >= CLIENTS // 2, "the others to answer", timeout=60
        )
        wait_until(lambda: waiting_at(nodes[2]), "somebody to wait for the node that stands still", timeout=60)
        nodes[2].kill()
    for thread in threads:
        thread.join()
    nodes[2].start()
    assert len(statuses) == len(threads)
    return statuses


def waiting_at(node: Node) -> bool:
    """Whether there is a connection to it on which something waits to be read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, state, queue = fields[1], fields[3], fields[4]
        if int(local.rpartition(":")[2], 16) == node.port and state == "01" and int(queue.rpartition(":")[2], 16) > 0:
            return True
    return False
