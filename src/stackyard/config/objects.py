"""`storage.s3`, `storage.gcs` and `storage.azure`: the bytes as objects of a service.

An empty `rootdirectory` is the top of the bucket, and keys never begin with a slash, as in Distribution.
"""

import base64
import re
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, field_validator, model_validator

from stackyard.config.section import LOWER, SIZE, Section, advise, option, section
from stackyard.config.sizes import text_of

_MIB = 2**20
_SMALLEST_PART, _LARGEST_PART = 5 * _MIB, 5 * 2**30  # of a multipart upload, on S3 and on Google's XML API alike
_GCS_UNIT = 256 * 1024
_LOG_LEVELS = ("debugwithsigning", "debugwithhttpbody", "debugwithrequestretries", "debugwithrequesterrors")
_IN_A_URL = re.compile(r"[A-Za-z0-9$._:-]+", re.ASCII)
_REGION = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]+", re.ASCII)
_PART_OF_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_ACCOUNT = re.compile(r"[a-z0-9-]+", re.ASCII)


def _bucket(name: str) -> str:
    if not _IN_A_URL.fullmatch(name):
        raise ValueError("is not the name of a bucket or container; a folder in it goes to rootdirectory")
    return name


def _folder(path: str) -> str:
    """Without slashes at its ends, as Distribution reads it."""
    trimmed = path.strip("/")
    if not trimmed.isprintable() or any(part in ("", ".", "..") for part in trimmed.split("/") if trimmed):
        raise ValueError("is not the beginning of keys, such as registry or team/registry")
    return trimmed


def _parts(address: str) -> SplitResult | None:
    """An address with or without scheme, or None when it is none."""
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and address.isprintable() and " " not in address else None


def _address(address: str) -> str:
    """Does not repeat what was written: it may hold a password."""
    if not address:
        return address
    parts = _parts(address)
    if parts is None or parts.query or parts.fragment:
        raise ValueError("is not an address such as https://s3.example.com or minio:9000")
    if parts.username is not None:
        raise ValueError("may hold no login; it has keys of its own")
    return address.rstrip("/")


def _without_path(address: str) -> str:
    """A path would be part of what is signed and stand in the way of the bucket's."""
    parts = _parts(address)
    if parts is not None and parts.path:
        raise ValueError("may have no path; give scheme, host and port only")
    return address


def _chunk(size: int) -> int:
    if not _SMALLEST_PART <= size <= _LARGEST_PART:
        raise ValueError(f"must be from {_SMALLEST_PART} (5MiB) to {_LARGEST_PART} (5GiB) bytes, as S3 asks")
    return size


