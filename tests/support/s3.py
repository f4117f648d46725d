"""Servers that speak S3, and a client for looking at them that is not the one under test."""

import itertools
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

_numbers = itertools.count()


@dataclass(frozen=True)
class S3:
    """Where a server is, and who may do anything there. Buckets are in the path, not in the host name."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"test-{os.getpid()}-{next(_numbers)}"
        with self.client() as client:
            client.create_bucket(Bucket=name)
        return name

    @contextmanager
    def client(self) -> Iterator[Any]:
        """boto3's client, which tries everything once."""
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            # Ceph before 18 does not know the checksums that boto3 adds otherwise.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        made = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=config,
        )
        with closing(made) as client:
            yield client

    def content(self, bucket: str) -> dict[str, bytes]:
        """Everything that is in the bucket, by key."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            keys = [found["Key"] for page in pages for found in page.get("Contents", ())]
            return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def unfinished(self, bucket: str) -> list[str]:
        """The keys of the multipart uploads that were neither completed nor aborted."""
        with self.client() as client:
            pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
            return [found["Key"] for page in pages for found in page.get("Uploads", ())]
