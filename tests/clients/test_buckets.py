"""Every client pushes to and pulls from a registry whose blobs lie in a bucket, and follows its redirects."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import images, postgresql, stackyard
from tests.support.ceph import Ceph
from tests.support.client import Client
from tests.support.images import Image
from tests.support.running import Running


@pytest.fixture(scope="session")
def over_bucket(ceph: Ceph, postgresql_server: postgresql.Server) -> Iterator[Running]:
    where = {
        "bucket": ceph.server.bucket(),
        "regionendpoint": ceph.server.endpoint,
        "accesskey": ceph.server.access_key,
        "secretkey": ceph.server.secret_key,
    }
    config = {
        "storage": {"filesystem": None, "s3": where},
        "stackyard": {"database": {"url": asyncio.run(postgresql_server.create())}},
    }
    with stackyard.start(config) as running:
        yield running


def test_a_pushed_image_comes_back(client: Client, over_bucket: Running, repository: str, image: Image) -> None:
    reference = f"{over_bucket.address}/{repository}:v1"
    client.load(image, reference)

    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config


@pytest.mark.parametrize("client", ["docker", "skopeo"], indirect=True)
def test_a_large_layer_comes_back(client: Client, over_bucket: Running, repository: str, tmp_path: Path) -> None:
    image = images.big(tmp_path / "big", f"{repository}:local", size=48 << 20)
    reference = f"{over_bucket.address}/{repository}:v1"
    client.load(image, reference)

    client.push(reference)
    client.forget(reference)

    assert client.pull(reference) == image.config
