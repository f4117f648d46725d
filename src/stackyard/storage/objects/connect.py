"""Opening a bucket: settings to a client of obstore's."""

from datetime import timedelta
from typing import Any

from obstore.store import AzureStore, GCSStore, S3Store

from stackyard.storage.objects.amazon import FoundCredentials
from stackyard.storage.objects.settings import S3, Azure, GoogleCloud, Settings

Bucket = S3Store | GCSStore | AzureStore

# A request may carry a large segment; what stands still is given up much sooner.
_CLIENT = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=30),
    "timeout": timedelta(hours=2),
}
_RETRY: Any = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


def connect(settings: Settings) -> tuple[Bucket, Bucket]:
    """The bucket, and the same as clients see it, to sign addresses with. Nothing is asked of the store yet.

    Raises ValueError: With what is wrong in the settings.
    """
    where, prefix = settings.where, settings.root.strip("/") or None
    if isinstance(where, S3):
        return _s3(where, where.address, prefix), _s3(where, where.public_address, prefix)
    bucket: Bucket = _google(where, prefix) if isinstance(where, GoogleCloud) else _azure(where, prefix)
    return bucket, bucket


def _s3(where: S3, address: str, prefix: str | None) -> S3Store:
    # The address holds the bucket's name already, wherever it stands.
    config: dict[str, Any] = {"region": where.region, "endpoint": address, "virtual_hosted_style_request": True}
    provider = None
    if where.access_key and where.secret_key:
        config |= {"access_key_id": where.access_key, "secret_access_key": where.secret_key}
    else:
        provider = FoundCredentials()
    if where.encrypt or where.key_id:
        config["server_side_encryption"] = "aws:kms" if where.key_id else "AES256"
    if where.key_id:
        config["sse_kms_key_id"] = where.key_id
    return S3Store(
        where.bucket,
        prefix=prefix,
        config=config,  # type: ignore[arg-type]
        client_options=_client(address, where.user_agent, verify=where.verify),
        retry_config=_RETRY,
        credential_provider=provider,
    )


def _google(where: GoogleCloud, prefix: str | None) -> GCSStore:
    config: dict[str, Any] = {}
    if where.credentials:
        config["service_account_key"] = where.credentials
    elif where.key_file:
        config["service_account"] = where.key_file
    client = _client("", where.user_agent)
    return GCSStore(where.bucket, prefix=prefix, config=config, client_options=client, retry_config=_RETRY)  # type: ignore[arg-type]


def _azure(where: Azure, prefix: str | None) -> AzureStore:
    given = {
        "account_name": where.account,
        "account_key": where.account_key,
        "endpoint": where.endpoint,
        "tenant_id": where.tenant_id,
        "client_id": where.client_id,
        "client_secret": where.client_secret,
    }
    config: Any = {name: value for name, value in given.items() if value}
    return AzureStore(
        where.container,
        prefix=prefix,
        config=config,
        client_options=_client(where.endpoint, verify=where.verify),
        retry_config=_RETRY,
    )


def _client(address: str, user_agent: str = "", *, verify: bool = True) -> Any:
    return _CLIENT | {
        "allow_http": address.startswith("http:"),
        "allow_invalid_certificates": not verify,
        "user_agent": f"stackyard {user_agent}".strip(),
    }
