"""An upload session belongs to no node: every request of it may come to another, and one writer wins."""

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import httpx
import pytest
from tests.crash.callers import REPOSITORY, HalfSent, files
from tests.scale.calling import NodeCaller, calling, upto
from tests.support import nodes as support
from tests.support import postgresql
from tests.support.nodes import Node, Proxy, ShippedNginx, cluster, shared, shipped_haproxy
from tests.support.processes import wait_until

from stackyard.oci import layout
from stackyard.oci.digests import Digest


@pytest.fixture(scope="module")
def nodes(engine: postgresql.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three, whose claims on uploads run out after two seconds of silence; shipped it is half a minute."""
    folder = tmp_path_factory.mktemp("sessions")
    storage = {"filesystem": {"rootdirectory": str(folder / "data")}}
    common = shared(asyncio.run(engine.create()), storage)
    with cluster(folder, common, program=support.QUICK_CLAIMS) as running:
        yield running


@pytest.fixture
def callers(nodes: Sequence[Node]) -> Iterator[list[NodeCaller]]:
    with calling(nodes) as found:
        yield found


def taken_over(caller: NodeCaller, method: str, path: str, body: bytes, **headers: str) -> list[int]:
    """The statuses until the claim of a silent writer has run out; until then it has to be 416."""
    statuses: list[int] = []

    def is_answered() -> bool:
        statuses.append(caller(method, path, body, **headers))
        return statuses[-1] != 416

    wait_until(is_answered, "the claim of the silent writer to run out", timeout=60)
    return statuses


def at_once(callers: Sequence[NodeCaller], method: str, path: str, bodies: Sequence[bytes], content_range: str) -> None:
    """Everyone asks at the same moment; what they were told is in their `headers` and `body`."""
    ready = threading.Barrier(len(callers))

    def ask(caller: NodeCaller, body: bytes) -> None:
        ready.wait()
        headers = {"Content_Range": content_range} if content_range else {}
        caller.status = caller(method, path, body, **headers)

    threads = [threading.Thread(target=ask, args=each) for each in zip(callers, bodies, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_every_request_of_a_session_may_come_to_another_node(callers: list[NodeCaller]) -> None:
    content = secrets.token_bytes(3_000_000)
    one, two, three = callers

    session = one.start()
    told = [[caller.offset(session) for caller in callers]]
    for caller, start in ((two, 0), (three, 900_000), (one, 1_800_000)):
        stop = start + 900_000
        assert caller("PATCH", session, content[start:stop], Content_Range=f"{start}-{stop - 1}") == 202
        assert upto(caller) == stop
        told.append([each.offset(session) for each in callers])
    assert two("PUT", f"{session}?digest={Digest.of(content)}", content[2_700_000:]) == 201

    assert told == [[1] * 3, [900_000] * 3, [1_800_000] * 3, [2_700_000] * 3]
    assert [caller.blob(Digest.of(content)) for caller in callers] == [content] * 3
    assert [caller("GET", session) for caller in callers] == [404] * 3


def test_a_wrong_digest_is_refused_by_every_node_and_keeps_the_session(callers: list[NodeCaller]) -> None:
    content = secrets.token_bytes(500_000)
    wrong = Digest.of(content + b"!")
    one, two, three = callers
    session = one.start()
    assert one("PATCH", session, content[:200_000]) == 202
    assert two("PATCH", session, content[200_000:]) == 202

    refused = [caller("PUT", f"{session}?digest={wrong}", b"") for caller in callers]

    assert refused == [400] * 3
    assert [caller.blob(wrong) for caller in callers] == [None] * 3
    assert three("PUT", f"{session}?digest={Digest.of(content)}", b"") == 201
    assert one.blob(Digest.of(content)) == content


def test_a_session_cancelled_on_one_node_is_gone_on_all(callers: list[NodeCaller]) -> None:
    one, two, three = callers
    session = one.start()
    assert two("PATCH", session, b"bytes") == 202

    assert three("DELETE", session) == 204

    assert [caller("GET", session) for caller in callers] == [404] * 3
    assert [caller("PATCH", session, b"more") for caller in callers] == [404] * 3


def test_of_two_nodes_writing_one_session_the_second_is_told_where_it_stands(callers: list[NodeCaller]) -> None:
    content = secrets.token_bytes(8 << 20)
    one, two, three = callers
    session = one.start()
    assert three("PATCH", session, content[:1000]) == 202
    first = HalfSent(one.node.server, one, session, content[1000:])

    for method, path in (("PATCH", session), ("PUT", f"{session}?digest={Digest.of(b'other')}")):
        for caller in (two, three):
            assert caller(method, path, b"other") == 416
            assert caller.headers["range"] == "0-999"
            assert urlsplit(caller.headers["location"]).path == session

    assert first.finish() == 202
    assert two("PUT", f"{session}?digest={Digest.of(content)}", b"") == 201
    assert [caller.blob(Digest.of(content)) for caller in callers] == [content] * 3
    assert two.blob(Digest.of(b"other")) is None


@pytest.mark.parametrize("size", [1_000, 300_000])
def test_of_nodes_that_write_the_same_place_at_once_one_wins(callers: list[NodeCaller], size: int) -> None:
    for _ in range(15):
        head, bodies = secrets.token_bytes(10_000), [secrets.token_bytes(size) for _ in callers]
        session = callers[0].start()
        assert callers[1]("PATCH", session, head) == 202

        at_once(callers, "PATCH", session, bodies, f"10000-{9999 + size}")

        statuses = [caller.status for caller in callers]
        assert sorted(statuses) == [202, 416, 416]
        winner = statuses.index(202)
        for caller, status in zip(callers, statuses, strict=True):
            # Who lost is told where the session stood when it was refused: before the winner was done, or after.
            assert upto(caller) in ({10_000 + size} if status == 202 else {10_000, 10_000 + size})
        assert [caller.offset(session) for caller in callers] == [10_000 + size] * 3
        whole = head + bodies[winner]
        assert callers[winner - 1]("PUT", f"{session}?digest={Digest.of(whole)}", b"") == 201
        assert callers[winner].blob(Digest.of(whole)) == whole


def test_of_nodes_that_finish_a_session_at_once_one_wins_and_the_blob_is_whole(callers: list[NodeCaller]) -> None:
    for _ in range(15):
        content = secrets.token_bytes(300_000)
        session = callers[0].start()
        assert callers[0]("PATCH", session, content[:100_000]) == 202

        at_once(callers, "PUT", f"{session}?digest={Digest.of(content)}", [content[100_000:]] * 3, "")

        statuses = [caller.status for caller in callers]
        assert statuses.count(201) == 1
        assert set(statuses) <= {201, 404, 416}
        assert [caller.blob(Digest.of(content)) for caller in callers] == [content] * 3


@pytest.mark.parametrize("finishing", ["patch", "put"])
def test_a_stalled_node_never_adds_to_what_another_one_published(callers: list[NodeCaller], finishing: str) -> None:
    """It stood still with half a body on the disk, past its claim, and goes on writing when it wakes up."""
    head, late, tail = (secrets.token_bytes(4 << 20) for _ in range(3))
    meant, made = Digest.of(head + late), Digest.of(head + tail)
    sleeper, two, three = callers
    session = sleeper.start()
    assert two("PATCH", session, head) == 202
    sent = HalfSent(sleeper.node.server, sleeper, session, late, str(meant) if finishing == "put" else "")

    with sleeper.node.frozen():
        statuses = taken_over(two, "PATCH", session, tail[:1000], Content_Range=f"{len(head)}-{len(head) + 999}")
        assert statuses[-1] == 202
        assert three.offset(session) == len(head) + 1000
        assert three("PUT", f"{session}?digest={made}", tail[1000:]) == 201
        published = two.blob(made)
        sent.send_rest()

    assert len(statuses) > 1, "the claim of a writer was not respected"
    assert published == head + tail
    assert sleeper.read() in (404, 416)
    assert [caller.blob(made) for caller in callers] == [head + tail] * 3
    assert [caller.blob(meant) for caller in callers] == [None] * 3
    assert (sleeper.node.server.data / layout.blob(made, 0)).read_bytes() == head + tail


def test_an_upload_goes_on_elsewhere_when_its_node_is_killed(nodes: list[Node]) -> None:
    """What was acknowledged is there; what was under way when the node died may be there or not, and is told of."""
    content = secrets.token_bytes(8 << 20)
    with calling(nodes) as (victim, two, three):
        session = victim.start()
        assert victim("PATCH", session, content[:1_000_000]) == 202
        HalfSent(victim.node.server, victim, session, content[1_000_000:])
        victim.node.kill()
        try:
            assert two.offset(session) == 1_000_000
            statuses = taken_over(two, "PATCH", session, content[1_000_000:2_000_000])
            assert statuses[-1] == 202
            assert three.offset(session) == 2_000_000
            assert three("PUT", f"{session}?digest={Digest.of(content)}", content[2_000_000:]) == 201
            assert two.blob(Digest.of(content)) == content
        finally:
            victim.node.start()
    with calling(nodes) as (again, _, _):
        assert again.blob(Digest.of(content)) == content
        assert files(again.node.server, session) == {}


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_session_is_spread_over_the_nodes_by_the_proxy(nodes: list[Node], kind: str) -> None:
    proxy: Proxy = ShippedNginx(nodes) if kind == "nginx" else shipped_haproxy(nodes)
    content = secrets.token_bytes(2_000_000)
    try:
        with httpx.Client(base_url=f"http://{proxy.address}", timeout=60) as client:
            answer = client.post(f"/v2/{REPOSITORY}/blobs/uploads/")
            for start in range(0, len(content), 100_000):
                assert answer.status_code == 202
                where = answer.headers["location"]
                assert where.startswith(f"http://{proxy.address}/v2/")
                answer = client.patch(where, content=iter([content[start : start + 100_000]]))
            done = client.put(answer.headers["location"], params={"digest": str(Digest.of(content))})
            got = client.get(done.headers["location"])

        assert (done.status_code, got.content) == (201, content)
        wait_until(lambda: len(served(proxy, nodes)) == 23, "every request to be logged")
        assert len(Counter(served(proxy, nodes))) == 3
    finally:
        proxy.stop()


def served(proxy: Proxy, nodes: Sequence[Node]) -> list[str]:
    """Which node answered, for each line of the proxy's log about the API."""
    lines = [line for line in proxy.output.splitlines() if "/v2/" in line]
    return [node.name for line in lines for node in nodes if f" {node.where} " in line or f"/{node.name} " in line]
