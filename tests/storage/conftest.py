"""Object stores, each started when the first test asks for it and shared by all workers of the run."""

from collections.abc import Iterator

import pytest
from tests.support import azurite as azurite_
from tests.support import ceph as ceph_
from tests.support import s3proxy
from tests.support import swift as swift_
from tests.support.azurite import Azurite
from tests.support.ceph import Ceph, Gateway
from tests.support.s3 import S3
from tests.support.s3proxy import S3Proxy

# The first test that wants one of these may have to wait for pip or npm.
_INSTALLED_FIRST = {"s3", "swift", "azurite"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _INSTALLED_FIRST & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    with ceph_.kept() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def swift() -> Iterator[S3]:
    with swift_.kept() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with azurite_.kept() as server:
        yield server


@pytest.fixture(params=["ceph", "swift"])
def s3(request: pytest.FixtureRequest) -> S3:
    """Each server in turn."""
    found: Ceph | S3 = request.getfixturevalue(request.param)
    return found.server if isinstance(found, Ceph) else found


@pytest.fixture
def gateway(ceph: Ceph) -> Iterator[Gateway]:
    """A way to Ceph of this test's own, which it may kill and start again."""
    with ceph.gateway() as gateway:
        yield gateway


@pytest.fixture
def proxy(ceph: Ceph) -> Iterator[S3Proxy]:
    """A way to Ceph that counts what passes."""
    with s3proxy.before(ceph.server) as proxy:
        yield proxy
