"""What every test folder shares: markers, skips that say why, a database on either engine, and a registry process."""

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # importlib mode leaves it alone, and the tests import `tests.support`

from tests.support import postgresql, stackyard  # noqa: E402
from tests.support.running import Running  # noqa: E402

from stackyard.metadata import migrate  # noqa: E402
from stackyard.metadata.database import Database, open_database  # noqa: E402

if TYPE_CHECKING:
    from tests.support.azurite import Azurite
    from tests.support.ceph import Ceph, Gateway
    from tests.support.s3 import S3
    from tests.support.s3proxy import S3Proxy

# On a busy machine any example may take long, bcrypt and the making of keys before all.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

MARKERS = {
    "clients": "drives real clients: docker, podman, skopeo, buildah, ctr, oras",
    "conformance": "runs the official OCI conformance suite",
    "crash": "kills servers in the middle of their work",
    "serial": "must not run beside other tests",
    "slow": "takes minutes; left out of `make test`",
}


# The first test that wants one of these may have to wait for pip or npm.
_INSTALLED_FIRST = {"s3", "swift", "azurite"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _INSTALLED_FIRST & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(600))


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if "s" not in config.option.reportchars:  # a skip that nobody sees is a test that nobody runs
        config.option.reportchars += "s"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Running]:
    """A registry process of this test's own: empty, anonymous, plain HTTP, deletes allowed."""
    with stackyard.start({}, folder=tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "stackyard.db"
    migrate.migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    with postgresql.serve() as server:
        yield server


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "stackyard.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
async def postgresql_url(postgresql_server: postgresql.Server) -> str:
    return await postgresql_server.emptied()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Of a migrated database that holds nothing: on SQLite, and on a real PostgreSQL."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await open_database(database_url)
    yield opened
    await opened.close()


# Object stores, each started when the first test asks for it and shared by all workers of the run. What they are made
# of is imported only then: boto3 takes a while.


@pytest.fixture(scope="session")
def ceph() -> "Iterator[Ceph]":
    from tests.support import ceph

    with ceph.kept() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def swift() -> "Iterator[S3]":
    from tests.support import swift

    with swift.kept() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> "Iterator[Azurite]":
    from tests.support import azurite

    with azurite.kept() as server:
        yield server


@pytest.fixture
def gateway(ceph: "Ceph") -> "Iterator[Gateway]":
    """A way to Ceph of this test's own, which it may kill and start again."""
    with ceph.gateway() as gateway:
        yield gateway


@pytest.fixture
def proxy(ceph: "Ceph") -> "Iterator[S3Proxy]":
    """A way to Ceph that counts what passes."""
    from tests.support import s3proxy

    with s3proxy.before(ceph.server) as proxy:
        yield proxy
