"""The registry's endpoints as values, and the one parser from a request line to them.

Numbers such as end-3 are those of distribution-spec 1.1.1, "Endpoints". A repository's name may hold slashes and
even components called `blobs` or `manifests`, so a path is read from its end, never matched from its start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import parse_qsl

from stackyard.oci import names
from stackyard.oci.digests import ALGORITHMS, Digest
from stackyard.oci.errors import (
    BadRequest,
    DigestInvalid,
    ManifestUnknown,
    PaginationInvalid,
    RouteUnknown,
    TagInvalid,
    TooManyTags,
    Unsupported,
    UploadUnknown,
)

# The spec asks for at least ten; more than this in one request is a mistake or an attack.
MAX_TAG_PARAMETERS = 100
MAX_QUERY_LENGTH = 16_384
_SHORT = 400  # characters: nearly all are, and so those that are remembered take little memory
_READS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Base:
    """end-1 `GET /v2/`: is this a registry, and must I log in?"""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`GET /v2/_catalog` (Docker). `n` is None when not asked for."""

    n: int | None
    last: str


@dataclass(frozen=True, slots=True)
class ListTags:
    """end-8 `GET /v2/<name>/tags/list`."""

    repository: str
    n: int | None
    last: str


@dataclass(frozen=True, slots=True)
class ListReferrers:
    """end-12 `GET /v2/<name>/referrers/<digest>`."""

    repository: str
    subject: Digest
    artifact_type: str | None
    last: str


@dataclass(frozen=True, slots=True)
class GetManifest:
    """end-3 `GET`, `HEAD /v2/<name>/manifests/<reference>`: a tag, or a Digest."""

    repository: str
    reference: str


@dataclass(frozen=True, slots=True)
class PutManifest:
    """end-7 `PUT /v2/<name>/manifests/<reference>`; `tags` come from `?tag=` beside a digest (end-7b)."""

    repository: str
    reference: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteManifest:
    """end-9 `DELETE /v2/<name>/manifests/<reference>`."""

    repository: str
    reference: str


@dataclass(frozen=True, slots=True)
class GetBlob:
    """end-2 `GET`, `HEAD /v2/<name>/blobs/<digest>`."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class DeleteBlob:
    """end-10 `DELETE /v2/<name>/blobs/<digest>`."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class StartUpload:
    """end-4a, 4b, 4c and end-11 `POST /v2/<name>/blobs/uploads/`."""

    repository: str
    mount: Digest | None
    source: str | None
    """Where to mount from; None when not named or not a name, which is no error (the upload just goes on)."""
    digest: Digest | None
    algorithm: str


@dataclass(frozen=True, slots=True)
class GetUpload:
    """end-13 `GET <location>`: how far is it?"""

    repository: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class AppendUpload:
    """end-5 `PATCH <location>`."""

    repository: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class FinishUpload:
    """end-6 `PUT <location>?digest=`."""

    repository: str
    upload_id: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class CancelUpload:
    """end-14 `DELETE <location>`."""

    repository: str
    upload_id: str


Endpoint: TypeAlias = (
    Base
    | Catalog
    | ListTags
    | ListReferrers
    | GetManifest
    | PutManifest
    | DeleteManifest
    | GetBlob
    | DeleteBlob
    | StartUpload
    | GetUpload
    | AppendUpload
    | FinishUpload
    | CancelUpload
)
Query: TypeAlias = list[tuple[str, str]]


def parse(method: str, path: str, query: bytes) -> Endpoint:
    """Read a request line whose path starts with `/v2`.

    Args:
        method: Upper case.
        path: Percent-decoded.
        query: As it stood on the wire.

    Raises:
        RouteUnknown: No endpoint has this path.
        Unsupported: It has not this method; the answer carries `Allow`.
        NameInvalid, TagInvalid, DigestInvalid, PaginationInvalid, BadRequest …: By the part that is wrong.
    """
    if not query and len(path) <= _SHORT and method in _READS:
        return _parse_again(method, path)
    return _parse(method, path, query)


def _parse(method: str, path: str, query: bytes) -> Endpoint:
    kind, repository, last = _split(path)
    methods = _METHODS.get(kind)
    if methods is None:
        raise RouteUnknown()
    make = methods.get(method)
    if make is None:
        raise Unsupported(headers={"Allow": ", ".join(methods)})
    if kind not in _NAMELESS:
        names.check_repository(repository)
    return make(repository, last, _parameters(query) if query else [])


@lru_cache(maxsize=2_048)
def _parse_again(method: str, path: str) -> Endpoint:
    """As `_parse`, of what many clients ask for again and again."""
    return _parse(method, path, b"")


def _split(path: str) -> tuple[str, str, str]:
    """The kind of endpoint, the repository as it stands, and the path's last component."""
    if path in ("/v2/", "/v2"):
        return "base", "", ""
    if path in ("/v2/_catalog", "/v2/_catalog/"):
        return "catalog", "", ""
    parts = path.rsplit("/", 2)
    if len(parts) != 3:
        return "", "", ""
    head, noun, last = parts
    if noun == "uploads" and head.endswith("/blobs"):
        return ("upload" if last else "uploads"), head[4:-6], last
    if last == "uploads" and noun == "blobs":
        return "uploads", head[4:], ""
    if noun == "tags":
        return ("tags" if last == "list" else ""), head[4:], ""
    return (noun if noun in ("manifests", "blobs", "referrers") else ""), head[4:], last


