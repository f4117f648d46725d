"""Manifests and indexes, read without trusting them (image-spec 1.1.1; Docker image manifest v2, schema 2).

What is here knows what a manifest names and what a registry must know of it.

The bytes are never rewritten. A document is refused when two readers could understand it differently: duplicate
keys, `layers` beside `manifests` (CVE-2021-41190), also as `Layers`, which Go takes for the same, a media type other
than the one it was sent with.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from stackyard.oci.digests import Digest, is_digest
from stackyard.oci.errors import ManifestInvalid

MAX_SIZE = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_REFERENCES = 10_000

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+"
# Layers that the image's author may not let others distribute; with `urls`, nobody need have pushed them.
_FOREIGN = ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable.")

_MEMBERS = (
    "schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations", "artifactType", "digest",
    "size", "urls", "platform",
)  # fmt: skip
_FOLDED = {name.casefold(): name for name in _MEMBERS}

# RFC 6838, 4.2, with the parameters that some tools put into artifact types; no control characters.
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\x21-\x7e]{0,254}(?:;[\x20-\x7e]{0,255})?", re.ASCII)


class Kind(StrEnum):
    """What a reference is to the manifest that holds it."""

    CONFIG = "config"
    LAYER = "layer"
    CHILD = "child"
    """A manifest, or in BuildKit's old cache indexes a blob."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A descriptor that a manifest holds."""

    kind: Kind
    digest: Digest
    size: int
    """Bytes, as the manifest claims."""
    media_type: str
    urls: tuple[str, ...] = ()
    platform: str | None = None
    """`os/architecture[/variant]`, children only."""

    @property
    def foreign(self) -> bool:
        """Whether the content lies elsewhere by design and need not be here."""
        return bool(self.urls) and self.media_type.startswith(_FOREIGN)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, as pushed, with what its registry needs to know of it."""

    digest: Digest
    media_type: str
    payload: bytes
    references: tuple[Reference, ...]
    subject: Digest | None
    artifact_type: str | None
    """As referrers lists show it: its own, else an image's config media type, else None (distribution-spec, end-12)."""
    config_media_type: str | None
    annotations: Mapping[str, str]

    @property
    def total_size(self) -> int:
        """Bytes of the document and of all it names, each digest once."""
        return len(self.payload) + sum({one.digest: one.size for one in self.references}.values())


def parse(payload: bytes, content_type: str | None, *, algorithm: str = "sha256") -> Manifest:
    """Read a manifest that was sent as `content_type` (parameters are ignored, spec "Pushing Manifests").

    Raises:
        ManifestInvalid: With the reason in words.
    """
    document = _document(payload)
    _check_spelling(document)
    media_type = _media_type(document, (content_type or "").partition(";")[0].strip())
    version = document.get("schemaVersion")
    if type(version) is not int or version != 2:  # 2.0 is 2 to Python and an error to Go
        _refuse("schemaVersion must be 2")
    if media_type in INDEXES:
        config, references = None, _index(document)
    else:
        config, references = _image(document)
    if len(references) > MAX_REFERENCES:
        _refuse(f"more than {MAX_REFERENCES} references")
    subject = document.get("subject")
    return Manifest(
        digest=Digest.of(payload, algorithm),
        media_type=media_type,
        payload=payload,
        references=tuple(references),
        subject=None if subject is None else _descriptor(subject, Kind.CHILD, "subject").digest,
        artifact_type=_artifact_type(document) or config,
        config_media_type=config,
        annotations=_annotations(document.get("annotations"), "annotations"),
    )


def _refuse(reason: str) -> NoReturn:
    raise ManifestInvalid(f"manifest invalid: {reason}") from None


