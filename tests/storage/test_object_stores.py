"""The object stores that tests start are there, and do what the tests of our drivers take for granted of them."""

import os
from dataclasses import replace

import obstore
import pytest
from botocore.exceptions import ClientError, ConnectionError  # type: ignore[import-untyped]
from obstore.store import AzureStore
from tests.support.azurite import Azurite
from tests.support.ceph import Gateway
from tests.support.processes import is_running
from tests.support.s3 import S3
from tests.support.s3proxy import Call, S3Proxy

MIB = 1024 * 1024


def test_what_is_put_is_read_and_listed_until_it_is_deleted(s3: S3) -> None:
    bucket = s3.bucket()
    content = os.urandom(MIB)

    with s3.client() as client:
        client.put_object(Bucket=bucket, Key="a/b", Body=content)
        client.put_object(Bucket=bucket, Key="a/ä c", Body=b"")
        part = client.get_object(Bucket=bucket, Key="a/b", Range="bytes=5-8")["Body"].read()
        before = s3.content(bucket)
        client.delete_object(Bucket=bucket, Key="a/b")

    assert part == content[5:9]
    assert before == {"a/b": content, "a/ä c": b""}
    assert s3.content(bucket) == {"a/ä c": b""}


def test_a_multipart_upload_is_to_be_seen_until_it_is_an_object(s3: S3) -> None:
    bucket = s3.bucket()
    parts = [os.urandom(5 * MIB), b"the rest"]

    with s3.client() as client:
        upload = {
            "Bucket": bucket,
            "Key": "k",
            "UploadId": client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"],
        }
        tags = [client.upload_part(**upload, PartNumber=n, Body=body)["ETag"] for n, body in enumerate(parts, 1)]
        before = s3.content(bucket), s3.unfinished(bucket)
        listed = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": listed})

    assert before == ({}, ["k"])
    assert s3.content(bucket) == {"k": b"".join(parts)}
    assert s3.unfinished(bucket) == []


def test_a_bucket_is_new_each_time(s3: S3) -> None:
    assert s3.bucket() != s3.bucket()


def test_a_wrong_secret_is_refused(s3: S3) -> None:
    stranger = replace(s3, secret_key="x" * 40)

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.bucket()


def test_a_gateway_that_was_killed_answers_nothing_and_comes_back_with_the_objects(gateway: Gateway) -> None:
    bucket = gateway.server.bucket()
    with gateway.server.client() as client:
        client.put_object(Bucket=bucket, Key="kept", Body=b"bytes")
    killed = gateway.pid

    gateway.kill()
    with pytest.raises(ConnectionError):
        gateway.server.content(bucket)
    gateway.start()

    assert not is_running(killed)
    assert gateway.server.content(bucket) == {"kept": b"bytes"}


def test_the_proxy_tells_each_call_once(proxy: S3Proxy) -> None:
    bucket = proxy.server.bucket()
    proxy.calls()

    with proxy.server.client() as client:
        client.put_object(Bucket=bucket, Key="ä b", Body=b"12345")
        client.get_object(Bucket=bucket, Key="ä b", Range="bytes=1-3")["Body"].read()
        client.list_objects_v2(Bucket=bucket, MaxKeys=7)
        with pytest.raises(ClientError):
            client.head_object(Bucket=bucket, Key="missing")
    put, get, listed, head = proxy.calls()

    assert put == Call("PUT", f"/{bucket}/ä b", "", 200, received=5, sent=0)
    assert get == Call("GET", f"/{bucket}/ä b", "", 206, received=0, sent=3)
    assert (listed.method, listed.path, listed.status) == ("GET", f"/{bucket}", 200)
    assert {"list-type=2", "max-keys=7"} <= set(listed.query.split("&"))
    assert head == Call("HEAD", f"/{bucket}/missing", "", 404, received=0, sent=0)
    assert proxy.calls() == []


def test_azurite_keeps_what_is_put_until_it_is_deleted(azurite: Azurite) -> None:
    store = AzureStore(
        azurite.container(),
        account_name=azurite.account,
        account_key=azurite.key,
        endpoint=azurite.endpoint,
        client_options={"allow_http": True},
    )
    content = os.urandom(MIB)

    obstore.put(store, "a/b", content)
    part = obstore.get_range(store, "a/b", start=5, end=9).to_bytes()
    before = [found["path"] for found in obstore.list(store).collect()]
    obstore.delete(store, "a/b")

    assert part == content[5:9]
    assert before == ["a/b"]
    assert obstore.list(store).collect() == []
