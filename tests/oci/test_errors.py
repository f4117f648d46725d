"""What a refusal looks like (distribution-spec 1.1.1, "Error Codes")."""

import re

import pytest

from stackyard.oci import errors
from stackyard.oci.errors import ManifestBlobUnknown, RegistryError

SPECIFIED = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip
# Where the specification has none for the case, its clients know these from Docker's registry.
DOCKERS = {"TAG_INVALID", "PAGINATION_NUMBER_INVALID", "RANGE_INVALID", "UNAVAILABLE"}

# The admin API's own.
ADMINISTRATION = {"CONFLICT", "JOB_UNKNOWN", "QUOTA_UNKNOWN", "RULE_INVALID", "RULE_UNKNOWN"}

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RegistryError)]
REFUSALS = [kind for kind in CLASSES if kind is not RegistryError]


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_refusal_has_a_known_code_and_a_status_of_an_error(kind: type[RegistryError]) -> None:
    assert kind.code in SPECIFIED | DOCKERS | ADMINISTRATION
    assert re.fullmatch("[A-Z_]+", kind.code)
    assert 400 <= kind.status < 600


def test_every_code_of_the_specification_is_in_use() -> None:
    assert {kind.code for kind in REFUSALS} >= SPECIFIED


def test_entry_has_code_message_and_the_detail_there_is() -> None:
    assert errors.BlobUnknown().entries() == [{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry"}]
    assert errors.BlobUnknown("gone", digest="x").entries() == [
        {"code": "BLOB_UNKNOWN", "message": "gone", "detail": {"digest": "x"}}
    ]
    assert [entry["detail"] for entry in ManifestBlobUnknown(["a", "b"]).entries()] == [
        {"digest": "a"},
        {"digest": "b"},
    ]
