"""What only Amazon's own library does: finding credentials, and unfinished uploads.

It is loaded where it is needed: every object is written and read by obstore, which takes a tenth of its time.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from stackyard.storage.driver import StorageError
from stackyard.storage.objects.settings import S3

_FRESH = timedelta(minutes=5)


class FoundCredentials:
    """Those of the environment, the shared files, the container or the machine, asked for again from time to time."""

    def __init__(self) -> None:
        """Looks once. Raises ValueError when there are none."""
        self._found = botocore.session.get_session().get_credentials()
        if self._found is None:
            raise ValueError(
                "there are no credentials: set accesskey and secretkey, or let environment, ~/.aws/credentials or the "
                "machine have some"
            )

    def __call__(self) -> Any:
        """As obstore wants it."""
        frozen = self._found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _FRESH,
        }


def abort_unfinished(where: S3, prefix: str, age: timedelta) -> int:
    """Take away the parts of uploads that began at least `age` ago and never became an object; how many uploads.

    Blocks. Raises StorageError.
    """
    aborted, latest = 0, datetime.now(UTC) - age
    with _client(where) as client:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=where.bucket, Prefix=prefix):
            for one in page.get("Uploads", ()):
                if one["Initiated"] < latest:
                    client.abort_multipart_upload(Bucket=where.bucket, Key=one["Key"], UploadId=one["UploadId"])
                    aborted += 1
    return aborted


@contextlib.contextmanager
def _client(where: S3) -> Iterator[Any]:
    in_path = where.address == f"{where.endpoint}/{where.bucket}"
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if in_path else "virtual"},
        connect_timeout=5,
        read_timeout=30,
        # Ceph before 18 does not know the checksums that are added otherwise.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=where.endpoint,
        region_name=where.region,
        aws_access_key_id=where.access_key,
        aws_secret_access_key=where.secret_key,
        verify=where.verify,
        config=config,
    )
    try:
        yield client
    except (BotoCoreError, ClientError) as error:
        raise StorageError(f"{where.bucket}: {error}") from error
    finally:
        client.close()
