import os
from collections.abc import AsyncIterator
from functools import partial

import pytest
from tests.http.client import Client

from stackyard.api.mount import Mount
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
async def app(database: Database) -> AsyncIterator[App]:
    """A registry without logins, and its admin API."""
    store = MemoryStore()
    registry = Registry.over(store, database, Settings())
    access = opening.open_access(AuthSettings())
    yield App(registry, access, Origins(), AccessLog(enabled=False), {}, api=Mount(registry, access))
    await store.close()


@pytest.fixture
def client(app: App) -> Client:
    """A registry client, over the network."""
    return Client(app)


@pytest.fixture
def admin(app: App) -> Client:
    """On the local socket, as the server's own user."""
    return Client(partial(app.local, os.geteuid()))