def _parameters(query: bytes) -> Query:
    if len(query) > MAX_QUERY_LENGTH:
        raise BadRequest("query string too long")
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500)
    except ValueError:  # also UnicodeDecodeError
        raise BadRequest("query string is not percent-encoded UTF-8") from None


def _first(query: Query, name: str) -> str | None:
    return next((value for key, value in query if key == name), None)


def _count(query: Query) -> int | None:
    """`n`, where it is given. Only ASCII digits are a number; int() alone would take `1_0` and ` 1` too."""
    text = _first(query, "n")
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit()):
        raise PaginationInvalid()
    return int(text[:18])  # a number of more digits is beyond every limit anyway


def _text(query: Query, name: str) -> str:
    """Any text: it need not name something that exists. But NUL is no text to PostgreSQL."""
    text = _first(query, name) or ""
    if "\0" in text:
        raise BadRequest(f"{name} may not hold a NUL character")
    return text


def _reference(text: str) -> str:
    """A tag as it stands, or a Digest: what holds a colon can only be the latter."""
    return Digest.parse(text) if ":" in text else names.check_tag(text)


def _known_reference(text: str) -> str:
    """As `_reference`, but what is outside the grammar of tags cannot exist: 404, as the v1.1.1 suite expects."""
    try:
        return _reference(text)
    except TagInvalid:
        raise ManifestUnknown() from None


def _put_manifest(repository: str, last: str, query: Query) -> PutManifest:
    reference = _reference(last)
    tags = tuple(dict.fromkeys(value for key, value in query if key == "tag"))
    if tags and not isinstance(reference, Digest):
        raise TagInvalid("tag parameters need a manifest that is put by digest")
    if len(tags) > MAX_TAG_PARAMETERS:
        raise TooManyTags()
    for tag in tags:
        names.check_tag(tag)
    return PutManifest(repository, reference, tags)


def _start_upload(repository: str, _: str, query: Query) -> StartUpload:
    mount, digest, source = (_first(query, name) for name in ("mount", "digest", "from"))
    algorithm = _first(query, "digest-algorithm")
    if algorithm is None:
        algorithm = "sha256"
    if algorithm not in ALGORITHMS:
        raise DigestInvalid(f"unsupported digest-algorithm: {' or '.join(ALGORITHMS)} is needed")
    wanted = Digest.parse(digest) if digest else None
    return StartUpload(
        repository,
        mount=Digest.parse(mount) if mount else None,
        source=source if source and names.is_repository(source) else None,
        digest=wanted,
        algorithm=wanted.algorithm if wanted else algorithm,
    )


def _finish_upload(repository: str, last: str, query: Query) -> FinishUpload:
    digest = _first(query, "digest")
    if digest is None:
        raise DigestInvalid("the digest parameter is missing")
    return FinishUpload(repository, _upload_id(last), Digest.parse(digest))


def _upload_id(text: str) -> str:
    """Session ids are ours: 32 hex digits. Anything else was never given out."""
    if len(text) != 32 or not set(text) <= set("0123456789abcdef"):
        raise UploadUnknown()
    return text


def _list_tags(repository: str, _: str, query: Query) -> ListTags:
    return ListTags(repository, _count(query), _text(query, "last"))


def _list_referrers(repository: str, last: str, query: Query) -> ListReferrers:
    return ListReferrers(repository, Digest.parse(last), _text(query, "artifactType") or None, _text(query, "last"))


def _get_manifest(repository: str, last: str, _: Query) -> GetManifest:
    return GetManifest(repository, _known_reference(last))


def _get_blob(repository: str, last: str, _: Query) -> GetBlob:
    return GetBlob(repository, Digest.parse(last))


def _get_upload(repository: str, last: str, _: Query) -> GetUpload:
    return GetUpload(repository, _upload_id(last))


def _base(_: str, __: str, ___: Query) -> Base:
    return Base()


def _catalog(_: str, __: str, query: Query) -> Catalog:
    return Catalog(_count(query), _text(query, "last"))


# What each kind of path can be asked, in the order that `Allow` names it.
_METHODS: Mapping[str, Mapping[str, Callable[[str, str, Query], Endpoint]]] = {
    "base": {"GET": _base, "HEAD": _base},
    "catalog": {"GET": _catalog, "HEAD": _catalog},
    "tags": {"GET": _list_tags, "HEAD": _list_tags},
    "referrers": {"GET": _list_referrers, "HEAD": _list_referrers},
    "manifests": {
        "GET": _get_manifest,
        "HEAD": _get_manifest,
        "PUT": _put_manifest,
        "DELETE": lambda repository, last, _: DeleteManifest(repository, _known_reference(last)),
    },
    "blobs": {
        "GET": _get_blob,
        "HEAD": _get_blob,
        "DELETE": lambda repository, last, _: DeleteBlob(repository, Digest.parse(last)),
    },
    "uploads": {"POST": _start_upload},
    "upload": {
        "GET": _get_upload,
        "HEAD": _get_upload,
        "PATCH": lambda repository, last, _: AppendUpload(repository, _upload_id(last)),
        "PUT": _finish_upload,
        "DELETE": lambda repository, last, _: CancelUpload(repository, _upload_id(last)),
    },
}
_NAMELESS = frozenset({"base", "catalog"})
