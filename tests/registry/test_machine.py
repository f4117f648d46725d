"""Push, mount, HEAD, tag, delete, restore, retention and two collectors, in any order, each step on its own.

Both collectors believe that the work is theirs: what fences keep apart elsewhere must be safe here as well. Retention
judges in one step and removes in a later one. Time is moved by moving every instant in the database.

STACKYARD_STEPS says how many steps on each engine (2000), at least; only those that had something to do count, and each
kind has to occur.
"""

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, select
from tests.metadata import checks
from tests.metadata.making import ACTOR, HOUR, WEEK, child, layer, pushed, put
from tests.registry.expected import FOREVER, Content, Held
from tests.registry.making import push
from tests.support.postgresql import Server

from stackyard.metadata import collection, due, retention, rounds, schema
from stackyard.metadata.clock import Instant
from stackyard.metadata.collection import NO_GRACE, Look
from stackyard.metadata.database import open_database
from stackyard.metadata.due import Entry
from stackyard.metadata.retention import Doomed, Seen
from stackyard.oci.digests import Digest
from stackyard.oci.errors import (
    AlreadyThere,
    BlobUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    NotRestorable,
)
from stackyard.registry.guards import TagGuard
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore

T = TypeVar("T")
EmptyDatabase: TypeAlias = Callable[[Path], Awaitable[str]]

REPOSITORIES, TAGS = ["a", "b"], ["x", "y"]
CONTENTS = [b"one", b"two", b"three"]
SHORT = 2000
FULL = int(os.environ.get("STACKYARD_STEPS", SHORT))
"""Steps on each engine."""
_STEPS = 50
_STEPS_PER_LINE = 5000
KINDS = {
    *("push", "mount", "head", "put image", "put index", "HEAD then put", "tag"),
    *("delete tag", "delete manifest", "delete child", "delete repository"),
    *("restore tag", "restore manifest", "restore repository"),
    *("judge", "retention", "collector 0", "collector 1"),
}

pytestmark = pytest.mark.timeout(max(600, FULL))

repositories = st.sampled_from(REPOSITORIES)
tags = st.sampled_from(TAGS)
contents = st.sampled_from(CONTENTS)
workers = st.sampled_from([0, 1])


@dataclass
class Collector:
    """Where one of the two stands, between two transactions."""

    entries: list[Entry] = field(default_factory=list)
    looks: dict[Entry, Look] = field(default_factory=dict)
    deleted: bool = False


@dataclass
class Judged:
    """A tag that a rule lets go, and how often it had changed when it was looked at."""

    seen: Seen
    moves: int


