"""What a repository must hold, and for how long, after all that was done to it: for the state machine."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest

FOREVER = timedelta(days=400)
"""Longer than all spans."""


@dataclass
class Content:
    """What a manifest names, and until when it can be brought back once it is deleted."""

    pushed: Pushed
    blobs: frozenset[Digest]
    children: frozenset[Digest] = frozenset()
    tags: set[str] = field(default_factory=set)
    """That point to it or, once it is deleted, went with it."""
    restorable_until: timedelta | None = None
    """None unless a person deleted it."""
    unneeded_until: timedelta | None = None
    """A rule took what held it, and may hide it as long as nothing does; until when it is sure to come back."""


@dataclass
class Held:
    """What a repository holds."""

    manifests: dict[Digest, Content] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    promised: dict[Digest, timedelta] = field(default_factory=dict)
    """Blobs, and until when a client may rely on them."""
    moves: Counter[str] = field(default_factory=Counter)
    """How often each tag changed."""

    def is_shown(self, digest: Digest) -> bool:
        """Whether the manifest has to be there."""
        content = self.manifests[digest]
        return content.restorable_until is None and (self.unneeded_until(digest) is None or self.is_held(digest))

    def unneeded_until(self, digest: Digest) -> timedelta | None:
        """As `Content.unneeded_until`, also of what goes along with an index that a rule waits for, if nothing else
        holds it by then.
        """
        own = self.manifests[digest].unneeded_until
        if own is not None:
            return own
        indexes = (one for one in self.manifests.values() if digest in one.children)
        return min((one.unneeded_until for one in indexes if one.unneeded_until is not None), default=None)

    def is_held(self, digest: Digest) -> bool:
        """Whether a tag points to it, or a manifest that is to be seen names it."""
        return digest in self.tags.values() or any(
            digest in other.children and self.is_shown(one) for one, other in self.manifests.items()
        )

    def comes_back_until(self, digest: Digest) -> timedelta:
        """How long it is there, or can be brought back."""
        content = self.manifests[digest]
        if self.is_shown(digest):
            return FOREVER * 2
        return content.restorable_until or self.unneeded_until(digest) or timedelta()

    def forget_undo(self, now: timedelta) -> None:
        """What is deleted need not come back any more."""
        for content in self.manifests.values():
            if content.restorable_until is not None:
                content.restorable_until = min(content.restorable_until, now)
            if content.unneeded_until is not None:
                content.unneeded_until = min(content.unneeded_until, now)

    def point(self, tag: str, digest: Digest) -> None:
        """Let the tag stand for this manifest."""
        old = self.tags.get(tag)
        if old != digest:
            self.moves[tag] += 1
        if old is not None:
            self.manifests[old].tags.discard(tag)
        self.tags[tag] = digest
        self.manifests[digest].tags.add(tag)

    def remove(self, tag: str) -> Digest:
        """Let it stand for nothing; what it stood for."""
        digest = self.tags.pop(tag)
        self.manifests[digest].tags.discard(tag)
        self.moves[tag] += 1
        return digest
