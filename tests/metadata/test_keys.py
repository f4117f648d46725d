"""Signing keys."""

import asyncio
from functools import partial

from stackyard.metadata import keys
from stackyard.metadata.database import Database
from stackyard.metadata.keys import SigningKey


async def test_the_first_key_made_is_everybodys(database: Database) -> None:
    assert await database.read(keys.current) is None

    made = [partial(SigningKey, f"kid{n}", "pem") for n in range(4)]
    found = await asyncio.gather(*(database.write(keys.ensure, make) for make in made))

    assert len(set(found)) == 1
    assert await database.read(keys.current) == found[0]


def test_a_key_does_not_show_its_secret() -> None:
    assert "pem" not in repr(SigningKey("kid", "pem"))
