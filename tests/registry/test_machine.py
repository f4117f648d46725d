"""Push, mount, HEAD, tag, delete, restore, retention and two collectors, in any order, each step on its own.

Both collectors believe that the work is theirs: what fences keep apart elsewhere must be safe here as well. Time is
moved by moving every instant in the database.
"""

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, select
from tests.metadata import checks
from tests.metadata.making import ACTOR, child, layer, pushed, put
from tests.registry.making import push
from tests.support.postgresql import Server

from stackyard.metadata import collection, due, rounds, schema
from stackyard.metadata.clock import Instant
from stackyard.metadata.collection import NO_GRACE, Look
from stackyard.metadata.database import open_database
from stackyard.metadata.due import Entry
from stackyard.oci.digests import Digest
from stackyard.oci.errors import (
    AlreadyThere,
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    NotRestorable,
)
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore

T = TypeVar("T")
EmptyDatabase: TypeAlias = Callable[[Path], Awaitable[str]]

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
FOREVER = timedelta(days=400)
REPOSITORIES, TAGS = ["a", "b"], ["x", "y"]
CONTENTS = [b"one", b"two", b"three"]
FULL = int(os.environ.get("STACKYARD_STEPS", "2000"))
"""Steps on each engine."""
_STEPS = 50

repositories = st.sampled_from(REPOSITORIES)
tags = st.sampled_from(TAGS)
contents = st.sampled_from(CONTENTS)
workers = st.sampled_from([0, 1])


@dataclass
class Content:
    """What a manifest names, and until when it can be brought back once it is deleted."""

    blobs: frozenset[Digest]
    children: frozenset[Digest] = frozenset()
    tags: set[str] = field(default_factory=set)
    restorable_until: timedelta | None = None
    """None while it is to be seen."""


@dataclass
class Held:
    """What a repository holds."""

    manifests: dict[Digest, Content] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    promised: dict[Digest, timedelta] = field(default_factory=dict)
    """Blobs, and until when a client may rely on them."""


@dataclass
class Collector:
    """Where one of the two stands, between two transactions."""

    entries: list[Entry] = field(default_factory=list)
    looks: dict[Entry, Look] = field(default_factory=dict)
    deleted: bool = False


