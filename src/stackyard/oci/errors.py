"""Every refusal a client can act on, as one class each.

RegistryError
├── NameInvalid · NameUnknown · TagInvalid · DigestInvalid · SizeInvalid · PaginationInvalid
├── BlobUnknown · RangeNotSatisfiable
├── UploadUnknown · UploadInvalid · UploadOutOfOrder · UploadBusy
├── TagImmutable · JobUnknown · RuleRefused (RuleDeclared) · RuleUnknown
├── ManifestUnknown · ManifestInvalid · ManifestTooLarge · ManifestBlobUnknown · TooManyTags
├── NotRestorable · AlreadyThere · StillNeeded
├── Unauthorized · Denied (QuotaExceeded) · TooManyRequests
├── QuotaUnknown · QuotaDeclared
└── Unsupported · RouteUnknown · Unavailable · StorageFull (LowSpace) · BadRequest

Codes are those of distribution-spec 1.1.1, section "Error Codes", and where it has none for the case, those of
Docker's registry. Rooms raise; `http` alone turns them into answers.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class RegistryError(Exception):
    """A refusal the client can act on. Any other exception is our fault and answers 500."""

    code: ClassVar[str]
    status: ClassVar[int]
    message: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **detail: str | int,
    ) -> None:
        """Refuse with the class's message, or a clearer one for this case.

        Args:
            message: Replaces the class's message; shown to the client, so it holds no secret.
            headers: What the answer must carry besides its body (`Range`, `Retry-After` …).
            detail: Data for the `detail` member of the error body.
        """
        self.text = message or self.message
        super().__init__(self.text, detail)
        self.headers = dict(headers or {})
        self.detail = detail

    def entries(self) -> list[dict[str, object]]:
        """The members of the body's `errors` list: one, unless the class has a reason for more."""
        entry: dict[str, object] = {"code": self.code, "message": self.text}
        if self.detail:
            entry["detail"] = self.detail
        return [entry]


class NameInvalid(RegistryError):
    """The repository's name is outside the grammar."""

    code, status, message = "NAME_INVALID", 400, "invalid repository name"


class NameUnknown(RegistryError):
    """Nothing was ever pushed under this name, or the caller may not know."""

    code, status, message = "NAME_UNKNOWN", 404, "repository name not known to registry"


class TagInvalid(RegistryError):
    """The tag is outside the grammar or a policy."""

    code, status, message = "TAG_INVALID", 400, "manifest tag did not match the grammar of tags"


class TagImmutable(RegistryError):
    """A rule of this registry keeps the tag as it is."""

    code, status, message = "DENIED", 409, "the tag is immutable"


class DigestInvalid(RegistryError):
    """Not a digest, not a supported one, or not the digest of what was sent."""

    code, status, message = "DIGEST_INVALID", 400, "provided digest did not match uploaded content"


class SizeInvalid(RegistryError):
    """The length of what arrived is not the length that was announced."""

    code, status, message = "SIZE_INVALID", 400, "provided length did not match content length"


class PaginationInvalid(RegistryError):
    """`n` is not a number in the allowed range."""

    code, status, message = "PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested"


class BlobUnknown(RegistryError):
    """This repository links no such blob."""

    code, status, message = "BLOB_UNKNOWN", 404, "blob unknown to registry"


class RangeNotSatisfiable(RegistryError):
    """The requested range starts past the end (RFC 9110, 15.5.17)."""

    code, status, message = "RANGE_INVALID", 416, "requested range is outside the blob"


class UploadUnknown(RegistryError):
    """No such open session in this repository: finished, cancelled, purged or never there."""

    code, status, message = "BLOB_UPLOAD_UNKNOWN", 404, "blob upload unknown to registry"


class UploadInvalid(RegistryError):
    """The request cannot be part of an upload."""

    code, status, message = "BLOB_UPLOAD_INVALID", 400, "blob upload invalid"


class UploadOutOfOrder(RegistryError):
    """The chunk starts elsewhere. The answer carries the session's `Range` and `Location`."""

    code, status, message = "BLOB_UPLOAD_INVALID", 416, "chunk does not start where the upload stands"


class UploadBusy(UploadOutOfOrder):
    """Another writer holds the session; of two writers one wins."""

    message = "another request is writing to this upload"


class ManifestUnknown(RegistryError):
    """No such manifest or tag in this repository."""

    code, status, message = "MANIFEST_UNKNOWN", 404, "manifest unknown"