def _document(payload: bytes) -> dict[str, object]:
    try:
        document = json.loads(payload.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        _refuse("not UTF-8")
    except RecursionError:
        _refuse("nested too deep")
    except ValueError:  # not JSON, or a number of more digits than int() takes
        _refuse("not JSON")
    if not isinstance(document, dict):
        _refuse("not a JSON object")
    _check_depth(document)
    return document


def _check_spelling(members: Mapping[str, object]) -> None:
    """Go's decoder, and so nearly every client, ignores the case of names; we and others do not."""
    for name in members:
        if _FOLDED.get(name.casefold(), name) != name:
            _refuse(f"a member differs from {_FOLDED[name.casefold()]} only in case")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Two readers may pick different ones of two equal keys, so there may not be two."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ManifestInvalid("manifest invalid: duplicate keys in a JSON object")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_depth(document: object) -> None:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        if not inner:
            return
        level = inner
    _refuse(f"nested more than {MAX_DEPTH} levels deep")


def _media_type(document: Mapping[str, object], sent: str) -> str:
    """The one media type that header and body agree on."""
    if document.get("schemaVersion") == 1 or sent.startswith(_SCHEMA1):
        _refuse("Docker schema 1 is not supported; push again with a current client")
    own = document.get("mediaType")
    if own is not None and not isinstance(own, str):
        _refuse("mediaType is not a string")
    media_type = sent or own or ""
    if media_type not in IMAGES and media_type not in INDEXES:
        _refuse(f"Content-Type must be one of {', '.join(sorted(IMAGES | INDEXES))}")
    if own is not None and own != media_type:
        _refuse("mediaType differs from the Content-Type it was sent with")
    return media_type


def _index(document: Mapping[str, object]) -> list[Reference]:
    if "layers" in document or "config" in document:
        _refuse("an index may not hold config or layers")
    return [_descriptor(one, Kind.CHILD, "manifests") for one in _sequence(document, "manifests")]


def _image(document: Mapping[str, object]) -> tuple[str, list[Reference]]:
    if "manifests" in document:
        _refuse("an image manifest may not hold manifests")
    if "config" not in document:
        _refuse("config is missing")
    config = _descriptor(document["config"], Kind.CONFIG, "config")
    layers = [_descriptor(one, Kind.LAYER, "layers") for one in _sequence(document, "layers")]
    return config.media_type, [config, *layers]


def _sequence(document: Mapping[str, object], name: str) -> Sequence[object]:
    value = document.get(name)
    if not isinstance(value, list):
        _refuse(f"{name} is not a list")
    return value


def _descriptor(value: object, kind: Kind, where: str) -> Reference:
    """image-spec 1.1.1, descriptor.md: mediaType, digest and size are REQUIRED."""
    if not isinstance(value, dict):
        _refuse(f"{where}: a descriptor is not an object")
    _check_spelling(value)
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        _refuse(f"{where}: digest is not a sha256 or sha512 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        _refuse(f"{where}: size is not a number of bytes")
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        _refuse(f"{where}: mediaType is not a media type")
    _annotations(value.get("annotations"), f"{where}: annotations")
    platform = _platform(value.get("platform"), where)
    return Reference(kind, Digest(digest), size, media_type, _urls(value.get("urls"), where), platform)


def _urls(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        _refuse(f"{where}: urls is not a list of strings")
    return tuple(value)


def _platform(value: object, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        _refuse(f"{where}: platform is not an object")
    parts = [value.get("os"), value.get("architecture"), value.get("variant")]
    text = "/".join(part for part in parts if isinstance(part, str) and part)
    return _storable(text, f"{where}: platform") or None


def _artifact_type(document: Mapping[str, object]) -> str | None:
    value = document.get("artifactType")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value):
        _refuse("artifactType is not a media type")
    return value


def _annotations(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        _refuse(f"{where} is not a map of strings")
    return {_storable(key, where): _storable(text, where) for key, text in value.items()}


def _storable(text: str, where: str) -> str:
    r"""JSON can escape what no database keeps as text: NUL and lone surrogates."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        _refuse(f"{where} holds NUL or half of a surrogate pair")
    return text
