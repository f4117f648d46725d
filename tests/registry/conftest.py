"""A registry over memory and a real database, in which nothing is promised."""

from collections.abc import AsyncIterator

import pytest
from tests.registry.making import SHORT

from stackyard.metadata.database import Database
from stackyard.registry.registry import Registry
from stackyard.storage.memory import MemoryStore


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    yield store
    await store.close()


@pytest.fixture
def registry(store: MemoryStore, database: Database) -> Registry:
    return Registry.over(store, database, SHORT)
