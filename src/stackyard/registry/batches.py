"""What a walk finds, some at a time."""

from collections.abc import AsyncIterator

from stackyard.storage.driver import Found


async def batches(found: AsyncIterator[Found], length: int) -> AsyncIterator[list[Found]]:
    """Lists of `length`; the last one may be shorter."""
    batch: list[Found] = []
    async for one in found:
        batch.append(one)
        if len(batch) == length:
            yield batch
            batch = []
    if batch:
        yield batch
