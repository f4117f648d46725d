"""Which rights each endpoint needs."""

from collections.abc import Mapping

from stackyard.auth.challenges import Needed
from stackyard.auth.principals import Action
from stackyard.oci.endpoints import (
    AppendUpload,
    CancelUpload,
    Catalog,
    DeleteBlob,
    DeleteManifest,
    Endpoint,
    FinishUpload,
    GetBlob,
    GetManifest,
    GetUpload,
    ListReferrers,
    ListTags,
    PutManifest,
    StartUpload,
)

_PULL = (Action.PULL,)
# Distribution asks for both, and clients get tokens for both: a push also looks at what is there.
_PUSH = (Action.PULL, Action.PUSH)
_DELETE = (Action.DELETE,)

ACTIONS: Mapping[type[Endpoint], tuple[Action, ...]] = {
    GetManifest: _PULL,
    GetBlob: _PULL,
    ListTags: _PULL,
    ListReferrers: _PULL,
    PutManifest: _PUSH,
    StartUpload: _PUSH,
    GetUpload: _PUSH,
    AppendUpload: _PUSH,
    FinishUpload: _PUSH,
    # Whoever may push may also give up pushing: clients cancel with the token they pushed with.
    CancelUpload: _PUSH,
    DeleteManifest: _DELETE,
    DeleteBlob: _DELETE,
}
WRITES = frozenset({PutManifest, StartUpload, AppendUpload, FinishUpload, CancelUpload, DeleteManifest, DeleteBlob})

PUSHES = frozenset({PutManifest, StartUpload, AppendUpload, FinishUpload})


def scopes(call: Endpoint) -> Needed:
    """What to name in a challenge: each repository with the actions needed there, or the catalogue."""
    if isinstance(call, Catalog):
        return "catalog"
    actions = ACTIONS.get(type(call))
    if actions is None:
        return []
    needed = [(call.repository, actions)]  # type: ignore[union-attr]  # every endpoint in ACTIONS has one
    if isinstance(call, StartUpload) and call.mount and call.source:
        needed.append((call.source, _PULL))
    return needed
