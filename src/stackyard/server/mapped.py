"""Files to a client over TLS: `stackyard.sendfile` where the bytes have to be encrypted.

They are encrypted straight from the page cache, mapped into memory. Reading them first costs a copy, which for a
large blob is as dear as the encryption. A window is mapped only while it is written, so that what waits for a slow
client takes no memory.

Touching a mapped page that cannot be had, since the disk failed or somebody cut the file short, kills the process.
So all of a window is asked for beforehand (MADV_POPULATE_READ, Linux 5.14), which fails instead; then, and on an older
kernel, it is read.
"""

import asyncio
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from stackyard.server.sendfile import STEP, FileTooShort, cached, read_in
from stackyard.server.tls_transport import RECORD, TlsTransport

if TYPE_CHECKING:
    from stackyard.server.delivery import Delivery
    from stackyard.server.protocol import Connection

SMALL: Final = 64 * 1024  # bytes that are read and leave with the header: mapping costs more
_MADV_POPULATE_READ: Final = 22
_GRAIN: Final = mmap.ALLOCATIONGRANULARITY


async def send_encrypted(
    connection: "Connection", delivery: "Delivery", head: bytes, span: tuple[int, int, int]
) -> None:
    """Send `head` and then bytes of a file; returns when the kernel has taken them, or the client is gone.

    Args:
        connection: One with TLS.
        delivery: Counts the file's bytes as they leave.
        head: The answer's header, or nothing.
        span: Descriptor, offset and count of bytes.
    """
    file, offset, count = span
    transport: TlsTransport = connection.transport
    stop = offset + count
    first = min(count, SMALL if count <= SMALL else max(0, RECORD - len(head)))
    transport.write(head + await _read(file, offset, first))
    delivery.sent += first
    offset += first
    while offset < stop and await _flushed(connection, transport):
        size = min(stop - offset, STEP)
        if not cached(file, offset + size - 1):
            await asyncio.to_thread(read_in, file, offset, size)
        if not transport.is_closing() and not _put(transport, file, offset, size):
            transport.wait()
            continue
        offset += size
        delivery.sent += size
        if offset < stop:
            await asyncio.sleep(0)


async def _flushed(connection: "Connection", transport: TlsTransport) -> bool:
    """Wait until nothing waits to be written; False: the client is gone."""
    await connection.written()
    while transport.get_write_buffer_size():
        transport.wait()
        await connection.written()
    return not transport.is_closing()


async def _read(file: int, offset: int, count: int) -> bytes:
    if not count:
        return b""
    if cached(file, offset + count - 1):
        content = os.pread(file, count, offset)
    else:
        content = await asyncio.to_thread(os.pread, file, count, offset)
    return _whole(content, count)


def _whole(content: bytes, count: int) -> bytes:
    if len(content) < count:
        raise FileTooShort(f"{count - len(content)} bytes are missing")
    return content


def _put(transport: TlsTransport, file: int, offset: int, size: int) -> bool:
    """Encrypt and write these bytes; False: the socket does not take them all now, and they have to be put again."""
    with window(file, offset, size) as piece:
        return transport.put(piece)


@contextmanager
def window(file: int, offset: int, size: int) -> Iterator["memoryview | bytes"]:
    """Bytes of a file in memory: mapped where that is safe, else read. Raises FileTooShort and OSError."""
    start = offset - offset % _GRAIN
    try:
        mapped = mmap.mmap(file, offset + size - start, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=start)
    except (OSError, ValueError):  # a file system that cannot, or (ValueError) the file is too short
        yield _whole(os.pread(file, size, offset), size)
        return
    with mapped:
        try:
            mapped.madvise(_MADV_POPULATE_READ)
        except OSError:
            yield _whole(os.pread(file, size, offset), size)
            return
        with memoryview(mapped) as whole, whole[offset - start :] as piece:
            yield piece
