"""Where things lie on a volume, relative to the storage root: Distribution's layout 2, and our own folder.

    docker/registry/v2/blobs/<algorithm>/<2 hex>/<hex>/data        the first copy of a blob
    docker/registry/v2/blobs/<algorithm>/<2 hex>/<hex>/data.<n>    a later one: a location is never reused
    stackyard/uploads/<upload id>.<n>                              the nth location of an unfinished upload
    stackyard/stackyard.db                                         the embedded database, when there is one
    stackyard/admin.sock                                           where the running server is administered

Distribution reads only below `docker/registry/v2/`, so it never meets our folder.
"""

from stackyard.oci.digests import Digest

DISTRIBUTION = "docker/registry/v2"
OWN = "stackyard"
UPLOADS = f"{OWN}/uploads"
DATABASE = f"{OWN}/stackyard.db"
SOCKET = f"{OWN}/admin.sock"


def blob(digest: Digest, copy: int) -> str:
    """The location of copy number `copy`, counted from 0."""
    name = "data" if copy == 0 else f"data.{copy}"
    return f"{DISTRIBUTION}/blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}/{name}"


def upload(upload_id: str, writer: int) -> str:
    """The location that the session's `writer`th writer fills; one folder for all, so that none is made per upload."""
    return f"{UPLOADS}/{upload_id}.{writer}"
