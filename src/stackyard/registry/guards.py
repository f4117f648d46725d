"""The rules about tags, as transactions ask them. An administrator is let through, and that is recorded."""

from dataclasses import dataclass

from sqlalchemy import Connection

from stackyard.metadata import audit, reach
from stackyard.oci.errors import RegistryError, TagImmutable, TagInvalid
from stackyard.registry.rules import Policy, Rules
from stackyard.registry.tagrules import Immutable, forbidden, form_of, immutable_by

# How many tags of one manifest are looked at, and how many are named.
_LOOKED_AT, _NAMED = 10_000, 5


@dataclass(frozen=True, slots=True)
class TagGuard:
    """What holds for the tags of one repository when this actor changes them."""

    rules: Rules
    repository: str
    actor: str
    override: bool = False
    """The actor is an administrator, whom rules do not stop."""

    def on_point(self, c: Connection, tag: str, *, moves: bool) -> None:
        """See `metadata.tags.Guard`. Raises TagInvalid and TagImmutable."""
        policy = self.rules.current(c)
        form = form_of(policy.forms, self.repository) if policy.forms else None
        if form and not form.allows(tag):
            self._refuse(
                c,
                TagInvalid(f"tag {tag!r} is refused here: tags of {self.repository} are {form.expected}"),
                tags=[tag],
                rule=form.name,
            )
        if moves and (rule := immutable_by(self._immutable(policy), tag)):
            self._refuse(
                c,
                TagImmutable(
                    f"tag {tag} of {self.repository} is immutable: it stays with the image that it was pushed with; "
                    "push this one under another tag"
                ),
                tags=[tag],
                rule=rule,
            )

    def on_delete(self, c: Connection, tag: str) -> None:
        """See `metadata.tags.Guard`. Raises TagImmutable."""
        if rule := immutable_by(self._immutable(self.rules.current(c)), tag):
            error = TagImmutable(f"tag {tag} of {self.repository} is immutable and cannot be deleted")
            self._refuse(c, error, tags=[tag], rule=rule)

    def on_delete_manifest(self, c: Connection, repository_id: int, digest: str) -> None:
        """See `metadata.tags.Guard`; also for what an immutable tag reaches through an index. Raises TagImmutable."""
        immutable = self._immutable(self.rules.current(c))
        if not immutable:
            return
        tags = sorted(reach.tags_above(c, repository_id, digest, limit=_LOOKED_AT))
        if found := forbidden(immutable, tags):
            names = ", ".join(tag for tag, _ in found[:_NAMED])
            if len(found) > _NAMED:
                names += f" and {len(found) - _NAMED} more"
            error = TagImmutable(f"it belongs to immutable tags of {self.repository} and cannot be deleted: {names}")
            self._refuse(c, error, tags=[tag for tag, _ in found], rule=found[0][1])

    def _immutable(self, policy: Policy) -> list[Immutable]:
        return [one for one in policy.immutable if one.selection.has_repository(self.repository)]

    def _refuse(self, c: Connection, error: RegistryError, *, tags: list[str], rule: str) -> None:
        if not self.override:
            raise error
        audit.record(
            c,
            actor=self.actor,
            action="rule.override",
            repository=self.repository,
            tags=tags,
            rule=rule,
            why=error.text,
        )
