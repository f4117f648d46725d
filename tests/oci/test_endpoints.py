from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.oci import endpoints as e
from stackyard.oci.digests import Digest
from stackyard.oci.errors import (
    BadRequest,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    PaginationInvalid,
    RegistryError,
    RouteUnknown,
    TagInvalid,
    TooManyTags,
    Unsupported,
    UploadUnknown,
)

DIGEST = Digest.of(b"layer")
SHA512 = Digest.of(b"layer", "sha512")
SESSION = "0123456789abcdef" * 2
UPLOADS = "/v2/a/b/blobs/uploads/"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v2/", e.Base()),
        ("GET", "/v2", e.Base()),
        ("GET", "/v2/_catalog", e.Catalog(None, "")),
        ("GET", "/v2/a/tags/list", e.ListTags("a", None, "")),
        ("GET", "/v2/a/b/manifests/latest", e.GetManifest("a/b", "latest")),
        ("HEAD", f"/v2/a/b/manifests/{DIGEST}", e.GetManifest("a/b", DIGEST)),
        ("PUT", "/v2/a/manifests/latest", e.PutManifest("a", "latest", ())),
        ("DELETE", "/v2/a/manifests/latest", e.DeleteManifest("a", "latest")),
        ("GET", f"/v2/a/blobs/{DIGEST}", e.GetBlob("a", DIGEST)),
        ("GET", f"/v2/a/blobs/{SHA512}", e.GetBlob("a", SHA512)),
        ("DELETE", f"/v2/a/blobs/{DIGEST}", e.DeleteBlob("a", DIGEST)),
        ("POST", UPLOADS, e.StartUpload("a/b", None, None, None, "sha256")),
        ("POST", UPLOADS.rstrip("/"), e.StartUpload("a/b", None, None, None, "sha256")),
        ("GET", UPLOADS + SESSION, e.GetUpload("a/b", SESSION)),
        ("PATCH", UPLOADS + SESSION, e.AppendUpload("a/b", SESSION)),
        ("DELETE", UPLOADS + SESSION, e.CancelUpload("a/b", SESSION)),
        ("GET", f"/v2/a/referrers/{DIGEST}", e.ListReferrers("a", DIGEST, None, "")),
        # names made of the API's own words
        ("GET", "/v2/manifests/manifests/manifests", e.GetManifest("manifests", "manifests")),
        ("GET", "/v2/tags/list/manifests/list", e.GetManifest("tags/list", "list")),
        ("GET", "/v2/a/blobs/uploads/manifests/x", e.GetManifest("a/blobs/uploads", "x")),
        ("POST", "/v2/blobs/uploads/blobs/uploads/", e.StartUpload("blobs/uploads", None, None, None, "sha256")),
    ],
)
def test_request_lines_are_read(method: str, path: str, expected: e.Endpoint) -> None:
    assert e.parse(method, path, b"") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"digest={DIGEST}", e.StartUpload("a/b", None, None, DIGEST, "sha256")),
        (f"digest={SHA512}", e.StartUpload("a/b", None, None, SHA512, "sha512")),
        ("digest-algorithm=sha512", e.StartUpload("a/b", None, None, None, "sha512")),
        (f"mount={DIGEST}&from=c/d", e.StartUpload("a/b", DIGEST, "c/d", None, "sha256")),
        (f"mount={DIGEST}&from=c%2Fd&origin=x", e.StartUpload("a/b", DIGEST, "c/d", None, "sha256")),
        (f"mount={DIGEST}", e.StartUpload("a/b", DIGEST, None, None, "sha256")),
        (f"mount={DIGEST}&from=NOT-A-NAME", e.StartUpload("a/b", DIGEST, None, None, "sha256")),
    ],
)
def test_uploads_start_as_asked(query: str, expected: e.StartUpload) -> None:
    assert e.parse("POST", UPLOADS, query.encode()) == expected


def test_tags_beside_a_digest_are_read_once_each_in_order() -> None:
    query = urlencode([("tag", "b"), ("tag", "a"), ("tag", "b")]).encode()

    assert e.parse("PUT", f"/v2/a/manifests/{DIGEST}", query) == e.PutManifest("a", DIGEST, ("b", "a"))


