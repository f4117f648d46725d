import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.oci.digests import ALGORITHMS, Digest, Hasher
from stackyard.oci.errors import DigestInvalid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:zz",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "SHA256:" + "a" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "a" * 64 + "/../x",
    ],
)
def test_what_is_not_a_supported_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@given(st.binary(), st.sampled_from(ALGORITHMS))
def test_a_digest_of_bytes_parses_and_shows_its_parts(content: bytes, algorithm: str) -> None:
    digest = Digest.parse(Digest.of(content, algorithm))

    assert digest.algorithm == algorithm
    assert digest.hex == hashlib.new(algorithm, content).hexdigest()


@given(st.lists(st.binary()), st.sampled_from(ALGORITHMS))
def test_a_hasher_tells_the_digest_and_the_size_at_every_step(chunks: list[bytes], algorithm: str) -> None:
    hasher, seen = Hasher(algorithm), b""

    for chunk in chunks:
        hasher.update(chunk)
        seen += chunk

        assert (hasher.digest(), hasher.size) == (Digest.of(seen, algorithm), len(seen))
