"""Names of repositories and tags (distribution-spec 1.1.1, "Pulling manifests").

A reference is a tag or a digest and nothing else; a tag never holds a colon, so the two cannot be mixed up.
"""

import re

from stackyard.oci.errors import NameInvalid, TagInvalid

# Clients limit host[:port]/name to 255 characters; the name alone can therefore never need more.
MAX_REPOSITORY_LENGTH = 255
MAX_TAG_LENGTH = 128

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
"""The grammar, for those who describe it."""
TAG = rf"[a-zA-Z0-9_][a-zA-Z0-9._-]{{0,{MAX_TAG_LENGTH - 1}}}"
_REPOSITORY = re.compile(REPOSITORY, re.ASCII)
_TAG = re.compile(TAG, re.ASCII)


def is_repository(name: str) -> bool:
    """Whether `name` is in the grammar of repositories."""
    return len(name) <= MAX_REPOSITORY_LENGTH and _REPOSITORY.fullmatch(name) is not None


def is_tag(name: str) -> bool:
    """Whether `name` is in the grammar of tags."""
    return _TAG.fullmatch(name) is not None


def check_repository(name: str) -> str:
    """Return `name`. Raises NameInvalid when it is outside the grammar."""
    if not is_repository(name):
        raise NameInvalid()
    return name


def check_tag(name: str) -> str:
    """Return `name`. Raises TagInvalid when it is outside the grammar."""
    if not is_tag(name):
        raise TagInvalid()
    return name
