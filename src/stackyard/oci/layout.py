"""Where things lie on a volume, relative to the storage root: Distribution's layout 2, and our own folder.

    docker/registry/v2/blobs/<algorithm>/<2 hex>/<hex>/data        the first copy of a blob
    docker/registry/v2/blobs/<algorithm>/<2 hex>/<hex>/data.<n>    a later one: a location is never reused
    docker/registry/v2/repositories/<name>/                        what a repository shows, as links to digests:
        _layers/<algorithm>/<hex>/link                             a blob
        _manifests/revisions/<algorithm>/<hex>/link                a manifest
        _manifests/tags/<tag>/current/link                         what the tag points to
        _manifests/tags/<tag>/index/<algorithm>/<hex>/link         what it ever pointed to
    stackyard/uploads/<upload id>.<n>                              the nth location of an unfinished upload
    stackyard/stackyard.db                                         the embedded database, when there is one
    stackyard/admin.sock                                           where the running server is administered

Distribution reads only below `docker/registry/v2/`, so it never meets our folder. Its repositories are read when a
volume is taken over, and kept current afterwards, so that it can have the volume back; what counts is the database.
"""

from stackyard.oci.digests import Digest

DISTRIBUTION = "docker/registry/v2"
OWN = "stackyard"
UPLOADS = f"{OWN}/uploads"
DATABASE = f"{OWN}/stackyard.db"
SOCKET = f"{OWN}/admin.sock"
IN_USE = f"{OWN}/in-use"
"""Says which database tells of this volume: a new one that knows nothing would be a mistake."""
REPOSITORIES = f"{DISTRIBUTION}/repositories"
BLOBS = f"{DISTRIBUTION}/blobs"
LAYERS, MANIFESTS, UNFINISHED = "_layers", "_manifests", "_uploads"
"""Folders of a repository of Distribution's: no component of a name begins like that."""


def blob(digest: Digest, copy: int) -> str:
    """The location of copy number `copy`, counted from 0."""
    return f"{blob_folder(digest)}/{'data' if copy == 0 else f'data.{copy}'}"


def blob_folder(digest: Digest) -> str:
    """Where all copies of a blob lie."""
    return f"{BLOBS}/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def copy_number(name: str) -> int | None:
    """Which copy a file of a blob's folder is; None: it is none."""
    if name == "data":
        return 0
    number = name.removeprefix("data.")
    return int(number) if number != name and number.isascii() and number.isdigit() and number[0] != "0" else None


def repository(name: str) -> str:
    """The folder of a repository."""
    return f"{REPOSITORIES}/{name}"


def layers(name: str) -> str:
    """The folder of a repository's links to blobs."""
    return f"{REPOSITORIES}/{name}/{LAYERS}"


def layer(name: str, digest: Digest) -> str:
    """The link to a blob."""
    return f"{layers(name)}/{digest.algorithm}/{digest.hex}/link"


def revisions(name: str) -> str:
    """The folder of a repository's links to manifests."""
    return f"{REPOSITORIES}/{name}/{MANIFESTS}/revisions"


def revision(name: str, digest: Digest) -> str:
    """The link to a manifest."""
    return f"{revisions(name)}/{digest.algorithm}/{digest.hex}/link"


def tags(name: str) -> str:
    """The folder of a repository's tags."""
    return f"{REPOSITORIES}/{name}/{MANIFESTS}/tags"


def tag(name: str, tag_name: str) -> str:
    """The link that says what the tag points to."""
    return f"{tags(name)}/{tag_name}/current/link"


def tag_entry(name: str, tag_name: str, digest: Digest) -> str:
    """The link that says that the tag pointed to this manifest at some time."""
    return f"{tags(name)}/{tag_name}/index/{digest.algorithm}/{digest.hex}/link"


def upload_id(location: str) -> str:
    """Whose bytes lie at this location below `UPLOADS`."""
    return location.removeprefix(f"{UPLOADS}/").partition(".")[0]


def upload(upload_id: str, writer: int) -> str:
    """The location that the session's `writer`th writer fills; one folder for all, so that none is made per upload."""
    return f"{UPLOADS}/{upload_id}.{writer}"