class ManifestInvalid(RegistryError):
    """Not a manifest this registry may keep."""

    code, status, message = "MANIFEST_INVALID", 400, "manifest invalid"


class ManifestTooLarge(ManifestInvalid):
    """Larger than the limit (spec: SHOULD answer 413)."""

    status, message = 413, "manifest is larger than this registry accepts"


class ManifestBlobUnknown(RegistryError):
    """The manifest names content that is not in this repository: one entry per missing digest."""

    code, status, message = "MANIFEST_BLOB_UNKNOWN", 400, "blob unknown to registry"

    def __init__(self, missing: Sequence[str]) -> None:
        """Name every missing digest, so that a client need not find them one by one."""
        super().__init__()
        self.missing = list(missing)

    def entries(self) -> list[dict[str, object]]:
        """One entry per missing digest, as Distribution answers."""
        return [{"code": self.code, "message": self.text, "detail": {"digest": digest}} for digest in self.missing]


class NotRestorable(RegistryError):
    """What was deleted is gone for good, or was never there."""

    code, status, message = "MANIFEST_UNKNOWN", 404, "it can no longer be restored"


class AlreadyThere(RegistryError):
    """Something else has taken the place."""

    code, status, message = "DENIED", 409, "there is something of this name already"


class StillNeeded(RegistryError):
    """Other content needs it."""

    code, status, message = "DENIED", 409, "other content needs it"


class TooManyTags(RegistryError):
    """More `tag=` parameters on one manifest PUT than this registry takes (spec end-7b: 414)."""

    code, status, message = "TAG_INVALID", 414, "too many tag parameters"


class JobUnknown(RegistryError):
    """No such job: never asked for, or finished so long ago that it is forgotten."""

    code, status, message = "JOB_UNKNOWN", 404, "no such job"


class Unauthorized(RegistryError):
    """Who are you? The answer carries the challenge."""

    code, status, message = "UNAUTHORIZED", 401, "authentication required"


class Denied(RegistryError):
    """Known, and not allowed."""

    code, status, message = "DENIED", 403, "requested access to the resource is denied"


class QuotaExceeded(Denied):
    """What the repositories below a prefix may hold is used up."""

    message = "the quota is exceeded"


class QuotaUnknown(RegistryError):
    """There is no quota on this prefix."""

    code, status, message = "QUOTA_UNKNOWN", 404, "there is no quota on this prefix"


class QuotaDeclared(RegistryError):
    """It is managed by the configuration file."""

    code, status, message = (
        "CONFLICT",
        409,
        "this quota stands in the configuration file: change stackyard.quotas there",
    )


class RuleRefused(RegistryError, ValueError):
    """A rule that does not do what its author meant. The message says why."""

    code, status, message = "RULE_INVALID", 400, "this rule cannot hold"

    def __str__(self) -> str:
        """For those who raise it again with more words."""
        return self.text


class RuleDeclared(RuleRefused):
    """It stands in the configuration file."""

    code, status = "CONFLICT", 409


class RuleUnknown(RegistryError):
    """It may have been removed meanwhile."""

    code, status, message = "RULE_UNKNOWN", 404, "there is no such rule"


class TooManyRequests(RegistryError):
    """Throttled; `Retry-After` says for how long."""

    code, status, message = "TOOMANYREQUESTS", 429, "too many requests"


class Unsupported(RegistryError):
    """The method or feature is off or unknown here."""

    code, status, message = "UNSUPPORTED", 405, "the operation is unsupported"


class RouteUnknown(RegistryError):
    """No endpoint of the registry has this path."""

    code, status, message = "UNSUPPORTED", 404, "no such endpoint"


class Unavailable(RegistryError):
    """The registry is read-only, draining or unhealthy; later may work."""

    code, status, message = "UNAVAILABLE", 503, "service unavailable"


class StorageFull(RegistryError):
    """No space left. Nothing of the request is visible; it can be sent again."""

    code, status, message = "UNAVAILABLE", 507, "no space left on the registry's storage"


class LowSpace(StorageFull):
    """There is space left, and it is kept for what goes on besides pushes."""

    message = "the registry's disk is nearly full"


class BadRequest(RegistryError):
    """The request's form is wrong where the specification has no code for it."""

    code, status, message = "UNSUPPORTED", 400, "malformed request"
