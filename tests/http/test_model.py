"""The whole registry against a dictionary: whatever is asked in whatever order, both answer the same."""

import asyncio
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from tests.http.client import Client, Cut, Got
from tests.support.postgresql import Server

from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.database import open_database
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_INDEX, OCI_MANIFEST
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore
from stackyard.telemetry.access import AccessLog

T = TypeVar("T")
EmptyDatabase: TypeAlias = Callable[[Path], Awaitable[str]]
"""Gives the URL of a migrated database that holds nothing; the folder is for its file."""

REPOSITORIES = ["a", "a/b", "b"]
TAGS = ["latest", "1.0", "A"]
repositories = st.sampled_from(REPOSITORIES)
tags = st.sampled_from(TAGS)
contents = st.sampled_from([b"", b"{}", b"layer", b"x" * 70_000])
algorithms = st.sampled_from(["sha256", "sha512"])


class Model:
    """What a registry should hold, as dictionaries."""

    def __init__(self) -> None:
        self.blobs: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.manifests: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.tags: dict[str, dict[str, str]] = defaultdict(dict)
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.known: set[str] = set()

    def missing(self, repository: str, document: dict[str, Any]) -> list[str]:
        """What a manifest names and the repository has not."""
        if "manifests" in document:
            named = [one["digest"] for one in document["manifests"]]
            return [one for one in named if one not in self.manifests[repository] | self.blobs[repository]]
        named = [document["config"]["digest"], *(one["digest"] for one in document["layers"])]
        return [one for one in named if one not in self.blobs[repository]]


