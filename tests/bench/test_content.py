"""What the benchmark pushes."""

import hashlib
import itertools
import json

from bench.content import blob, manifest, unique
from bench.population import catalog


def test_unique_blobs_differ_and_have_their_digest() -> None:
    blobs = list(itertools.islice(unique(1000), 3))

    bodies = [b"".join(blob.body) for blob in blobs]

    assert [len(body) for body in bodies] == [1000] * 3
    assert len(set(bodies)) == 3
    assert [blob.digest for blob in blobs] == ["sha256:" + hashlib.sha256(body).hexdigest() for body in bodies]


def test_a_manifest_names_its_blobs_with_digest_and_size() -> None:
    config, layer = blob(b"{}"), blob(b"layer")

    written = json.loads(manifest(config, [layer], number="1"))

    assert written["config"]["digest"] == config.digest
    assert [(named["digest"], named["size"]) for named in written["layers"]] == [(layer.digest, 5)]
    assert written["annotations"] == {"number": "1"}


def test_the_catalogue_is_in_byte_order() -> None:
    names = catalog(350)

    assert names == sorted(names)
    assert len(set(names)) == 350
