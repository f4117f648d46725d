from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.http.client import Client

from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.migrate import migrate
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore
from stackyard.telemetry.access import AccessLog


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "stackyard.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
async def database(empty_database: Path, tmp_path: Path) -> AsyncIterator[Database]:
    path = tmp_path / "stackyard.db"
    path.write_bytes(empty_database.read_bytes())
    database = await open_database(f"sqlite:///{path}")
    yield database
    await database.close()


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    yield store
    await store.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(delete_enabled=True)


@pytest.fixture
def app(store: MemoryStore, database: Database, settings: Settings) -> App:
    registry = Registry.over(store, database, settings)
    return App(registry, opening.open_access(AuthSettings()), Origins(), AccessLog(enabled=False), {})


@pytest.fixture
def client(app: App) -> Client:
    return Client(app)


def with_settings(app: App, **changes: object) -> App:
    """The same registry under other settings."""
    registry = app.registry
    changed = replace(registry.settings, **changes)  # type: ignore[arg-type]
    return replace(app, registry=Registry.over(registry.blobs.store, registry.blobs.database, changed))