class RegistryMachine(RuleBasedStateMachine):
    """One registry, and the model of it."""

    sessions: Bundle[str] = Bundle("sessions")
    blobs: Bundle[str] = Bundle("blobs")
    manifests: Bundle[str] = Bundle("manifests")

    def __init__(self, empty_database: EmptyDatabase) -> None:
        super().__init__()
        self.empty_database = empty_database
        self.model = Model()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.client = self.run(self.start())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for it."""
        return self.runner.run(coroutine)

    async def start(self) -> Client:
        """A new registry over memory and an empty database."""
        self.database = await open_database(await self.empty_database(self.folder))
        registry = Registry.over(MemoryStore(), self.database, Settings(delete_enabled=True))
        access = opening.open_access(AuthSettings())
        return Client(App(registry, access, Origins(), AccessLog(enabled=False), {}))

    def teardown(self) -> None:
        """Close what was opened."""
        self.run(self.database.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def ask(self, method: str, url: str, body: Any = b"", **headers: str) -> Got:
        """One request; never an answer that says the registry is broken."""
        got = self.run(self.client(method, url, body, **headers))
        assert got.status < 500
        return got

    @initialize(target=blobs, repository=repositories)
    def config(self, repository: str) -> Any:
        """Something for manifests to name."""
        return self.push(repository, b"{}", "sha256")

    @rule(target=blobs, repository=repositories, content=contents, algorithm=algorithms)
    def push(self, repository: str, content: bytes, algorithm: str) -> str:
        """One POST with the bytes."""
        digest = Digest.of(content, algorithm)

        got = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest}", content)

        assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
        self.model.blobs[repository][digest] = content
        return digest

    @rule(repository=repositories, content=contents)
    def push_with_the_wrong_digest(self, repository: str, content: bytes) -> None:
        """Nothing comes of it."""
        got = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={Digest.of(content + b'!')}", content)

        assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])

    @rule(target=sessions, repository=repositories, algorithm=algorithms)
    def begin(self, repository: str, algorithm: str) -> str:
        """A session."""
        got = self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}")

        assert got.status == 202
        location = got.headers["location"]
        self.model.uploads[location] = (repository, b"")
        return location

    @rule(location=sessions, content=contents, ranged=st.booleans(), shift=st.sampled_from([0, 0, 0, 1]))
    def append(self, location: str, content: bytes, ranged: bool, shift: int) -> None:
        """A chunk, streamed or with its range, sometimes one that does not fit."""
        repository, before = self.model.uploads.get(location, ("", b""))
        headers = {}
        if ranged and content:
            start = len(before) + shift
            headers["content_range"] = f"{start}-{start + len(content) - 1}"

        got = self.ask("PATCH", location, content, **headers)

        if location not in self.model.uploads:
            assert (got.status, got.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        elif headers and shift:
            assert got.status == 416
            assert got.headers["range"] == f"0-{max(len(before) - 1, 0)}"
        else:
            assert got.status == 202
            assert got.headers["range"] == f"0-{max(len(before + content) - 1, 0)}"
            self.model.uploads[location] = (repository, before + content)

    @rule(location=sessions, content=contents, ranged=st.booleans())
    def append_and_leave(self, location: str, content: bytes, ranged: bool) -> None:
        """A stream that is cut off keeps what arrived, a chunk with a range is all or nothing."""
        if location not in self.model.uploads:
            return
        repository, before = self.model.uploads[location]
        headers = {"content_range": f"{len(before)}-{len(before) + len(content)}"} if ranged else {}

        got = self.ask("PATCH", location, Cut([content]), **headers)

        assert got.status == 0
        if not ranged:
            self.model.uploads[location] = (repository, before + content)

    @rule(location=sessions)
    def status(self, location: str) -> None:
        """How far is it?"""
        got = self.ask("GET", location)

        if location in self.model.uploads:
            size = len(self.model.uploads[location][1])
            assert (got.status, got.headers["range"]) == (204, f"0-{max(size - 1, 0)}")
        else:
            assert got.status == 404

    @rule(target=blobs, location=sessions, content=contents, algorithm=algorithms, wrong=st.booleans())
    def finish(self, location: str, content: bytes, algorithm: str, wrong: bool) -> Any:
        """The last chunk, and the digest, sometimes another one's."""
        repository, before = self.model.uploads.get(location, ("", b""))
        whole = before + content
        digest = Digest.of(whole + b"!" if wrong else whole, algorithm)

        got = self.ask("PUT", f"{location}?digest={digest}", content)

        if location not in self.model.uploads:
            assert got.status == 404
        elif wrong:
            assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])
        else:
            assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
            self.model.blobs[repository][digest] = whole
            del self.model.uploads[location]
            return digest
        return multiple()

    @rule(location=consumes(sessions))
    def cancel(self, location: str) -> None:
        """It is gone."""
        got = self.ask("DELETE", location)

        assert got.status == (204 if location in self.model.uploads else 404)
        self.model.uploads.pop(location, None)

    @rule(source=repositories, into=repositories, digest=blobs, named=st.booleans())
    def mount(self, source: str, into: str, digest: str, named: bool) -> None:
        """A mount needs a repository that has it; without a name, any will do."""
        query = f"mount={digest}" + (f"&from={source}" if named else "")
        holders = [source] if named else REPOSITORIES

        got = self.ask("POST", f"/v2/{into}/blobs/uploads/?{query}")

        held = [self.model.blobs[name][digest] for name in holders if digest in self.model.blobs[name]]
        assert got.status == (201 if held else 202)
        if held:
            self.model.blobs[into][digest] = held[0]

    @rule(repository=repositories, digest=blobs)
    def delete_blob(self, repository: str, digest: str) -> None:
        """From one repository only."""
        got = self.ask("DELETE", f"/v2/{repository}/blobs/{digest}")

        assert got.status == (202 if digest in self.model.blobs[repository] else 404)
        self.model.blobs[repository].pop(digest, None)

    @rule(
        target=manifests,
        repository=repositories,
        config=blobs,
        layers=st.lists(blobs, max_size=2),
        subject=st.none() | manifests,
        tag=st.none() | tags,
    )
    def put_image(self, repository: str, config: str, layers: list[str], subject: str | None, tag: str | None) -> Any:
        """An image manifest by tag or by digest."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.test.config", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.test.layer", "digest": one, "size": 5} for one in layers],
        }
        return self.put(repository, document, subject, tag)

    @rule(target=manifests, repository=repositories, children=st.lists(manifests, max_size=2), tag=st.none() | tags)
    def put_index(self, repository: str, children: list[str], tag: str | None) -> Any:
        """An index of what was pushed before, perhaps elsewhere."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{"mediaType": OCI_MANIFEST, "digest": one, "size": 5} for one in children],
        }
        return self.put(repository, document, None, tag)

    def put(self, repository: str, document: dict[str, Any], subject: str | None, tag: str | None) -> Any:
        """Push, and expect the refusal or the acceptance that the model says."""
        if subject:
            document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 5}
        payload = json.dumps(document).encode()
        digest = Digest.of(payload)
        missing = self.model.missing(repository, document)

        got = self.ask(
            "PUT", f"/v2/{repository}/manifests/{tag or digest}", payload, content_type=document["mediaType"]
        )

        if missing:
            assert (got.status, set(got.codes)) == (400, {"MANIFEST_BLOB_UNKNOWN"})
            assert {one["detail"]["digest"] for one in got.json()["errors"]} == set(missing)
            return multiple()
        assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
        assert got.headers.get("oci-subject") == subject
        self.model.manifests[repository][digest] = payload
        self.model.known.add(repository)
        if tag:
            self.model.tags[repository][tag] = digest
        return digest

    @rule(repository=repositories, digest=manifests)
    def delete_manifest(self, repository: str, digest: str) -> None:
        """With every tag that points to it."""
        got = self.ask("DELETE", f"/v2/{repository}/manifests/{digest}")

        assert got.status == (202 if digest in self.model.manifests[repository] else 404)
        self.model.manifests[repository].pop(digest, None)
        kept = {tag: of for tag, of in self.model.tags[repository].items() if of != digest}
        self.model.tags[repository] = kept

    @rule(repository=repositories, tag=tags)
    def delete_tag(self, repository: str, tag: str) -> None:
        """The manifest stays."""
        got = self.ask("DELETE", f"/v2/{repository}/manifests/{tag}")

        assert got.status == (202 if tag in self.model.tags[repository] else 404)
        self.model.tags[repository].pop(tag, None)

    @rule(repository=repositories, digest=blobs)
    def get_blob(self, repository: str, digest: str) -> None:
        """Only where it was put."""
        got = self.ask("GET", f"/v2/{repository}/blobs/{digest}")

        expected = self.model.blobs[repository].get(digest)
        assert (got.status, got.body) == (200, expected) if expected is not None else got.status == 404

    @rule(repository=repositories, digest=manifests)
    def get_manifest(self, repository: str, digest: str) -> None:
        """By digest, byte for byte."""
        got = self.ask("GET", f"/v2/{repository}/manifests/{digest}")

        expected = self.model.manifests[repository].get(digest)
        assert (got.status, got.body) == (200, expected) if expected is not None else got.status == 404

    @rule(repository=repositories, subject=manifests)
    def referrers(self, repository: str, subject: str) -> None:
        """Exactly those that name it, here."""
        got = self.ask("GET", f"/v2/{repository}/referrers/{subject}")

        naming = {
            digest
            for digest, payload in self.model.manifests[repository].items()
            if json.loads(payload).get("subject", {}).get("digest") == subject
        }
        assert {one["digest"] for one in got.json()["manifests"]} == naming

    @invariant()
    def tags_are_those_of_the_model(self) -> None:
        """In order, and each with its manifest."""
        for repository in REPOSITORIES:
            got = self.ask("GET", f"/v2/{repository}/tags/list")
            if repository in self.model.known:
                assert got.json() == {"name": repository, "tags": sorted(self.model.tags[repository])}
            else:
                assert (got.status, got.codes) == (404, ["NAME_UNKNOWN"])
            for tag, digest in self.model.tags[repository].items():
                head = self.ask("HEAD", f"/v2/{repository}/manifests/{tag}")
                assert head.headers["docker-content-digest"] == digest

    @invariant()
    def the_catalogue_is_that_of_the_model(self) -> None:
        """In order."""
        assert self.ask("GET", "/v2/_catalog").json() == {"repositories": sorted(self.model.known)}


def run(empty_database: EmptyDatabase, *, examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    chosen = settings(max_examples=examples, stateful_step_count=30, suppress_health_check=checks)
    machine = partial(RegistryMachine, empty_database)
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[arg-type] # takes any function, as it says


def test_the_registry_answers_as_the_model_does(sqlite_template: Path) -> None:
    async def empty(folder: Path) -> str:
        return f"sqlite:///{shutil.copy(sqlite_template, folder / 'stackyard.db')}"

    run(empty, examples=40)


def test_the_registry_on_postgresql_answers_as_the_model_does(postgresql_server: Server) -> None:
    async def empty(_: Path) -> str:
        return await postgresql_server.emptied()

    run(empty, examples=20)