class Lifecycle(RuleBasedStateMachine):
    """A registry of two workers, and what it may not forget."""

    def __init__(self, empty_database: EmptyDatabase) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.now = timedelta()
        self.held: dict[str, Held] = defaultdict(Held)
        self.hidden: dict[str, tuple[Held, timedelta]] = {}
        self.collectors = [Collector(), Collector()]
        self.numbers = itertools.count()
        self.run(self.start(empty_database))

    async def start(self, empty_database: EmptyDatabase) -> None:
        """Two workers over one store and one database."""
        url = await empty_database(self.folder)
        self.store = MemoryStore()
        self.databases = [await open_database(url) for _ in range(2)]
        chosen = Settings(delete_enabled=True, promise=HOUR, undo=WEEK)
        self.registries = [Registry.over(self.store, database, chosen) for database in self.databases]

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for it."""
        return self.runner.run(coroutine)

    # -- clients

    @rule(repository=repositories, content=contents, worker=workers)
    def push(self, repository: str, content: bytes, worker: int) -> None:
        """Acknowledged, so promised for an hour."""
        digest = self.run(push(self.registries[worker], repository, content))
        self.held[repository].promised[digest] = self.now + HOUR

    @rule(repository=repositories, tag=tags, chosen=st.sets(contents, min_size=1, max_size=2), worker=workers)
    def push_image(self, repository: str, tag: str, chosen: set[bytes], worker: int) -> None:
        """As docker does it: blobs first."""
        for content in sorted(chosen):
            self.push(repository, content, worker)
        self.put_image(repository, tag, chosen, worker)

    @rule(source=repositories, content=contents, worker=workers)
    def mount(self, source: str, content: bytes, worker: int) -> None:
        """Into the other repository."""
        digest, target = Digest.of(content), REPOSITORIES[1 - REPOSITORIES.index(source)]
        mounting = self.registries[worker].blobs.mount(
            target, digest, source=source, may_pull=lambda name: True, actor=ACTOR
        )
        if self.run(mounting) is not None:
            self.held[target].promised[digest] = self.now + HOUR
        else:
            assert not self.is_safe(source, digest)

    @rule(repository=repositories, content=contents, worker=workers)
    def head(self, repository: str, content: bytes, worker: int) -> None:
        """Found means half of the promise, at least."""
        digest = Digest.of(content)
        try:
            self.run(self.registries[worker].blobs.promise(repository, digest))
        except BlobUnknown:
            assert not self.is_safe(repository, digest)
            return
        promised = self.held[repository].promised
        promised[digest] = max(promised.get(digest, timedelta()), self.now + HOUR / 2)

    @rule(repository=repositories, tag=tags, chosen=st.sets(contents, min_size=1, max_size=2), worker=workers)
    def put_image(self, repository: str, tag: str, chosen: set[bytes], worker: int) -> None:
        """A new manifest of what may be there; it has to be taken when all of it is safe."""
        blobs = frozenset(map(Digest.of, chosen))
        image = pushed(json.dumps([next(self.numbers)]).encode(), [layer(one) for one in sorted(blobs)])
        try:
            self.run(self.databases[worker].write(put, repository, image, tag))
        except ManifestBlobUnknown:
            assert not all(self.is_safe(repository, one) for one in blobs)
            return
        self.show(repository, image.digest, Content(blobs), tag)

    @rule(repository=repositories, tag=tags, worker=workers, data=st.data())
    def put_index(self, repository: str, tag: str, worker: int, data: st.DataObject) -> None:
        """Of an image that was there."""
        known = sorted(self.held[repository].manifests)
        if not known:
            return
        of = data.draw(st.sampled_from(known))
        index = pushed(json.dumps({"of": next(self.numbers)}).encode(), [child(of)])
        try:
            self.run(self.databases[worker].write(put, repository, index, tag))
        except ManifestBlobUnknown:
            assert self.held[repository].manifests[of].restorable_until is not None
            return
        self.show(repository, index.digest, Content(frozenset(), frozenset({of})), tag)

    @rule(repository=repositories, tag=tags, worker=workers, by_rule=st.booleans())
    def delete_tag(self, repository: str, tag: str, worker: int, by_rule: bool) -> None:
        """By a client, or by retention, which goes the same way."""
        actor = "system:retention" if by_rule else ACTOR
        try:
            self.run(self.registries[worker].manifests.delete(repository, tag, actor=actor))
        except ManifestUnknown:
            assert tag not in self.held[repository].tags
            return
        digest = self.held[repository].tags.pop(tag)
        self.held[repository].manifests[digest].tags.discard(tag)

    @rule(repository=repositories, worker=workers, data=st.data())
    def delete_manifest(self, repository: str, worker: int, data: st.DataObject) -> None:
        """With its tags."""
        held = self.held[repository]
        shown = sorted(one for one, content in held.manifests.items() if content.restorable_until is None)
        if not shown:
            return
        self.delete(repository, data.draw(st.sampled_from(shown)), worker)

    @rule(repository=repositories, tag=tags, worker=workers, hours=st.sampled_from([0, 24 * 8]), back=st.booleans())
    def delete_a_child(self, repository: str, tag: str, worker: int, hours: float, back: bool) -> None:
        """It stays for its index, and goes after it, or comes back with a push."""
        self.push_image(repository, tag, {CONTENTS[0]}, worker)
        image = self.held[repository].tags[tag]
        index = pushed(json.dumps({"of": next(self.numbers)}).encode(), [child(image)])
        self.run(self.databases[worker].write(put, repository, index, tag))
        self.show(repository, index.digest, Content(frozenset(), frozenset({image})), tag)
        self.delete(repository, image, worker)
        self.time_passes(hours)
        while self.run(self.step(worker)):
            pass
        if not back:
            self.delete(repository, index.digest, worker)

    def delete(self, repository: str, digest: Digest, worker: int) -> None:
        """A manifest that is to be seen."""
        held = self.held[repository]
        self.run(self.registries[worker].manifests.delete(repository, digest, actor=ACTOR))
        held.manifests[digest].restorable_until = self.now + WEEK
        for tag in held.manifests[digest].tags:
            del held.tags[tag]

    @rule(repository=repositories, worker=workers, data=st.data())
    def restore_manifest(self, repository: str, worker: int, data: st.DataObject) -> None:
        """What was deleted within the week comes back with its tags; later it may, or not."""
        held = self.held[repository]
        gone = sorted(one for one, content in held.manifests.items() if content.restorable_until is not None)
        if not gone:
            return
        digest = data.draw(st.sampled_from(gone))
        content = held.manifests[digest]
        try:
            back = self.run(self.registries[worker].manifests.restore(repository, digest, actor=ACTOR))
        except NotRestorable:
            assert content.restorable_until is not None
            assert content.restorable_until <= self.now
            return
        assert set(back) >= content.tags - held.tags.keys()
        content.restorable_until, content.tags = None, set(back)
        for tag in back:
            assert tag not in held.tags
            held.tags[tag] = digest

    @rule(repository=repositories, worker=workers, really=st.integers(0, 3))
    def delete_repository(self, repository: str, worker: int, really: int) -> None:
        """With all it holds; now and then, as little is left to do afterwards."""
        held = self.held[repository]
        if really:
            return
        try:
            self.run(self.registries[worker].repositories.delete(repository, actor=ACTOR))
        except NameUnknown:
            assert not held.manifests
            assert not any(until > self.now for until in held.promised.values())
            return
        if held.manifests:
            self.hidden[repository] = (held, self.now + WEEK)
        self.held[repository] = Held()

    @rule(repository=repositories, worker=workers)
    def restore_repository(self, repository: str, worker: int) -> None:
        """The last one of this name, within the week."""
        hidden = self.hidden.get(repository)
        try:
            self.run(self.registries[worker].repositories.restore(repository, actor=ACTOR))
        except NotRestorable:
            assert hidden is None or hidden[1] <= self.now
            return
        except AlreadyThere:
            assert self.held[repository].manifests
            return
        assert hidden is not None
        self.held[repository] = hidden[0]
        del self.hidden[repository]

    @rule(hours=st.sampled_from([0.25, 0.6, 1.1, 25, 24 * 8]))
    def time_passes(self, hours: float) -> None:
        """For everybody at once."""
        span = timedelta(hours=hours)
        self.run(self.databases[0].write(_age, span))
        self.now += span

    # -- collectors

    @rule(which=workers, steps=st.integers(1, 8))
    def collect(self, which: int, steps: int) -> None:
        """The next steps of one of them."""
        for _ in range(steps):
            self.run(self.step(which))

    async def step(self, which: int) -> bool:
        """Read the queue; look; delete bytes; forget. False when there was nothing to do."""
        collector, database = self.collectors[which], self.databases[which]
        if not collector.entries:
            collector.entries = await database.read(due.ready, limit=4)
            return bool(collector.entries)
        if not collector.looks:
            collector.looks = await database.write(
                rounds.collect, collector.entries, grace=NO_GRACE, readers=timedelta(minutes=1)
            )
        elif not collector.deleted:
            for look in collector.looks.values():
                for one in look.doomed:
                    await self.store.delete(one.location)
            collector.deleted = True
        else:
            await database.write(_forget, collector.looks)
            self.collectors[which] = Collector()
        return True

    # -- what must hold

    def is_safe(self, repository: str, digest: Digest) -> bool:
        """Whether the blob has to be there: promised, or named by a manifest that is to be seen or can come back."""
        held = self.held[repository]
        named = any(
            digest in content.blobs and (content.restorable_until is None or content.restorable_until > self.now)
            for content in held.manifests.values()
        )
        return named or held.promised.get(digest, timedelta()) > self.now

    def show(self, repository: str, digest: Digest, content: Content, tag: str) -> None:
        """A manifest was taken."""
        held = self.held[repository]
        if tag in held.tags:
            held.manifests[held.tags[tag]].tags.discard(tag)
        content.tags.add(tag)
        held.manifests[digest] = content
        held.tags[tag] = digest

    @invariant()
    def rows_fit(self) -> None:
        """Never a manifest whose blob is gone."""
        assert self.run(self.databases[0].read(checks.broken_promises)) == []

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every tag, every manifest that was not deleted, and every promised blob is served, byte for byte."""
        self.run(self.check_all())

    async def check_all(self) -> None:
        """See above."""
        registry = self.registries[next(self.numbers) % 2]
        for repository, held in self.held.items():
            for tag, digest in held.tags.items():
                assert (await registry.manifests.find(repository, tag)).digest == digest
            for digest, content in held.manifests.items():
                if content.restorable_until is None:
                    await registry.manifests.find(repository, digest)
                    for one in content.blobs:
                        await self.check_bytes(registry, repository, one)
            for digest, until in held.promised.items():
                if until > self.now:
                    await self.check_bytes(registry, repository, digest)

    async def check_bytes(self, registry: Registry, repository: str, digest: Digest) -> None:
        """The blob is there, whole."""
        reader = await registry.blobs.open(await registry.blobs.find(repository, digest))
        assert Digest.of(b"".join([chunk async for chunk in reader.chunks(0, reader.size)])) == digest
        reader.close()

    def teardown(self) -> None:
        """After all the spans nothing is left that nothing needs."""
        try:
            self.run(self.drain())
            needed = {
                one
                for held in self.held.values()
                for content in held.manifests.values()
                if content.restorable_until is None or self.is_child(held, content)
                for one in content.blobs
            }
            left = self.run(self.databases[0].read(lambda c: set(c.scalars(select(schema.blob.c.digest)))))
            assert left == needed
            assert len(self.run(self.locations())) == len(needed)
        finally:
            self.run(self.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def is_child(self, held: Held, content: Content) -> bool:
        """Deleted, but an index that is to be seen, or one that is its child, names it."""
        digest = next(one for one, each in held.manifests.items() if each is content)
        return any(
            digest in other.children and (other.restorable_until is None or self.is_child(held, other))
            for other in held.manifests.values()
        )

    async def drain(self) -> None:
        """Both collectors work until nothing is due, again and again as time passes."""
        for _ in range(6):
            while any([await self.step(0), await self.step(1)]):
                pass
            await self.databases[0].write(_age, FOREVER / 6)
            self.now += FOREVER / 6

    async def locations(self) -> list[str]:
        """Of all bytes."""
        return [found.location async for found in self.store.walk("docker")]

    async def close(self) -> None:
        """Everything that was opened."""
        for database in self.databases:
            await database.close()
        await self.store.close()


def _age(c: Connection, span: timedelta) -> None:
    """Let time pass: every instant is longer ago."""
    microseconds = span // timedelta(microseconds=1)
    for table in schema.metadata.tables.values():
        columns = [column for column in table.c if isinstance(column.type, Instant)]
        if columns:
            names = ", ".join(f"{column.name} = {column.name} - {microseconds}" for column in columns)
            c.exec_driver_sql(f"UPDATE {table.name} SET {names}")


def _forget(c: Connection, looks: dict[Entry, Look]) -> None:
    collection.forget_blobs(c, sorted({one.blob_id for look in looks.values() for one in look.doomed}))
    due.done(c, [entry for entry, look in looks.items() if look.doomed])
    due.add_again(c, {entry: look.again for entry, look in looks.items() if look.doomed and look.again})


def run(empty_database: EmptyDatabase) -> None:
    chosen = settings(
        max_examples=max(1, FULL // _STEPS),
        stateful_step_count=_STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(partial(Lifecycle, empty_database), settings=chosen)  # type: ignore[arg-type] # takes any function, as it says


def test_nothing_is_lost_and_nothing_is_left(sqlite_template: Path) -> None:
    async def empty(folder: Path) -> str:
        return f"sqlite:///{shutil.copy(sqlite_template, folder / 'stackyard.db')}"

    run(empty)


def test_nothing_is_lost_and_nothing_is_left_on_postgresql(postgresql_server: Server) -> None:
    async def empty(_: Path) -> str:
        return await postgresql_server.emptied()

    run(empty)
