import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.oci import manifests
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestInvalid, RegistryError
from stackyard.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Kind

CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest.of(b"config"), "size": 6}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest.of(b"layer"), "size": 5}
CHILD = {"mediaType": OCI_MANIFEST, "digest": Digest.of(b"child"), "size": 5}
FOREIGN = {
    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "digest": Digest.of(b"foreign"),
    "size": 7,
    "urls": ["https://example.com/layer"],
}


def image(**members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]} | members


def index(**members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [CHILD]} | members


def read(document: Any, content_type: str | None = None) -> manifests.Manifest:
    own = document.get("mediaType") if isinstance(document, dict) else None
    return manifests.parse(
        json.dumps(document).encode(), content_type or (own if isinstance(own, str) else OCI_MANIFEST)
    )


def test_an_image_names_its_config_and_its_layers() -> None:
    manifest = read(image(annotations={"a": "b"}, subject=CHILD))

    assert [(one.kind, one.digest) for one in manifest.references] == [
        (Kind.CONFIG, CONFIG["digest"]),
        (Kind.LAYER, LAYER["digest"]),
    ]
    assert manifest.subject == CHILD["digest"]
    assert manifest.artifact_type == manifest.config_media_type == CONFIG["mediaType"]
    assert manifest.annotations == {"a": "b"}


def test_an_index_names_its_children_and_has_no_artifact_type_of_its_own() -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8"}

    manifest = read(index(manifests=[CHILD | {"platform": platform}]))

    assert [(one.kind, one.platform) for one in manifest.references] == [(Kind.CHILD, "linux/arm64/v8")]
    assert manifest.artifact_type is None
    assert manifest.subject is None


def test_the_bytes_and_their_digest_are_those_that_were_sent() -> None:
    payload = b" " + json.dumps(image(), indent=7).encode() + b"\n\n"

    manifest = manifests.parse(payload, OCI_MANIFEST, algorithm="sha512")

    assert (manifest.payload, manifest.digest) == (payload, Digest.of(payload, "sha512"))


def test_the_total_size_counts_each_digest_once() -> None:
    document = image(layers=[LAYER, LAYER])

    assert read(document).total_size == len(json.dumps(document)) + 6 + 5


def test_parameters_of_the_content_type_are_ignored() -> None:
    assert read(image(), f"{OCI_MANIFEST}; charset=utf-8").media_type == OCI_MANIFEST


def test_an_absent_content_type_is_taken_from_the_body() -> None:
    assert manifests.parse(json.dumps(index()).encode(), None).media_type == OCI_INDEX


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_a_body_without_media_type_is_what_it_was_sent_as(media_type: str) -> None:
    document = image()
    del document["mediaType"]

    assert read(document, media_type).media_type == media_type


@pytest.mark.parametrize(
    "document",
    [
        image(layers=[]),
        index(manifests=[]),
        index(mediaType=DOCKER_LIST),
        image(artifactType="application/x"),
        image(unknown={"deeply": ["nested"]}),
        image(layers=[LAYER | {"data": "bGF5ZXI="}]),
        image(layers=[LAYER | {"mediaType": "text/plain; charset=utf-8"}]),
        image(layers=[FOREIGN]),
        image(config=CONFIG | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}),
    ],
)
def test_what_the_field_pushes_is_accepted(document: dict[str, Any]) -> None:
    assert read(document).media_type == document["mediaType"]


def test_a_foreign_layer_with_urls_need_not_be_here() -> None:
    config, layer = read(image(layers=[FOREIGN])).references

    assert layer.foreign
    assert not config.foreign


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        image(schemaVersion=1),
        image(schemaVersion="2"),
        image(schemaVersion=2.0),
        image(Layers=[]),
        image(MANIFESTS=[]),
        image() | {"layer\u017f": []},  # Go folds the long s, too
        image(subject=CHILD | {"Digest": "sha256:" + "0" * 64}),
        index(Manifests=[]),
        image(mediaType=7),
        image(manifests=[CHILD]),
        index(layers=[LAYER]),
        index(config=CONFIG),
        image(config=None),
        image(config=[]),
        image(layers=None),
        image(layers={}),
        image(layers=["x"]),
        index(manifests=None),
        image(config=CONFIG | {"digest": "sha256:zz"}),
        image(config=CONFIG | {"digest": "blake3:" + "a" * 64}),
        image(config=CONFIG | {"size": -1}),
        image(config=CONFIG | {"size": True}),
        image(config=CONFIG | {"size": 2**63}),
        image(config=CONFIG | {"size": 1.5}),
        image(config=CONFIG | {"mediaType": "no\nheader"}),
        image(config=CONFIG | {"mediaType": ""}),
        image(layers=[LAYER | {"urls": "https://x"}]),
        image(subject="x"),
        image(annotations={"a": 1}),
        image(annotations=[]),
        image(annotations={"a": "nul\0"}),
        image(annotations={"a": "\ud800"}),
        image(artifactType=7),
        image(artifactType="a\r\nb"),
        index(manifests=[CHILD | {"platform": "linux"}]),
    ],
)
def test_wrong_documents_are_refused(document: Any) -> None:
    with pytest.raises(ManifestInvalid):
        read(document)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b'{"schemaVersion":2,"schemaVersion":2}',
        b'{"schemaVersion":NaN}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b'{"b":' * 50_000 + b"1" + b"}" * 50_001,
    ],
)
def test_wrong_json_is_refused(payload: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        manifests.parse(payload, OCI_MANIFEST)


def test_a_media_type_other_than_the_content_type_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="differs"):
        read(image(), OCI_INDEX)


@pytest.mark.parametrize("name", ["prettyjws", "json"])
def test_schema_1_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(ManifestInvalid, match="schema 1 is not supported; push again"):
        manifests.parse(b'{"schemaVersion": 1}', f"application/vnd.docker.distribution.manifest.v1+{name}")


def test_an_unknown_content_type_is_told_the_known_ones() -> None:
    with pytest.raises(ManifestInvalid, match=r"manifest\.v2\+json"):
        manifests.parse(json.dumps({"schemaVersion": 2}).encode(), "text/html")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
members = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations", "artifactType"]
)


@given(st.dictionaries(members, json_values), st.sampled_from([image(), index(), {}]))
def test_any_document_is_read_or_refused(changes: dict[str, Any], base: dict[str, Any]) -> None:
    try:
        manifest = manifests.parse(json.dumps(base | changes).encode(), None)
    except RegistryError as refused:
        refused.text.encode()
    else:
        assert manifest.media_type in manifests.IMAGES | manifests.INDEXES


@given(st.binary())
def test_any_bytes_are_refused_in_words(payload: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        manifests.parse(payload, OCI_MANIFEST)
