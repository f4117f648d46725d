"""Is this volume ours to serve?"""

from pathlib import Path

from stackyard.oci import layout


class VolumeRefused(Exception):
    """The volume cannot be served as it is. The text says what to do."""


def check(root: Path) -> None:
    """Refuse content of another registry that our database knows nothing of: it would look empty, and be at risk.

    Raises:
        VolumeRefused: Distribution has written here, and there is no database of ours.
    """
    if (root / layout.DATABASE).exists():
        return
    written = root / layout.DISTRIBUTION / "repositories"
    if written.is_dir() and any(written.iterdir()):
        raise VolumeRefused(
            f"{root} holds the content of another registry, and taking it over is not possible yet: "
            "give stackyard an empty folder (storage.filesystem.rootdirectory) and push your images to it"
        )
