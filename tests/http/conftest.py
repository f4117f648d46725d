from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.http.client import Client

from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.database import Database
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore
from stackyard.telemetry.access import AccessLog


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
