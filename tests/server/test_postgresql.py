"""The whole registry on PostgreSQL: one server with two workers, on a database that comes and goes."""

import asyncio
import json
import random
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest
from tests.crash.callers import Caller, HalfSent, both
from tests.crash.ledger import Ledger
from tests.crash.test_kill import push_to, wait_until_served
from tests.http import content
from tests.support import postgresql, stackyard, workers
from tests.support.processes import wait_until
from tests.support.running import Answer, Running

from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_MANIFEST


@pytest.fixture(scope="module")
def registry(postgresql_server: postgresql.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests of this module; each uses a repository of its own."""
    url = asyncio.run(postgresql_server.create())
    config = {"stackyard": {"workers": 2, "database": {"url": url}}}
    with stackyard.start(config, folder=tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture
def server(registry: Running) -> Iterator[Running]:
    yield registry
    assert "Traceback" not in registry.log, registry.log


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("_", "-")


def push_blob(caller: Caller, repository: str, body: bytes) -> Digest:
    digest = Digest.of(body)
    assert caller("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", body) == 201
    return digest


def put_manifest(caller: Caller, repository: str, reference: str, manifest: bytes) -> Digest:
    path = f"/v2/{repository}/manifests/{reference}"
    assert caller("PUT", path, manifest, Content_Type=OCI_MANIFEST) == 201
    return Digest.of(manifest)


def push_image(caller: Caller, repository: str) -> bytes:
    """Tagged `latest`; its manifest."""
    for body in (content.CONFIG, content.LAYER):
        push_blob(caller, repository, body)
    manifest = content.image()
    put_manifest(caller, repository, "latest", manifest)
    return manifest


def asked(server: Running, method: str, path: str, body: bytes | None = None) -> Answer:
    """The answer, which if it is an error has the form of the specification, and is never a 500."""
    answer = server.request(method, path, body=body)
    assert answer.status != 500
    if answer.status >= 400:
        assert answer.status == 503, answer
        assert answer.headers["Retry-After"]
        assert [one["code"] for one in json.loads(answer.body)["errors"]] == ["UNAVAILABLE"]
    return answer


# Every way of pushing and asking


def test_a_session_is_served_by_both_workers_and_mounted_elsewhere(server: Running, repository: str) -> None:
    body = secrets.token_bytes(900_000)
    digest = Digest.of(body)
    with both(server) as (one, other):
        session = one.start()
        assert other("PATCH", session, body[:300_000]) == 202
        assert one("PATCH", session, body[300_000:600_000], Content_Range="300000-599999") == 202
        assert other("GET", session) == 204
        assert other.headers["range"] == "0-599999"
        assert one("PUT", f"{session}?digest={digest}", body[600_000:]) == 201
        assert other.blob(digest) == body
        assert other("GET", session) == 404

        assert other("POST", f"/v2/{repository}/blobs/uploads/?mount={digest}", b"") == 201
        assert one("GET", f"/v2/{repository}/blobs/{digest}") == 200
        assert one.body == body
        assert one("DELETE", f"/v2/{repository}/blobs/{digest}") == 202
        assert other("GET", f"/v2/{repository}/blobs/{digest}") == 404
        assert other.blob(digest) == body


def test_an_image_is_pushed_by_one_worker_and_found_by_the_other(server: Running, repository: str) -> None:
    with both(server) as (one, other):
        manifest = push_image(one, repository)
        subject = content.descriptor(manifest, OCI_MANIFEST)
        referrer = put_manifest(one, repository, "signature", content.image(subject=subject))

        for reference in ("latest", subject["digest"]):
            assert other("GET", f"/v2/{repository}/manifests/{reference}") == 200
            assert other.body == manifest
        assert other("GET", f"/v2/{repository}/tags/list") == 200
        assert json.loads(other.body)["tags"] == ["latest", "signature"]
        assert other("GET", f"/v2/{repository}/referrers/{subject['digest']}") == 200
        assert [one["digest"] for one in json.loads(other.body)["manifests"]] == [referrer]
        assert other("GET", "/v2/_catalog?n=100") == 200
        assert repository in json.loads(other.body)["repositories"]


def test_what_one_worker_deletes_the_other_does_not_show(server: Running, repository: str) -> None:
    with both(server) as (one, other):
        manifest = push_image(one, repository)
        assert other("GET", f"/v2/{repository}/manifests/latest") == 200
        put_manifest(one, repository, "other", manifest)

        assert one("DELETE", f"/v2/{repository}/manifests/other") == 202
        assert other("GET", f"/v2/{repository}/tags/list") == 200
        assert json.loads(other.body)["tags"] == ["latest"]
        assert one("DELETE", f"/v2/{repository}/manifests/{Digest.of(manifest)}") == 202
        for reference in ("latest", Digest.of(manifest)):
            assert other("GET", f"/v2/{repository}/manifests/{reference}") == 404


def test_of_two_writers_on_one_session_the_second_is_refused(server: Running) -> None:
    body = secrets.token_bytes(8 << 20)
    with both(server) as (one, other):
        session = one.start()
        first = HalfSent(server, one, session, body)
        assert other("PATCH", session, b"other") == 416

        assert first.finish() == 202
        assert other("PUT", f"{session}?digest={Digest.of(body)}", b"") == 201
        assert one.blob(Digest.of(body)) == body


# Workers that die


def test_a_worker_killed_in_the_middle_of_pushes_loses_nothing_that_was_acknowledged(server: Running) -> None:
    ledgers = [Ledger(f"killed/{number}") for number in range(6)]
    with both(server):
        victim, survivor = workers.pids(server.process.pid)
    pushers = push_to(server, [victim, survivor], ledgers, random.Random())
    wait_until(lambda: all(one.acknowledged > 3 or one.complaint for one in pushers), "everybody to be at work")

    workers.kill([victim])
    wait_until_served(pushers)
    for pusher in pushers:
        pusher.finish()

    assert survivor in workers.pids(server.process.pid)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    for ledger in ledgers:
        ledger.check(connection, ledger.unchecked)
    connection.close()


# A database that goes away


@dataclass
class Client:
    """Pushes blobs and reads the first again without a pause, and notes how it went."""

    server: Running
    repository: str
    acknowledged: list[Digest] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    complaint: BaseException | None = None

    def ask(self) -> None:
        """One push, one pull."""
        body = secrets.token_bytes(20_000)
        pushed = asked(self.server, "POST", f"{self._path}/uploads/?digest={Digest.of(body)}", body)
        if pushed.status == 201:
            self.acknowledged.append(Digest.of(body))
        self.statuses.append(pushed.status)
        if self.acknowledged:
            self.statuses.append(asked(self.server, "GET", f"{self._path}/{self.acknowledged[0]}").status)

    def lost(self) -> list[Digest]:
        """What was acknowledged and is not there."""
        paths = {digest: f"{self._path}/{digest}" for digest in self.acknowledged}
        return [digest for digest, path in paths.items() if Digest.of(asked(self.server, "GET", path).body) != digest]

    @property
    def _path(self) -> str:
        return f"/v2/{self.repository}/blobs"


@contextmanager
def at_work(client: Client) -> Iterator[None]:
    """The client asks, again and again, within the context. Raises what it complains about."""
    enough = threading.Event()

    def work() -> None:
        try:
            while not enough.is_set():
                client.ask()
        except BaseException as error:  # told on the main thread
            client.complaint = error

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
    if client.complaint:
        raise client.complaint


def test_a_registry_without_its_database_says_so_and_goes_on_when_it_is_back(
    server: Running, repository: str, postgresql_server: postgresql.Server
) -> None:
    before = workers.pids(server.process.pid)
    client = Client(server, repository)
    with at_work(client):
        wait_until(lambda: len(client.acknowledged) > 5 or client.complaint is not None, "a few pushes")
        with postgresql_server.stopped():
            assert asked(server, "GET", "/readyz").status == 503
            assert server.request("GET", "/healthz").status == 200
            wait_until(lambda: client.statuses[-4:] == [503] * 4 or client.complaint is not None, "refusals")
        wait_until(lambda: asked(server, "GET", "/readyz").status == 200, "readiness")
        wait_until(lambda: client.statuses[-4:] == [201, 200] * 2 or client.complaint is not None, "answers again")

    assert client.lost() == []
    assert workers.pids(server.process.pid) == before


def test_requests_that_a_restart_of_the_database_meets_are_refused_in_words(
    server: Running, repository: str, postgresql_server: postgresql.Server
) -> None:
    """Several clients, so that connections end at every step of a transaction."""
    clients = [Client(server, f"{repository}/{number}") for number in range(6)]
    with ExitStack() as work:
        for client in clients:
            work.enter_context(at_work(client))
        for _ in range(8):
            with postgresql_server.stopped():
                pass
            wait_until_acknowledged(clients)

    assert [client.lost() for client in clients] == [[]] * len(clients)


def wait_until_acknowledged(clients: Sequence[Client]) -> None:
    """Everybody's next push is. (A complaint is told when the client ends.)"""
    goals = [(client, len(client.acknowledged) + 1) for client in clients]
    wait_until(
        lambda: all(len(client.acknowledged) >= goal or client.complaint for client, goal in goals),
        "everybody's push to be acknowledged",
    )


def test_a_restart_of_the_database_that_nobody_was_waiting_for_costs_no_request(
    server: Running, repository: str, postgresql_server: postgresql.Server
) -> None:
    with both(server) as callers:
        for caller in callers:
            push_image(caller, repository)
        with postgresql_server.stopped():
            for caller in callers:
                assert caller("GET", "/healthz") == 200  # so that each worker has seen its connections end

        for caller in callers:
            push_image(caller, repository)
            assert caller("GET", f"/v2/{repository}/tags/list") == 200
            assert caller("GET", f"/v2/{repository}/manifests/latest") == 200
