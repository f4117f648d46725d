"""Image configurations, as far as a registry looks into them: what the image runs on, and its labels.

Unlike manifests nobody relies on this: what cannot be read is not there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
MAX_SIZE = 1024 * 1024
"""Larger ones are not looked into."""
_LONGEST_PLATFORM = 128


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What one says."""

    platform: str | None = None
    """`os/architecture[/variant]`"""
    labels: Mapping[str, str] = field(default_factory=dict)


def parse(content: bytes) -> ImageConfig:
    """Read it. What is not as the specification has it is left out."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return ImageConfig()
    if not isinstance(document, dict):
        return ImageConfig()
    config = document.get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    parts = [document.get(name) for name in ("os", "architecture", "variant")]
    return ImageConfig(
        _platform(parts),
        {name: value for name, value in labels.items() if isinstance(value, str)} if isinstance(labels, dict) else {},
    )


def _platform(parts: list[object]) -> str | None:
    texts = [part for part in parts if isinstance(part, str) and part]
    platform = "/".join(texts)
    if not (parts[0] in texts and parts[1] in texts) or len(platform) > _LONGEST_PLATFORM:
        return None
    return platform if platform.isprintable() and platform.isascii() else None