class Lifecycle(RuleBasedStateMachine):
    """A registry of two workers, and what it may not forget."""

    def __init__(self, empty_database: EmptyDatabase, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.now = timedelta()
        self.held: dict[str, Held] = defaultdict(Held)
        self.hidden: dict[str, tuple[Held, timedelta]] = {}
        self.collectors = [Collector(), Collector()]
        self.judged: dict[str, list[Judged]] = {}
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
        self.counts["push"] += 1
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
        self.counts["mount"] += 1
        if self.run(mounting) is not None:
            self.held[target].promised[digest] = self.now + HOUR
        else:
            assert not self.is_safe(source, digest)

    @rule(repository=repositories, content=contents, worker=workers)
    def head(self, repository: str, content: bytes, worker: int) -> None:
        """Found means half of the promise, at least."""
        self.counts["head"] += 1
        self.is_found(repository, Digest.of(content), worker)

    def is_found(self, repository: str, digest: Digest, worker: int) -> bool:
        """As HEAD answers."""
        try:
            self.run(self.registries[worker].blobs.promise(repository, digest))
        except BlobUnknown:
            assert not self.is_safe(repository, digest)
            return False
        promised = self.held[repository].promised
        promised[digest] = max(promised.get(digest, timedelta()), self.now + HOUR / 2)
        return True

    @rule(repository=repositories, tag=tags, chosen=st.sets(contents, min_size=1, max_size=2), worker=workers)
    def put_image(self, repository: str, tag: str, chosen: set[bytes], worker: int) -> None:
        """A new manifest of what may be there; it has to be taken when all of it is safe."""
        self.counts["put image"] += 1
        self.put(repository, self.new_image(chosen), tag, worker)

    @rule(
        repository=repositories,
        tag=tags,
        chosen=st.sets(contents, max_size=1),
        minutes=st.tuples(st.sampled_from([0, 14, 29, 31, 59]), st.sampled_from([0, 14, 29])),
        between=st.lists(workers, max_size=8),
    )
    def head_then_put(
        self, repository: str, tag: str, chosen: set[bytes], minutes: tuple[int, int], between: list[int]
    ) -> None:
        """As clients push layers that they find: not at all. The collectors may do what they like in between.

        One of the layers was pushed some time ago for nothing else.
        """
        worker, fresh = next(self.numbers) % 2, b"fresh %d" % next(self.numbers)
        self.push(repository, fresh, worker)
        self.time_passes(minutes[0] / 60)
        chosen = {*chosen, fresh}
        image = self.new_image(chosen)
        found = [self.is_found(repository, digest, worker) for digest in sorted(image.blobs)]
        if not all(found):
            return
        self.counts["HEAD then put"] += 1
        self.time_passes(minutes[1] / 60)
        for which in between:
            self.run(self.step(which))
        assert self.put(repository, image, tag, 1 - worker)

    @precondition(lambda self: self.known())
    @rule(tag=tags, worker=workers, data=st.data())
    def tag(self, tag: str, worker: int, data: st.DataObject) -> None:
        """What was pushed before, to be seen or not, is pushed again under this tag."""
        self.counts["tag"] += 1
        repository, digest = data.draw(st.sampled_from(self.known()))
        self.put(repository, self.held[repository].manifests[digest], tag, worker)

    @precondition(lambda self: self.known())
    @rule(tag=tags, worker=workers, data=st.data())
    def put_index(self, tag: str, worker: int, data: st.DataObject) -> None:
        """Of a manifest that was there."""
        self.counts["put index"] += 1
        repository, digest = data.draw(st.sampled_from(self.known()))
        self.put(repository, self.new_index(digest), tag, worker)

    def known(self, *, shown: bool | None = None) -> list[tuple[str, Digest]]:
        """Every manifest there was, or only those that have to be seen, or only the others."""
        return sorted(
            (repository, digest)
            for repository, held in self.held.items()
            for digest in held.manifests
            if shown is None or held.is_shown(digest) is shown
        )

    def tagged(self) -> list[str]:
        """Repositories that have tags."""
        return sorted(repository for repository, held in self.held.items() if held.tags)

    def new_image(self, chosen: set[bytes]) -> Content:
        """Of these blobs; there is none like it."""
        blobs = frozenset(map(Digest.of, chosen))
        return Content(pushed(json.dumps([next(self.numbers)]).encode(), [layer(one) for one in sorted(blobs)]), blobs)

    def new_index(self, of: Digest) -> Content:
        """Of this manifest; there is none like it."""
        index = pushed(json.dumps({"of": next(self.numbers)}).encode(), [child(of)])
        return Content(index, frozenset(), frozenset({of}))

    def put(self, repository: str, content: Content, tag: str, worker: int) -> bool:
        """Whether it was taken, which it has to be when everything that it names is safe."""
        held, digest = self.held[repository], content.pushed.digest
        try:
            self.run(self.databases[worker].write(put, repository, content.pushed, tag))
        except ManifestBlobUnknown:
            safe = [self.is_safe(repository, one) for one in content.blobs]
            assert not all(safe + [held.is_shown(one) for one in content.children])
            return False
        for one in content.children:  # it is to be seen, or the index would not have been taken
            self.is_seen(held.manifests[one])
        still = {name for name, each in held.tags.items() if each == digest}
        held.manifests[digest] = Content(content.pushed, content.blobs, content.children, still)
        held.point(tag, digest)
        return True

    def is_seen(self, content: Content) -> None:
        """A rule that is still after it can hide it from now on, but did not do so before."""
        if content.unneeded_until is not None:
            content.unneeded_until = self.now + WEEK

    @rule(repository=repositories, tag=tags, worker=workers)
    def delete_tag(self, repository: str, tag: str, worker: int) -> None:
        """And not what it points to."""
        held = self.held[repository]
        try:
            self.run(self.registries[worker].manifests.delete(repository, tag, actor=ACTOR))
        except ManifestUnknown:
            assert tag not in held.tags
            return
        self.counts["delete tag"] += 1
        self.is_seen(held.manifests[held.remove(tag)])

    @precondition(lambda self: self.known(shown=True))
    @rule(worker=workers, data=st.data())
    def delete_manifest(self, worker: int, data: st.DataObject) -> None:
        """With its tags."""
        self.counts["delete manifest"] += 1
        self.delete(*data.draw(st.sampled_from(self.known(shown=True))), worker)

    @rule(repository=repositories, tag=tags, worker=workers, hours=st.sampled_from([0, 24 * 8]), back=st.booleans())
    def delete_a_child(self, repository: str, tag: str, worker: int, hours: float, back: bool) -> None:
        """It stays for its index, and goes after it, or comes back with a push."""
        self.counts["delete child"] += 1
        self.push_image(repository, tag, {CONTENTS[0]}, worker)
        image = self.held[repository].tags[tag]
        index = self.new_index(image)
        assert self.put(repository, index, tag, worker)
        self.delete(repository, image, worker)
        self.time_passes(hours)
        while self.run(self.step(worker)):
            pass
        if not back:
            self.delete(repository, index.pushed.digest, worker)

    def delete(self, repository: str, digest: Digest, worker: int) -> None:
        """A manifest that is to be seen."""
        held = self.held[repository]
        self.run(self.registries[worker].manifests.delete(repository, digest, actor=ACTOR))
        content = held.manifests[digest]
        content.restorable_until, content.unneeded_until = self.now + WEEK, None
        for tag in sorted(content.tags):
            held.remove(tag)
            content.tags.add(tag)

    @precondition(lambda self: self.known(shown=False))
    @rule(worker=workers, data=st.data())
    def restore_manifest(self, worker: int, data: st.DataObject) -> None:
        """What was deleted within the week comes back with its tags; later it may, or not."""
        self.counts["restore manifest"] += 1
        repository, digest = data.draw(st.sampled_from(self.known(shown=False)))
        held = self.held[repository]
        content, was_hidden = held.manifests[digest], not self.is_there(repository, digest)
        try:
            back = self.run(self.registries[worker].manifests.restore(repository, digest, actor=ACTOR))
        except NotRestorable:
            assert held.comes_back_until(digest) <= self.now
            return
        except AlreadyThere:  # a rule took what held it, and waits for the end of a promise
            assert not was_hidden
            return
        assert set(back) >= content.tags - held.tags.keys()
        self.restored(content, was_hidden=was_hidden)
        content.tags = set()
        for tag in back:
            assert tag not in held.tags
            held.point(tag, digest)

    def is_there(self, repository: str, digest: Digest) -> bool:
        """Whether the registry shows this manifest."""
        try:
            self.run(self.registries[0].manifests.find(repository, digest))
        except ManifestUnknown:
            return False
        return True

    def restored(self, content: Content, *, was_hidden: bool) -> None:
        """It is to be seen; if it was before, a rule may still be after it."""
        content.restorable_until = None
        if was_hidden:
            content.unneeded_until = None
        self.is_seen(content)

    @precondition(lambda self: self.known())
    @rule(tag=tags, worker=workers, data=st.data())
    def restore_tag(self, tag: str, worker: int, data: st.DataObject) -> None:
        """It points again to something that was there, deleted or not."""
        self.counts["restore tag"] += 1
        repository, digest = data.draw(st.sampled_from(self.known()))
        held = self.held[repository]
        content, was_hidden = held.manifests[digest], not self.is_there(repository, digest)
        restoring = self.registries[worker].tags.restore(repository, tag, digest=digest, at=None, actor=ACTOR)
        try:
            self.run(restoring)
        except NotRestorable:
            assert held.comes_back_until(digest) <= self.now
            return
        if content.restorable_until is not None:
            content.tags = set()
        self.restored(content, was_hidden=was_hidden)
        held.point(tag, digest)

    @rule(repository=repositories, worker=workers, really=st.integers(0, 3), between=st.lists(workers, max_size=4))
    def delete_repository(self, repository: str, worker: int, really: int, between: list[int]) -> None:
        """With all it holds; mostly to bring it back soon, as little is left to do without it."""
        self.hide_repository(repository, worker)
        if really and repository in self.hidden:
            for which in between:
                self.run(self.step(which))
            self.show_repository(repository, worker)

    def hide_repository(self, repository: str, worker: int) -> None:
        """Delete it."""
        held = self.held[repository]
        try:
            self.run(self.registries[worker].repositories.delete(repository, actor=ACTOR))
        except NameUnknown:
            assert not held.manifests
            assert not any(until > self.now for until in held.promised.values())
            return
        self.counts["delete repository"] += 1
        self.judged.pop(repository, None)
        if held.manifests:
            self.hidden[repository] = (held, self.now + WEEK)
        self.held[repository] = Held()

    @precondition(lambda self: self.hidden)
    @rule(worker=workers, data=st.data())
    def restore_repository(self, worker: int, data: st.DataObject) -> None:
        """One that was deleted."""
        self.show_repository(data.draw(st.sampled_from(sorted(self.hidden))), worker)

    def show_repository(self, repository: str, worker: int) -> None:
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
        self.counts["restore repository"] += 1
        self.judged.pop(repository, None)
        self.held[repository] = hidden[0]
        del self.hidden[repository]

    @rule(hours=st.sampled_from([0.25, 0.6, 1.1, 25, 24 * 8]))
    def time_passes(self, hours: float) -> None:
        """For everybody at once."""
        span = timedelta(hours=hours)
        self.run(self.databases[0].write(_age, span))
        self.now += span
        for one in itertools.chain.from_iterable(self.judged.values()):
            one.seen = replace(one.seen, pushed=one.seen.pushed - span)

    # -- retention

    @precondition(lambda self: self.tagged())
    @rule(worker=workers, data=st.data())
    def judge(self, worker: int, data: st.DataObject) -> None:
        """A rule lets some tags go, which are removed in another step, or never."""
        self.counts["judge"] += 1
        repository = data.draw(st.sampled_from(self.tagged()))
        held = self.held[repository]
        seen = self.run(self.databases[worker].read(retention.page, repository, after="", limit=10))
        assert {one.name: one.digest for one in seen} == held.tags
        some = data.draw(st.sets(st.sampled_from(sorted(held.tags)), min_size=1))
        self.judged[repository] = [Judged(one, held.moves[one.name]) for one in seen if one.name in some]

    @precondition(lambda self: self.tagged())
    @rule(worker=workers, data=st.data())
    def retain(self, worker: int, data: st.DataObject) -> None:
        """What was judged goes, unless it changed meanwhile, and takes along what only it held."""
        if not self.judged:
            self.judge(worker, data)
        self.counts["retention"] += 1
        repository = data.draw(st.sampled_from(sorted(self.judged)))
        judged, held = self.judged.pop(repository), self.held[repository]
        doomed = [Doomed(one.seen, "a rule") for one in judged]
        guard = TagGuard(self.registries[worker].rules, repository, "retention")
        removing = self.databases[worker].write(
            retention.remove, repository, doomed, actor="retention", undo=WEEK, guard=guard
        )
        gone = self.run(removing)
        assert gone == [one.seen.name for one in judged if one.moves == held.moves[one.seen.name]]
        for tag in gone:
            self.unneeded(held, held.remove(tag))

    def unneeded(self, held: Held, digest: Digest) -> None:
        """Nothing holds it any more, as far as the rule is concerned; nor, because of it, what it holds."""
        content = held.manifests.get(digest)
        if content is None or held.is_held(digest):
            return
        content.unneeded_until = self.now + WEEK
        for one in content.children:
            self.unneeded_below(held, one)

    def unneeded_below(self, held: Held, digest: Digest) -> None:
        """As above; whether it is held is found out whenever what named it goes."""
        content = held.manifests[digest]
        if content.restorable_until is None:
            content.unneeded_until = self.now + WEEK
        for one in content.children:
            self.unneeded_below(held, one)

    # -- collectors

    @rule(
        which=workers,
        steps=st.integers(1, 12),
        at_once=st.integers(0, 9),
        hours=st.sampled_from([0, 0, 0, 0.6, 1.1, 25, 24 * 8]),
    )
    def collect(self, which: int, steps: int, at_once: int, hours: float) -> None:
        """The next steps of one of them, after a while; now and then it was told to spare nothing that is deleted."""
        self.time_passes(hours)
        for _ in range(steps):
            if self.run(self.step(which, grace=timedelta() if at_once == 0 else NO_GRACE)):
                self.counts[f"collector {which}"] += 1

    async def step(self, which: int, *, grace: timedelta = NO_GRACE) -> bool:
        """Read the queue; look; delete bytes; forget. False when there was nothing to do."""
        collector, database = self.collectors[which], self.databases[which]
        if not collector.entries:
            ahead = timedelta() if grace else NO_GRACE
            collector.entries = await database.read(due.ready, limit=4, ahead=ahead)
            return bool(collector.entries)
        if not collector.looks:
            collector.looks = await database.write(
                rounds.collect, collector.entries, grace=grace, readers=timedelta(minutes=1), undo=WEEK
            )
            if not grace:
                self.forget_undo()
        elif not collector.deleted:
            for look in collector.looks.values():
                for one in look.doomed:
                    await self.store.delete(one.location)
            collector.deleted = True
        else:
            await database.write(_forget, collector.looks)
            self.collectors[which] = Collector()
        return True

    def forget_undo(self) -> None:
        """What is deleted by now need not come back any more."""
        for held in self.held.values():
            held.forget_undo(self.now)
        for name, (held, until) in self.hidden.items():
            held.forget_undo(self.now)
            self.hidden[name] = (held, min(until, self.now))

    # -- what must hold

    def is_safe(self, repository: str, digest: Digest) -> bool:
        """Whether the blob has to be there: promised, or named by a manifest that is to be seen or can come back."""
        held = self.held[repository]
        named = any(
            digest in content.blobs and held.comes_back_until(one) > self.now for one, content in held.manifests.items()
        )
        return named or held.promised.get(digest, timedelta()) > self.now

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
                if held.is_shown(digest):
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
                for repository, held in self.held.items()
                for digest in self.kept(repository, held)
                for one in held.manifests[digest].blobs
            }
            left = self.run(self.databases[0].read(lambda c: set(c.scalars(select(schema.blob.c.digest)))))
            assert left == needed
            assert len(self.run(self.locations())) == len(needed)
        finally:
            self.run(self.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def kept(self, repository: str, held: Held) -> Iterator[Digest]:
        """Manifests that are to be seen, and what they name, deleted or not."""
        ahead = [
            digest
            for digest, content in held.manifests.items()
            if content.restorable_until is None and (held.is_shown(digest) or self.is_there(repository, digest))
        ]
        while ahead:
            digest = ahead.pop()
            yield digest
            ahead += held.manifests[digest].children

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
    collection.forget_blobs(c, [one for look in looks.values() for one in look.doomed])
    due.done(c, [entry for entry, look in looks.items() if look.doomed])
    due.add_again(c, {entry: look.again for entry, look in looks.items() if look.doomed and look.again})


def run(empty_database: EmptyDatabase) -> None:
    counts: Counter[str] = Counter()
    while counts.total() < FULL or counts.keys() != KINDS:
        chosen = settings(
            max_examples=max(10, min(FULL - counts.total(), _STEPS_PER_LINE) // _STEPS + 1),
            stateful_step_count=_STEPS,
            deadline=None,
            derandomize=FULL == SHORT,  # `make lifecycle` tries others each time
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        )
        machine: Any = partial(Lifecycle, empty_database, counts)  # takes any function, as it says
        run_state_machine_as_test(machine, settings=chosen)
        print(f"\n{counts.total()} steps: {dict(sorted(counts.items()))}", flush=True)  # noqa: T201 - for `make lifecycle`


def test_nothing_is_lost_and_nothing_is_left(sqlite_template: Path) -> None:
    async def empty(folder: Path) -> str:
        return f"sqlite:///{shutil.copy(sqlite_template, folder / 'stackyard.db')}"

    run(empty)


def test_nothing_is_lost_and_nothing_is_left_on_postgresql(postgresql_server: Server) -> None:
    async def empty(_: Path) -> str:
        return await postgresql_server.emptied()

    run(empty)
