"""What a worker remembers of the uploads that it received: their running hashes."""

from collections import OrderedDict
from dataclasses import dataclass, field

from stackyard.metadata.uploads import Upload
from stackyard.oci.digests import Hasher

# Running hashes that wait for the next chunk of their session; one costs about 200 bytes.
_MAX_HASHERS = 10_000


@dataclass(slots=True)
class Hashers:
    """Running hashes by session, kept between requests of one worker.

    hashlib cannot store its state. When a chunk comes to a worker that does not hold the running hash, the bytes are
    hashed once, when the upload is finished: re-reading at each chunk would cost the square of the upload's length.
    """

    held: OrderedDict[str, Hasher] = field(default_factory=OrderedDict)

    def take(self, upload: Upload) -> Hasher | None:
        """The hash of exactly the bytes this session holds, if this worker knows it."""
        hasher = self.held.pop(upload.id, None)
        if upload.offset == 0:
            return Hasher(upload.algorithm)
        return hasher if hasher and hasher.size == upload.offset else None

    def keep(self, upload_id: str, hasher: Hasher) -> None:
        """Until the next chunk, or until too many others came."""
        self.held[upload_id] = hasher
        while len(self.held) > _MAX_HASHERS:
            self.held.popitem(last=False)