@pytest.mark.parametrize(
    ("method", "path", "query", "error"),
    [
        ("GET", "/v2/a", "", RouteUnknown),
        ("GET", "/v2/a/b/c", "", RouteUnknown),
        ("GET", "/v2/a/tags/other", "", RouteUnknown),
        ("POST", "/v2/a/manifests/latest", "", Unsupported),
        ("GET", UPLOADS, "", Unsupported),
        ("GET", "/v2/A/tags/list", "", NameInvalid),
        ("GET", "/v2/../etc/manifests/passwd", "", NameInvalid),
        ("GET", "/v2/a\0/manifests/x", "", NameInvalid),
        ("GET", "/v2//manifests/x", "", NameInvalid),
        ("GET", "/v2/a/manifests/.INVALID", "", ManifestUnknown),
        ("PUT", "/v2/a/manifests/.INVALID", "", TagInvalid),
        ("PUT", "/v2/a/manifests/latest", "tag=other", TagInvalid),
        ("PUT", f"/v2/a/manifests/{DIGEST}", "tag=-bad", TagInvalid),
        ("PUT", f"/v2/a/manifests/{DIGEST}", "&".join(f"tag=t{n}" for n in range(101)), TooManyTags),
        ("GET", "/v2/a/manifests/sha256:zz", "", DigestInvalid),
        ("GET", "/v2/a/blobs/md5:00", "", DigestInvalid),
        ("GET", "/v2/a/blobs/latest", "", DigestInvalid),
        ("GET", "/v2/a/referrers/latest", "", DigestInvalid),
        ("GET", "/v2/a/tags/list", "n=-1", PaginationInvalid),
        ("GET", "/v2/a/tags/list", "n=abc", PaginationInvalid),
        ("GET", "/v2/a/tags/list", "n=%D9%A1", PaginationInvalid),
        ("GET", "/v2/a/tags/list", "last=%00", BadRequest),
        ("GET", "/v2/a/tags/list", "last=%FF", BadRequest),
        ("GET", "/v2/a/tags/list", "last=" + "a" * 20_000, BadRequest),
        ("GET", f"/v2/a/referrers/{DIGEST}", "artifactType=%00", BadRequest),
        ("POST", UPLOADS, "digest=sha256:zz", DigestInvalid),
        ("POST", UPLOADS, "mount=sha256:zz", DigestInvalid),
        ("POST", UPLOADS, "digest-algorithm=md5", DigestInvalid),
        ("POST", UPLOADS, "digest-algorithm=", DigestInvalid),
        ("PUT", UPLOADS + SESSION, "", DigestInvalid),
        ("PATCH", UPLOADS + "not-a-session", "", UploadUnknown),
        ("PATCH", UPLOADS + SESSION.upper(), "", UploadUnknown),
    ],
)
def test_wrong_request_lines_are_refused(method: str, path: str, query: str, error: type[RegistryError]) -> None:
    with pytest.raises(error):
        e.parse(method, path, query.encode())


def test_an_unsupported_method_is_told_which_are() -> None:
    with pytest.raises(Unsupported) as refused:
        e.parse("PATCH", "/v2/a/manifests/latest", b"")

    assert refused.value.headers == {"Allow": "GET, HEAD, PUT, DELETE"}


def test_a_huge_page_size_is_a_number() -> None:
    call = e.parse("GET", "/v2/a/tags/list", b"n=" + b"9" * 5000)

    assert isinstance(call, e.ListTags)
    assert call.n == int("9" * 18)


@given(st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "TRACE", "x"]), st.text(), st.binary())
def test_any_request_line_is_read_or_refused(method: str, path: str, query: bytes) -> None:
    try:
        call: e.Endpoint | None = e.parse(method, "/v2/" + path, query)
    except RegistryError as refused:
        call, status = None, refused.status
    else:
        status = 200

    assert (status == 200) == isinstance(call, e.Endpoint)
    assert status < 500
