"""What all endpoints have in common."""

import os
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import pytest
from tests.http.client import Client
from tests.http.content import LAYER, image, push_blob, push_image, start

from stackyard.http.app import App
from stackyard.http.asgi import Message
from stackyard.http.origin import Origins
from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.driver import BlobStore, OutOfSpace, StorageError
from stackyard.storage.filesystem.store import FilesystemStore

SCOPE = {
    "type": "http",
    "method": "GET",
    "scheme": "http",
    "http_version": "1.1",
    "headers": [],
    "query_string": b"",
    "client": ("192.0.2.1", 1),
}
LOCAL = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One engine is enough for what hardly comes to it."""
    return sqlite_url


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_this_is_a_registry(client: Client, method: str, path: str) -> None:
    got = await client(method, path)

    assert (got.status, got.headers["docker-distribution-api-version"]) == (200, "registry/2.0")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
async def test_probes_answer_without_login(client: Client, path: str) -> None:
    got = await client("GET", path)

    assert (got.status, got.body, got.headers["cache-control"]) == (200, b"", "no-cache")


async def test_a_failing_check_answers_503_everywhere_but_to_the_question_whether_we_live(app: App) -> None:
    client = Client(replace(app, failing={"storagedriver": "the disk is gone"}))

    for path in ("/", "/readyz", "/v2/", "/v2/a/tags/list"):
        got = await client("GET", path)
        assert (got.status, got.codes) == (503, ["UNAVAILABLE"])
    assert (await client("GET", "/healthz")).status == 200


async def test_a_registry_whose_store_does_not_answer_lives_and_is_not_ready(app: App) -> None:
    client = Client(replace(app, registry=_with_broken_store(app, StorageError("the disk is gone"))))

    got = await client("GET", "/readyz")

    assert (got.status, got.codes) == (503, ["UNAVAILABLE"])
    assert (await client("GET", "/healthz")).status == 200


async def test_options_are_answered_with_the_configured_headers_and_without_login(app: App) -> None:
    client = Client(replace(app, headers=[(b"access-control-allow-origin", b"*")]))

    for url in ("/v2/", "/v2/a/manifests/latest"):
        got = await client("OPTIONS", url)
        assert (got.status, got.headers["access-control-allow-origin"]) == (200, "*")
    assert (await client("GET", "/v2/")).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/search", "/v2/a", "/v2/a/b/c/d", "/auth/token", "/v2/_oci/ext/discover"]
)
async def test_a_path_that_is_no_endpoint_is_404_in_json(client: Client, path: str) -> None:
    assert (await client("GET", path)).status == 404
    assert (await client("GET", path)).codes == ["UNSUPPORTED"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/",
        "/v2/_catalog",
        "/v2/a/tags/list",
        "/v2/a/tags/list?n=1",
        "/v2/a/manifests/latest",
        f"/v2/a/manifests/{Digest.of(image())}",
        f"/v2/a/blobs/{Digest.of(LAYER)}",
        f"/v2/a/referrers/{Digest.of(image())}",
        "/v2/a/manifests/none",
        "/v2/none/tags/list",
        "/nothing",
    ],
)
async def test_head_is_get_without_its_body(client: Client, path: str) -> None:
    await push_image(client, "a", "latest")
    await push_image(client, "a", "other")

    get, head = [await client(method, path) for method in ("GET", "HEAD")]

    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert head.headers["content-length"] == str(len(get.body))


async def test_the_registry_that_a_proxy_names_in_ns_changes_nothing(client: Client) -> None:
    manifest = await push_image(client, "a", "latest")

    assert (await client("GET", "/v2/a/manifests/latest?ns=docker.io")).body == manifest
    assert (await client("GET", f"/v2/a/blobs/{Digest.of(LAYER)}?ns=docker.io")).body == LAYER


async def test_a_method_that_an_endpoint_has_not_is_405_and_says_which_it_has(client: Client) -> None:
    got = await client("POST", "/v2/a/manifests/latest")

    assert (got.status, got.codes, got.headers["allow"]) == (405, ["UNSUPPORTED"], "GET, HEAD, PUT, DELETE")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/../../etc/passwd/manifests/x",
        "/v2/%2e%2e/manifests/x",
        "/v2/a%00b/manifests/x",
        "/v2/A/manifests/x",
        "/v2/%ff%fe/manifests/x",
        "/v2/" + "a" * 256 + "/manifests/x",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_names_outside_the_grammar_are_refused(client: Client, method: str, path: str) -> None:
    got = await client(method, path)

    assert (got.status, got.codes) == (400, ["NAME_INVALID"])


@pytest.mark.parametrize(
    ("origins", "address", "headers", "base"),
    [
        (Origins(), "10.1.2.3", {}, "http://registry.test"),
        (Origins(), "10.1.2.3", {"host": "registry.test:5000"}, "http://registry.test:5000"),
        (Origins(), "10.1.2.3", {"host": "[::1]:5000"}, "http://[::1]:5000"),
        (Origins(prefix="/my/hub"), "10.1.2.3", {}, "http://registry.test/my/hub"),
        (Origins(relative=True), "10.1.2.3", {}, ""),
        (Origins(relative=True, prefix="/hub"), "10.1.2.3", {}, "/hub"),
        (Origins(host="https://hub.example.com"), "10.1.2.3", {"x_forwarded_host": "evil"}, "https://hub.example.com"),
        (Origins(trusted=LOCAL), "10.1.2.3", {"x_forwarded_proto": "https"}, "https://registry.test"),
        (Origins(trusted=LOCAL), "192.0.2.9", {"x_forwarded_proto": "https"}, "http://registry.test"),
        (
            Origins(trusted=LOCAL),
            "::1",
            {"x_forwarded_proto": "https,http", "x_forwarded_host": "hub.example.com:8443, inner"},
            "https://hub.example.com:8443",
        ),
        (
            Origins(trusted=LOCAL),
            "10.1.2.3",
            {"forwarded": 'for=1.2.3.4;proto=https;host="hub.example.com", for=x', "x_forwarded_proto": "http"},
            "https://hub.example.com",
        ),
        (Origins(trusted=LOCAL), "10.1.2.3", {"x_forwarded_host": 'a"b<script>', "x_forwarded_proto": "gopher"}, ""),
        (Origins(), "10.1.2.3", {"host": "evil host\t"}, ""),
    ],
)
async def test_locations_start_with_the_address_the_client_used(
    app: App, origins: Origins, address: str, headers: dict[str, str], base: str
) -> None:
    client = Client(replace(app, origins=origins), address)

    got = await client("POST", f"{origins.prefix}/v2/a/blobs/uploads/", **headers)

    assert got.headers["location"] == f"{base}/v2/a/blobs/uploads/{got.headers['docker-upload-uuid']}"


async def test_a_prefix_stands_before_every_endpoint_and_every_link(app: App) -> None:
    client = Client(replace(app, origins=Origins(prefix="/hub")))
    for tag in ("1", "2"):
        await push_image(Client(app), "a", tag)

    got = await client("GET", "/hub/v2/a/tags/list?n=1")

    assert got.headers["link"] == '</hub/v2/a/tags/list?n=1&last=1>; rel="next"'
    assert (await client("GET", "/hub/v2/")).status == 200


@pytest.mark.parametrize(
    ("address", "headers", "expected"),
    [
        ("192.0.2.9", {"x_forwarded_for": "1.1.1.1"}, "192.0.2.9"),
        ("10.0.0.1", {"x_forwarded_for": "1.1.1.1"}, "1.1.1.1"),
        ("10.0.0.1", {"x_forwarded_for": "6.6.6.6, 1.1.1.1, 10.0.0.2"}, "1.1.1.1"),
        ("10.0.0.1", {"x_forwarded_for": "10.0.0.3"}, "10.0.0.3"),
        ("10.0.0.1", {"x_forwarded_for": "6.6.6.6, not an address\x1b"}, "10.0.0.1"),
        ("10.0.0.1", {"x_real_ip": "2.2.2.2"}, "2.2.2.2"),
        ("10.0.0.1", {"x_real_ip": "nonsense"}, "10.0.0.1"),
        ("10.0.0.1", {}, "10.0.0.1"),
    ],
)
def test_the_clients_address_is_believed_from_trusted_proxies_only(
    address: str, headers: dict[str, str], expected: str
) -> None:
    scope = {
        "client": (address, 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }

    assert Origins(trusted=LOCAL).address(scope) == expected


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (OutOfSpace("disk full"), 507, "UNAVAILABLE"),
        (StorageError("I/O error on /secret/path"), 503, "UNAVAILABLE"),
        (ZeroDivisionError("a secret detail"), 500, "UNKNOWN"),
    ],
)
async def test_failures_below_become_answers_that_tell_no_secrets(
    app: App, failure: Exception, status: int, code: str
) -> None:
    client = Client(replace(app, registry=_with_broken_store(app, failure)))
    location = await start(client)

    got = await client("PATCH", location, LAYER)

    assert (got.status, got.codes) == (status, [code])
    assert b"secret" not in got.body
    assert b"Traceback" not in got.body
    whole = Client(app)
    assert (await whole("PUT", f"{location}?digest={Digest.of(LAYER)}", LAYER)).status == 201


def _with_broken_store(app: App, failure: Exception) -> Registry:
    class Broken:
        """A store on a broken disk."""

        def __getattr__(self, name: str) -> Any:
            raise failure

    registry, broken = app.registry, cast(BlobStore, Broken())
    return replace(
        registry, blobs=replace(registry.blobs, store=broken), uploads=replace(registry.uploads, store=broken)
    )


async def test_a_download_is_closed_when_the_client_leaves(app: App, database: Database, tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    app = replace(app, registry=Registry.over(store, database, Settings()))
    await push_blob(Client(app), "a", LAYER)
    open_while_sending: list[int] = []

    async def receive() -> Message:
        raise AssertionError("a GET has no body")

    async def leave(message: Message) -> None:
        open_while_sending.append(_open_below(tmp_path))
        raise ConnectionResetError

    await app({**SCOPE, "path": f"/v2/a/blobs/{Digest.of(LAYER)}"}, receive, leave)

    assert (open_while_sending, _open_below(tmp_path)) == ([1], 0)
    await store.close()


def _open_below(folder: Path) -> int:
    """How many files below this folder the process holds open."""
    links = [Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return sum(link.exists() and str(link.resolve()).startswith(str(folder / "docker")) for link in links)
