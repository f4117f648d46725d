"""What is pushed: blobs that no server has seen before, and manifests that name them."""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.wire import Body

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_SERIAL = 16  # bytes

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Blob:
    """Bytes in one or more parts, and their digest."""

    body: Body
    digest: str

    @property
    def size(self) -> int:
        return sum(map(len, self.body))


def blob(content: bytes) -> Blob:
    return Blob((content,), digest(content))


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def unique(size: int) -> Iterator[Blob]:
    """Blobs of `size` bytes without end, all different, for next to nothing: they differ in their last bytes only."""
    common = os.urandom(size - _SERIAL)
    hashed = hashlib.sha256(common)
    for number in _numbers:
        serial = number.to_bytes(_SERIAL, "big")
        whole = hashed.copy()
        whole.update(serial)
        yield Blob((memoryview(common), serial), f"sha256:{whole.hexdigest()}")


def manifest(config: Blob, layers: Sequence[Blob], *, indent: int | None = 2, **annotations: str) -> bytes:
    """An image's manifest. Without `indent` it costs a fifth to make, and looks like no client's."""
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [_descriptor(_LAYER, layer) for layer in layers],
    }
    if annotations:
        value["annotations"] = annotations
    return json.dumps(value, indent=indent).encode()


def _descriptor(media_type: str, named: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": named.digest, "size": named.size}
