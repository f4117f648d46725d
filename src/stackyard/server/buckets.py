"""Object stores: from the configuration to their settings, and whether one can be used at all."""

import asyncio
import json
import multiprocessing
from multiprocessing.connection import Connection

from stackyard.config.model import Config
from stackyard.config.objects import S3, Azure, Gcs
from stackyard.oci import layout
from stackyard.server.errors import StartError
from stackyard.storage.driver import StorageError
from stackyard.storage.objects import settings as objects

_PATIENCE = 15.0  # seconds


def driver(config: Config) -> str:
    """The key under `storage` that names it; '' where there is none."""
    return config.storage.objects[0] if config.storage.objects else ""


def settings(config: Config) -> objects.Settings | None:
    """What the store takes; None where the bytes are in no bucket."""
    if config.storage.objects is None:
        return None
    section, redirect = config.storage.objects[1], config.stackyard.redirect.lifetime
    if isinstance(section, Azure):
        return objects.Settings(_azure(section), section.rootdirectory, redirect=redirect)
    if isinstance(section, Gcs):
        return objects.Settings(_google(section), section.rootdirectory, part=section.chunksize, redirect=redirect)
    log, part = section.loglevel == "debug", section.chunksize
    return objects.Settings(_s3(section), section.rootdirectory, part=part, log=log, redirect=redirect)


def _s3(section: S3) -> objects.S3:
    return objects.S3(
        bucket=section.bucket,
        endpoint=section.endpoint,
        address=section.address,
        public_address=section.redirectaddress,
        region=section.region,
        access_key=section.accesskey or None,
        secret_key=section.secretkey.get_secret_value() or None,
        verify=not section.skipverify,
        encrypt=section.encrypt,
        key_id=section.keyid or None if section.encrypt else None,
        storage_class=None if section.storageclass in ("NONE", "STANDARD") else section.storageclass,
        user_agent=section.useragent,
    )


def _google(section: Gcs) -> objects.GoogleCloud:
    key = {name: value.get_secret_value() for name, value in section.credentials.items()}
    return objects.GoogleCloud(
        bucket=section.bucket,
        key_file=section.keyfile or None,
        credentials=json.dumps(key) if key and not section.keyfile else None,
        user_agent=section.useragent,
    )


def _azure(section: Azure) -> objects.Azure:
    has_key = section.credentials.type == "shared_key"
    has_secret = section.credentials.type == "client_secret"
    return objects.Azure(
        container=section.container,
        account=section.accountname,
        endpoint=section.endpoint,
        account_key=section.accountkey.get_secret_value() if has_key else None,
        tenant_id=section.credentials.tenantid if has_secret else None,
        client_id=section.credentials.clientid if has_secret else None,
        client_secret=section.credentials.secret.get_secret_value() if has_secret else None,
        verify=not section.skipverify,
    )


def check(config: Config) -> None:
    """Write, read and delete an object in the bucket, before the first worker. Raises StartError.

    Where nothing is to be written, it is only asked, as its keys may allow no more. In a process of its own: the
    library starts threads, and workers are forked from this one.
    """
    if not config.storage.objects:
        return
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    trial = context.Process(target=_try, args=(config, writer))
    trial.start()
    writer.close()
    try:
        reason: str = reader.recv()
    except EOFError:
        reason = "the trial ended early"
    finally:
        trial.join()
        reader.close()
    if reason:
        name, section = config.storage.objects
        what = section.container if isinstance(section, Azure) else section.bucket
        where = "" if isinstance(section, Gcs) else f" at {section.endpoint}"
        raise StartError(f"storage.{name}: {what}{where} cannot be used: {reason}")


def _try(config: Config, writer: Connection) -> None:
    writer.send(asyncio.run(_reason(config)))


async def _reason(config: Config) -> str:
    from stackyard.server.opened import open_store

    try:
        store = open_store(config)
        async with asyncio.timeout(_PATIENCE):
            if config.storage.maintenance.readonly.enabled:
                await store.size(layout.IN_USE)
            else:
                await store.check()
    except (StartError, StorageError) as error:
        return str(error).partition(": ")[2] or str(error)
    except TimeoutError:
        return f"it does not answer within {_PATIENCE:.0f} s"
    return ""