def _header(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("holds a character that a header cannot carry")
    return text


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Bucket = Annotated[str, AfterValidator(_bucket)]
Folder = Annotated[str, AfterValidator(_folder)]
Address = Annotated[str, AfterValidator(_address)]
Header = Annotated[str, AfterValidator(_header)]

_FOLDER = "What all keys begin with, so that a bucket can hold other things as well; empty: nothing."


class S3(Section):
    """`storage.s3`. Without accesskey and secretkey, what environment, instance or pod offer is used."""

    bucket: Bucket = option(meaning="The bucket, which must exist.")
    region: str = option(
        "", "The region of the bucket. Needed without regionendpoint; with it, us-east-1 when it is not given."
    )
    regionendpoint: Address = option(
        "", "The address of a service other than Amazon's, such as https://minio.example.com:9000. Empty: Amazon's."
    )
    forcepathstyle: bool = option(
        False,
        "Whether the bucket stands in the path of URLs and not before their host. Default: true with regionendpoint, "
        "as in Distribution 2, else false. A bucket whose name fits no host, or no certificate, is in the path anyway.",
    )
    accesskey: Header = option("", "The access key.")
    secretkey: SecretStr = option(SecretStr(""), "The secret key that belongs to accesskey.")
    encrypt: bool = option(False, "Whether the service is asked to encrypt objects: AES256, or aws:kms with keyid.")
    keyid: Header = option("", "The KMS key for encrypt. Without encrypt it has no effect.")
    secure: bool = option(True, "Whether https is spoken where the address says neither http:// nor https://.")
    skipverify: bool = option(False, "Whether the certificate of the service is left unverified. For tests only.")
    chunksize: Annotated[int, SIZE, AfterValidator(_chunk)] = option(
        2 * _SMALLEST_PART, "The size of the parts in which a blob is uploaded, in bytes; 5MiB to 5GiB."
    )
    rootdirectory: Folder = option("", _FOLDER)
    storageclass: Annotated[
        Literal[
            "NONE",
            "STANDARD",
            "REDUCED_REDUNDANCY",
            "STANDARD_IA",
            "ONEZONE_IA",
            "INTELLIGENT_TIERING",
            "GLACIER_IR",
        ],
        BeforeValidator(_upper),
    ] = option("STANDARD", "The storage class of objects; NONE: none is asked for, for services that know none.")
    usedualstack: bool = option(False, "Whether Amazon's addresses for IPv6 and IPv4 are used.")
    accelerate: bool = option(False, "Whether Amazon's addresses for transfer acceleration are used.")
    usefipsendpoint: bool = option(False, "Whether Amazon's FIPS addresses are used.")
    useragent: Header = option("", "Added to the User-Agent of requests to the service.")
    loglevel: Literal["off", "debug"] = option(
        "off", "debug, and each of Distribution's longer names for it: one log line for each request to the service."
    )
    redirectendpoint: Annotated[Address, AfterValidator(_without_path)] = option(
        "",
        "The address that clients know the service by, when they cannot reach regionendpoint: downloads are "
        "redirected there.",
    )

    @property
    def endpoint(self) -> str:
        """The address of the service, with its scheme and without the bucket."""
        return self._with_scheme(self.regionendpoint or self._amazon())

    @property
    def address(self) -> str:
        """The address of the bucket."""
        return self._with_bucket(self.endpoint)

    @property
    def redirectaddress(self) -> str:
        """The address of the bucket for clients."""
        return self._with_bucket(self._with_scheme(self.redirectendpoint)) if self.redirectendpoint else self.address

    def _amazon(self) -> str:
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        both = ".dualstack" if self.usedualstack else ""
        if self.accelerate:
            return f"s3-accelerate{both}.{domain}"
        return f"s3{'-fips' if self.usefipsendpoint else ''}{both}.{self.region}.{domain}"

    def _with_scheme(self, address: str) -> str:
        return address if "://" in address else f"http{'s' if self.secure else ''}://{address}"

    def _with_bucket(self, endpoint: str) -> str:
        scheme, _, rest = endpoint.partition("://")
        fits = _PART_OF_HOST.fullmatch(self.bucket) and not (scheme == "https" and "." in self.bucket)
        if self.forcepathstyle or not fits:
            return f"{endpoint}/{self.bucket}"
        return f"{scheme}://{self.bucket}.{rest}"

    @model_validator(mode="before")
    @classmethod
    def _other_services(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("regionendpoint"):
            return {"forcepathstyle": "true", "region": "us-east-1"} | given
        return given

    @field_validator("region")
    @classmethod
    def _named(cls, region: str) -> str:
        if region and not _REGION.fullmatch(region):
            raise ValueError("is not the name of a region such as eu-central-1")
        return region

    @field_validator("loglevel", mode="before")
    @classmethod
    def _known_level(cls, level: object, info: ValidationInfo) -> object:
        """Distribution reads what it does not know as off."""
        if not isinstance(level, str):
            return level
        lower = level.lower()
        if lower in ("debug", "debugwitheventstreambody", *_LOG_LEVELS):
            return "debug"
        if lower not in ("off", "false"):
            advise(info, "storage.s3.loglevel: is not known; off is used")
        return "off"

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> "S3":
        if not self.region:
            raise ValueError(".region: is missing; name the bucket's, or the service's address in regionendpoint")
        if bool(self.accesskey) != bool(self.secretkey.get_secret_value()):
            missing, given = ("secretkey", "accesskey") if self.accesskey else ("accesskey", "secretkey")
            raise ValueError(f".{missing}: is missing while {given} is set; give both or neither")
        if self.keyid and not self.encrypt:
            advise(info, "storage.s3.keyid: has no effect without encrypt: true")
        return self

    @model_validator(mode="after")
    def _one_address(self) -> "S3":
        chosen = [name for name in ("usedualstack", "accelerate", "usefipsendpoint") if getattr(self, name)]
        if chosen and self.regionendpoint:
            raise ValueError(f".{chosen[0]}: chooses among Amazon's addresses while regionendpoint is set; keep one")
        if self.accelerate and (self.usefipsendpoint or self.address.endswith(f"/{self.bucket}")):
            raise ValueError(
                ".accelerate: works neither with usefipsendpoint nor with the bucket in the path (forcepathstyle, or "
                "a name that fits no host); remove one"
            )
        return self


class Gcs(Section):
    """`storage.gcs`. Without keyfile and credentials, Google's application default credentials are used."""

    bucket: Bucket = option(meaning="The bucket, which must exist.")
    keyfile: str = option("", "The file of a service account's key, in JSON.")
    credentials: dict[str, SecretStr] = option({}, "The contents of such a file, as a map; keyfile wins.")
    rootdirectory: Folder = option("", _FOLDER)
    chunksize: Annotated[int, SIZE] = option(
        _SMALLEST_PART,
        "The size of the parts in which a blob is uploaded, in bytes; a multiple of 256KiB, and 5MiB at least.",
    )
    useragent: Header = option("", "Added to the User-Agent of requests to the service.")

    @field_validator("keyfile")
    @classmethod
    def _path(cls, path: str) -> str:
        """A key pasted here would be shown as paths are."""
        if "{" in path or not path.isprintable():
            raise ValueError("is not the path of a file; the key itself goes to credentials")
        return path

    @field_validator("chunksize")
    @classmethod
    def _whole_parts(cls, size: int, info: ValidationInfo) -> int:
        """Distribution's least is smaller, since it goes by another of Google's ways to upload."""
        if not _GCS_UNIT <= size <= _LARGEST_PART or size % _GCS_UNIT:
            raise ValueError(f"must be a multiple of {_GCS_UNIT} (256KiB) bytes, 5GiB at most")
        if size < _SMALLEST_PART:
            advise(info, f"storage.gcs.chunksize: {text_of(size)} is below 5MiB; 5MiB is used")
        return max(size, _SMALLEST_PART)

    @model_validator(mode="after")
    def _whole_key(self, info: ValidationInfo) -> "Gcs":
        if self.keyfile and self.credentials:
            advise(info, "storage.gcs.credentials: have no effect beside keyfile")
        missing = [name for name in ("type", "client_email", "private_key") if name not in self.credentials]
        if self.credentials and not self.keyfile:
            if missing:
                raise ValueError(f".credentials.{missing[0]}: is missing; give the whole key of a service account")
            if self.credentials["type"].get_secret_value() != "service_account":
                raise ValueError(".credentials.type: is not service_account, the only one there is")
        return self


class AzureCredentials(Section):
    """`storage.azure.credentials`."""

    type: Annotated[Literal["shared_key", "client_secret", "default_credentials"], LOWER] = option(
        "shared_key",
        "How to log in: with accountkey, with clientid, tenantid and secret, or with what environment, pod or machine "
        "offer.",
    )
    clientid: str = option("", "The client of client_secret.")
    tenantid: str = option("", "The tenant of client_secret.")
    secret: SecretStr = option(SecretStr(""), "The secret of client_secret.")


class Azure(Section):
    """`storage.azure`."""

    accountname: str = option(meaning="The storage account.")
    accountkey: SecretStr = option(SecretStr(""), "One of its keys. Needed unless credentials.type is another.")
    credentials: AzureCredentials = section(AzureCredentials)
    container: Bucket = option(meaning="The container, which must exist.")
    realm: str = option("core.windows.net", "The domain of the service, such as core.usgovcloudapi.net.")
    serviceurl: Address = option(
        "", "The address of the service. Empty: the account at blob.core.windows.net, or at blob and realm."
    )
    rootdirectory: Folder = option("", _FOLDER)
    skipverify: bool = option(False, "Whether the certificate of the service is left unverified. For tests only.")

    @property
    def endpoint(self) -> str:
        """The address of the service, without the container."""
        return self.serviceurl or f"https://{self.accountname}.blob.{self.realm}"

    @field_validator("accountname")
    @classmethod
    def _account(cls, name: str) -> str:
        if not _ACCOUNT.fullmatch(name):
            raise ValueError("is not the name of a storage account: small letters and digits")
        return name

    @field_validator("accountkey")
    @classmethod
    def _base64(cls, key: SecretStr) -> SecretStr:
        try:
            base64.b64decode(key.get_secret_value(), validate=True)
        except ValueError:
            raise ValueError("is not base64; copy the whole key") from None
        return key

    @field_validator("realm")
    @classmethod
    def _domain(cls, realm: str) -> str:
        if not _HOST.fullmatch(realm):
            raise ValueError("is not a domain such as core.windows.net")
        return realm

    @field_validator("serviceurl")
    @classmethod
    def _absolute(cls, address: str) -> str:
        if address and "://" not in address:
            raise ValueError("must begin with https:// or http://")
        return address

    @model_validator(mode="after")
    def _complete(self) -> "Azure":
        kind = self.credentials.type
        if kind == "shared_key" and not self.accountkey.get_secret_value():
            raise ValueError(
                ".accountkey: is missing; give it, or set credentials.type to client_secret or default_credentials"
            )
        if kind == "client_secret":
            given = {**dict(self.credentials), "secret": self.credentials.secret.get_secret_value()}
            for name in ("clientid", "tenantid", "secret"):
                if not given[name]:
                    raise ValueError(f".credentials.{name}: is missing while credentials.type is client_secret")
        return self
