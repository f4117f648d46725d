"""Tags that expire: what an image says of itself, and the removal of those whose time has come."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from stackyard.oci import configs
from stackyard.oci.configs import ImageConfig
from stackyard.oci.errors import BlobUnknown
from stackyard.oci.manifests import Kind, Manifest
from stackyard.registry import spans
from stackyard.registry.blobs import Blobs

log = structlog.get_logger("stackyard.expiry")

NAMES = ("stackyard.expires-after", "quay.expires-after")
"""Annotations of a manifest or an index, and labels of an image, with a span: 14d, 2w, 36h."""
_LARGE = 64 * 1024  # bytes that are parsed in a thread, lest others wait


@dataclass(frozen=True, slots=True)
class Inside:
    """What is known of an image beyond its manifest."""

    platform: str | None = None
    expires_after: timedelta | None = None


NOTHING = Inside()


async def look_into(blobs: Blobs, repository: str, manifest: Manifest) -> Inside:
    """Read what the image's own configuration says. Never refuses: what cannot be read is not there."""
    config = await _config(blobs, repository, manifest)
    for where, values in (("annotation", manifest.annotations), ("label", config.labels)):
        if found := _expires_after(values, where, repository, manifest):
            return Inside(config.platform, found)
    return Inside(config.platform)


async def _config(blobs: Blobs, repository: str, manifest: Manifest) -> ImageConfig:
    named = next((one for one in manifest.references if one.kind is Kind.CONFIG), None)
    if named is None or named.media_type not in configs.MEDIA_TYPES or named.size > configs.MAX_SIZE:
        return ImageConfig()
    try:
        reader = await blobs.open(await blobs.find(repository, named.digest))
    except BlobUnknown:
        return ImageConfig()
    try:
        if reader.size > configs.MAX_SIZE:
            return ImageConfig()
        content = b"".join([chunk async for chunk in reader.chunks(0, reader.size)])
    finally:
        reader.close()
    return await asyncio.to_thread(configs.parse, content) if len(content) > _LARGE else configs.parse(content)


def _expires_after(values: Mapping[str, str], where: str, repository: str, manifest: Manifest) -> timedelta | None:
    for name in NAMES:
        if (value := values.get(name)) is None:
            continue
        try:
            if span := spans.parse(value.strip().lower()):
                return span
        except ValueError:
            pass
        shown = re.sub(r"[^\x20-\x7e]", "?", value[:40])
        log.warning(
            f"an image's {where} {name} is no length of time such as 14d or 36h: its tag will not expire",
            repository=repository,
            digest=manifest.digest,
            value=shown,
        )
    return None
