"""`storage.s3`, `storage.gcs` and `storage.azure`."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import SecretStr
from tests.config.conftest import LoadText

from stackyard.config.describe import effective
from stackyard.config.load import load
from stackyard.config.objects import S3, Azure, Gcs
from stackyard.config.storage import Storage

Refusals = Callable[..., list[str]]

SECRET = "hunter2"
DATABASE = "stackyard: {database: {url: 'postgresql://u:p@db/registry'}}"
S3_LEAST = "bucket: b, region: eu-central-1"
KEY = "type: service_account, client_email: a@b, private_key: p"
AZURE_LEAST = "accountname: acc, accountkey: a2V5, container: c"


@pytest.fixture
def storage(loaded: LoadText) -> Callable[[str], Storage]:
    """The section of a text such as `s3: {…}`, which is to be accepted without a word."""

    def load_storage(text: str) -> Storage:
        result = loaded(f"storage: {{{text}}}\n{DATABASE}")
        assert result.warnings == result.notices == ()
        return result.config.storage

    return load_storage


def s3(storage: Storage) -> S3:
    assert storage.s3 is not None
    return storage.s3


def gcs(storage: Storage) -> Gcs:
    assert storage.gcs is not None
    return storage.gcs


def azure(storage: Storage) -> Azure:
    assert storage.azure is not None
    return storage.azure


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("bucket: my-bucket, region: r", "bucket", "my-bucket"),
        ("bucket: b, region: us-gov-west-1", "region", "us-gov-west-1"),
        (f"{S3_LEAST}, accesskey: AKIA, secretkey: s", "accesskey", "AKIA"),
        (f"{S3_LEAST}, accesskey: 'a', secretkey: 0123", "secretkey", SecretStr("0123")),
        (f"{S3_LEAST}, regionendpoint: 'http://minio:9000/'", "regionendpoint", "http://minio:9000"),
        (f"{S3_LEAST}, forcepathstyle: true", "forcepathstyle", True),
        (f"{S3_LEAST}, encrypt: on", "encrypt", True),
        (f"{S3_LEAST}, encrypt: true, keyid: 'arn:aws:kms:r:1:key/a'", "keyid", "arn:aws:kms:r:1:key/a"),
        (f"{S3_LEAST}, secure: false", "secure", False),
        (f"{S3_LEAST}, skipverify: true", "skipverify", True),
        (f"{S3_LEAST}, chunksize: 5242880", "chunksize", 5 * 2**20),
        (f"{S3_LEAST}, chunksize: '5368709120'", "chunksize", 5 * 2**30),
        (f"{S3_LEAST}, chunksize: 64MiB", "chunksize", 64 * 2**20),
        (f"{S3_LEAST}, rootdirectory: /my/registry/", "rootdirectory", "my/registry"),
        (f"{S3_LEAST}, rootdirectory: /", "rootdirectory", ""),
        (f"{S3_LEAST}, storageclass: standard_ia", "storageclass", "STANDARD_IA"),
        (f"{S3_LEAST}, storageclass: NONE", "storageclass", "NONE"),
        (f"{S3_LEAST}, usedualstack: true", "usedualstack", True),
        (f"{S3_LEAST}, accelerate: true", "accelerate", True),
        (f"{S3_LEAST}, usefipsendpoint: true", "usefipsendpoint", True),
        (f"{S3_LEAST}, useragent: me/1", "useragent", "me/1"),
        (f"{S3_LEAST}, loglevel: off", "loglevel", "off"),
        (f"{S3_LEAST}, loglevel: debugWithRequestErrors", "loglevel", "debug"),
        (f"{S3_LEAST}, redirectendpoint: 'https://s3.example.com'", "redirectendpoint", "https://s3.example.com"),
    ],
)
def test_each_key_of_s3_is_honoured(
    storage: Callable[[str], Storage], text: str, name: str, value: str | bool | int | SecretStr
) -> None:
    assert getattr(s3(storage(f"s3: {{{text}}}")), name) == value


def test_s3_has_the_defaults_of_distribution(storage: Callable[[str], Storage]) -> None:
    section = s3(storage(f"s3: {{{S3_LEAST}}}"))

    assert (section.secure, section.skipverify, section.encrypt) == (True, False, False)
    assert (section.chunksize, section.storageclass, section.rootdirectory) == (10 * 2**20, "STANDARD", "")
    assert (section.forcepathstyle, section.loglevel, section.keyid) == (False, "off", "")


@pytest.mark.parametrize(
    ("text", "path_style", "region"),
    [
        ("region: us-east-1, regionendpoint: 'http://minio:9000'", True, "us-east-1"),
        ("region: eu-west-1, regionendpoint: 'http://minio:9000', forcepathstyle: true", True, "eu-west-1"),
        ("regionendpoint: 'http://minio:9000', forcepathstyle: true", True, "us-east-1"),
        ("regionendpoint: 'https://s3.example.com', forcepathstyle: false", False, "us-east-1"),
    ],
    ids=["version 2", "version 3", "version 3 without region", "version 3 with the bucket in the host"],
)
def test_other_service_is_found_in_both_dialects(
    storage: Callable[[str], Storage], text: str, path_style: bool, region: str
) -> None:
    section = s3(storage(f"s3: {{bucket: b, {text}}}"))

    assert (section.forcepathstyle, section.region) == (path_style, region)


@pytest.mark.parametrize(
    ("text", "endpoint", "address"),
    [
        (S3_LEAST, "https://s3.eu-central-1.amazonaws.com", "https://b.s3.eu-central-1.amazonaws.com"),
        (
            f"{S3_LEAST}, secure: false",
            "http://s3.eu-central-1.amazonaws.com",
            "http://b.s3.eu-central-1.amazonaws.com",
        ),
        (
            f"{S3_LEAST}, forcepathstyle: true",
            "https://s3.eu-central-1.amazonaws.com",
            "https://s3.eu-central-1.amazonaws.com/b",
        ),
        (
            "bucket: docker.example.com, region: r",
            "https://s3.r.amazonaws.com",
            "https://s3.r.amazonaws.com/docker.example.com",
        ),
        (
            "bucket: docker.example.com, region: r, secure: false",
            "http://s3.r.amazonaws.com",
            "http://docker.example.com.s3.r.amazonaws.com",
        ),
        ("bucket: My_Bucket, region: r", "https://s3.r.amazonaws.com", "https://s3.r.amazonaws.com/My_Bucket"),
        (
            "bucket: b, region: cn-north-1",
            "https://s3.cn-north-1.amazonaws.com.cn",
            "https://b.s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            "bucket: b, region: r, usedualstack: true, usefipsendpoint: true",
            "https://s3-fips.dualstack.r.amazonaws.com",
            "https://b.s3-fips.dualstack.r.amazonaws.com",
        ),
        (
            "bucket: b, region: r, accelerate: true",
            "https://s3-accelerate.amazonaws.com",
            "https://b.s3-accelerate.amazonaws.com",
        ),
        ("bucket: b, regionendpoint: 'minio:9000'", "https://minio:9000", "https://minio:9000/b"),
        ("bucket: b, regionendpoint: 'minio:9000', secure: false", "http://minio:9000", "http://minio:9000/b"),
        ("bucket: b, regionendpoint: 'https://minio', secure: false", "https://minio", "https://minio/b"),
        (
            "bucket: b, regionendpoint: 'https://x.example.com:8443', forcepathstyle: false",
            "https://x.example.com:8443",
            "https://b.x.example.com:8443",
        ),
        (
            "bucket: b, regionendpoint: 'https://x/storage/v1/s3'",
            "https://x/storage/v1/s3",
            "https://x/storage/v1/s3/b",
        ),
        ("bucket: b, regionendpoint: 'http://[::1]:9000'", "http://[::1]:9000", "http://[::1]:9000/b"),
    ],
)
def test_address_of_a_bucket_is_the_one_distribution_asks(
    storage: Callable[[str], Storage], text: str, endpoint: str, address: str
) -> None:
    section = s3(storage(f"s3: {{{text}}}"))

    assert (section.endpoint, section.address) == (endpoint, address)
    assert section.redirectaddress == address


@pytest.mark.parametrize(
    ("style", "address"),
    [("true", "https://s3.example.com/b"), ("false", "https://b.s3.example.com")],
)
def test_clients_can_be_sent_to_another_address(storage: Callable[[str], Storage], style: str, address: str) -> None:
    section = s3(
        storage(
            "s3: {bucket: b, regionendpoint: 'http://minio:9000', redirectendpoint: s3.example.com, "
            f"forcepathstyle: {style}}}"
        )
    )

    assert section.redirectaddress == address


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("bucket: b", "bucket", "b"),
        ("bucket: b, keyfile: /key.json", "keyfile", "/key.json"),
        ("bucket: b, rootdirectory: /a/b/", "rootdirectory", "a/b"),
        ("bucket: b", "chunksize", 5 * 2**20),
        ("bucket: b, chunksize: 16777216", "chunksize", 16 * 2**20),
        ("bucket: b, useragent: me", "useragent", "me"),
    ],
)
def test_each_key_of_gcs_is_honoured(storage: Callable[[str], Storage], text: str, name: str, value: str | int) -> None:
    assert getattr(gcs(storage(f"gcs: {{{text}}}")), name) == value


def test_key_of_a_google_account_may_stand_in_the_file(storage: Callable[[str], Storage]) -> None:
    section = gcs(storage(f"gcs: {{bucket: b, credentials: {{{KEY}, private_key_id: 17}}}}"))

    assert {name: value.get_secret_value() for name, value in section.credentials.items()} == {
        "type": "service_account",
        "client_email": "a@b",
        "private_key": "p",
        "private_key_id": "17",
    }


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        (AZURE_LEAST, "accountname", "acc"),
        (AZURE_LEAST, "accountkey", SecretStr("a2V5")),
        (AZURE_LEAST, "container", "c"),
        (AZURE_LEAST, "realm", "core.windows.net"),
        (AZURE_LEAST, "endpoint", "https://acc.blob.core.windows.net"),
        (f"{AZURE_LEAST}, realm: core.chinacloudapi.cn", "endpoint", "https://acc.blob.core.chinacloudapi.cn"),
        (
            f"{AZURE_LEAST}, serviceurl: 'http://127.0.0.1:10000/devstoreaccount1'",
            "endpoint",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
        (f"{AZURE_LEAST}, rootdirectory: /a/", "rootdirectory", "a"),
        (f"{AZURE_LEAST}, skipverify: true", "skipverify", True),
    ],
)
def test_each_key_of_azure_is_honoured(
    storage: Callable[[str], Storage], text: str, name: str, value: str | bool | SecretStr
) -> None:
    assert getattr(azure(storage(f"azure: {{{text}}}")), name) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (AZURE_LEAST, "shared_key"),
        (f"{AZURE_LEAST}, credentials: {{type: shared_key}}", "shared_key"),
        ("accountname: a, container: c, credentials: {type: default_credentials}", "default_credentials"),
        (
            "accountname: a, container: c, credentials: {type: client_secret, clientid: i, tenantid: t, secret: s}",
            "client_secret",
        ),
    ],
)
def test_azure_knows_three_ways_to_log_in(storage: Callable[[str], Storage], text: str, kind: str) -> None:
    assert azure(storage(f"azure: {{{text}}}")).credentials.type == kind


@pytest.mark.parametrize("driver", ["s3", "s3aws"])
def test_s3_goes_by_two_names(storage: Callable[[str], Storage], driver: str) -> None:
    section = storage(f"{driver}: {{{S3_LEAST}}}")

    assert s3(section).bucket == "b"
    assert section.s3aws is None
    assert section.filesystem is None
    assert section.objects == ("s3", section.s3)


@pytest.mark.parametrize(("text", "name"), [("gcs: {bucket: b}", "gcs"), (f"azure: {{{AZURE_LEAST}}}", "azure")])
def test_object_store_is_named(storage: Callable[[str], Storage], text: str, name: str) -> None:
    found = storage(text).objects

    assert found is not None
    assert found[0] == name


def test_file_system_is_no_object_store(loaded: LoadText) -> None:
    assert loaded().config.storage.objects is None


@pytest.mark.parametrize("driver", ["s3", "s3aws"])
@pytest.mark.parametrize("text", ["", "storage: {filesystem: {}, delete: {enabled: true}}"])
def test_s3_can_be_set_by_environment_alone(loaded: LoadText, text: str, driver: str) -> None:
    name = f"REGISTRY_STORAGE_{driver.upper()}"
    result = loaded(
        text,
        REGISTRY_STORAGE=driver,
        **{
            f"{name}_BUCKET": "b",
            f"{name}_REGION": "us-east-1",
            f"{name}_ACCESSKEY": "AKIA",
            f"{name}_SECRETKEY": "#s/+@",
            f"{name}_REGIONENDPOINT": "http://minio:9000",
            f"{name}_SECURE": "false",
        },
        STACKYARD_DATABASE_URL="sqlite:////data/stackyard.db",
    )

    section = s3(result.config.storage)
    assert result.warnings == ()
    assert (section.bucket, section.accesskey, section.secretkey.get_secret_value()) == ("b", "AKIA", "#s/+@")
    assert (section.address, section.forcepathstyle) == ("http://minio:9000/b", True)


def test_google_and_azure_can_be_set_by_environment() -> None:
    database = {"STACKYARD_DATABASE_URL": "sqlite:////data/stackyard.db"}
    key = '{"type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN\\n-----END\\n"}'

    google = gcs(
        load(
            None,
            database
            | {"REGISTRY_STORAGE": "gcs", "REGISTRY_STORAGE_GCS_BUCKET": "b", "REGISTRY_STORAGE_GCS_CREDENTIALS": key},
        ).config.storage
    )
    section = azure(
        load(
            None,
            database
            | {
                "REGISTRY_STORAGE": "azure",
                "REGISTRY_STORAGE_AZURE_ACCOUNTNAME": "acc",
                "REGISTRY_STORAGE_AZURE_CONTAINER": "c",
                "REGISTRY_STORAGE_AZURE_CREDENTIALS_TYPE": "client_secret",
                "REGISTRY_STORAGE_AZURE_CREDENTIALS_CLIENTID": "i",
                "REGISTRY_STORAGE_AZURE_CREDENTIALS_TENANTID": "t",
                "REGISTRY_STORAGE_AZURE_CREDENTIALS_SECRET": SECRET,
            },
        ).config.storage
    )

    assert google.credentials["private_key"].get_secret_value() == "-----BEGIN\n-----END\n"
    assert section.credentials.secret.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("s3: {region: r}", "storage.s3.bucket: is missing"),
        ("s3aws: {region: r}", "storage.s3aws.bucket: is missing"),
        ("s3: {bucket: b}", "storage.s3.region: is missing; name the bucket's, or the service's address in"),
        (
            "s3: {bucket: b/registry, region: r}",
            "storage.s3.bucket: is not the name of a bucket or container; a folder",
        ),
        ("s3: {bucket: b, region: 'eu west'}", "storage.s3.region: is not the name of a region such as eu-central-1"),
        (f"s3: {{{S3_LEAST}, chunksize: 1048576}}", "storage.s3.chunksize: must be from 5242880 (5MiB) to"),
        (f"s3: {{{S3_LEAST}, chunksize: 5242879}}", "storage.s3.chunksize: must be from 5242880 (5MiB) to"),
        (f"s3: {{{S3_LEAST}, chunksize: 6GiB}}", "storage.s3.chunksize: must be from 5242880 (5MiB) to"),
        (f"s3: {{{S3_LEAST}, chunksize: -1}}", "storage.s3.chunksize: is not a size such as"),
        (f"s3: {{{S3_LEAST}, chunksize: big}}", "storage.s3.chunksize: is not a size such as"),
        (f"s3: {{{S3_LEAST}, secure: maybe}}", "storage.s3.secure: 'maybe' is neither true nor false"),
        (f"s3: {{{S3_LEAST}, storageclass: GLACIER}}", "storage.s3.storageclass: 'GLACIER' is none of"),
        (f"s3: {{{S3_LEAST}, storageclass: EXPRESS_ONEZONE}}", "storage.s3.storageclass: 'EXPRESS_ONEZONE' is none of"),
        (f"s3: {{{S3_LEAST}, rootdirectory: a//b}}", "storage.s3.rootdirectory: is not the beginning of keys"),
        (f"s3: {{{S3_LEAST}, rootdirectory: ../b}}", "storage.s3.rootdirectory: is not the beginning of keys"),
        (f"s3: {{{S3_LEAST}, accesskey: a}}", "storage.s3.secretkey: is missing while accesskey is set"),
        (f"s3: {{{S3_LEAST}, secretkey: a}}", "storage.s3.accesskey: is missing while secretkey is set"),
        (f"s3: {{{S3_LEAST}, regionendpoint: 'ftp://x'}}", "storage.s3.regionendpoint: is not an address such as"),
        (f"s3: {{{S3_LEAST}, regionendpoint: 'http://x:a'}}", "storage.s3.regionendpoint: is not an address such as"),
        (f"s3: {{{S3_LEAST}, regionendpoint: 'http://['}}", "storage.s3.regionendpoint: is not an address such as"),
        (f"s3: {{{S3_LEAST}, regionendpoint: 'http://u:p@x'}}", "storage.s3.regionendpoint: may hold no login"),
        (f"s3: {{{S3_LEAST}, redirectendpoint: 'https://x/b'}}", "storage.s3.redirectendpoint: may have no path"),
        (f"s3: {{{S3_LEAST}, redirectendpoint: 'https://x?a'}}", "storage.s3.redirectendpoint: is not an address"),
        (f's3: {{{S3_LEAST}, useragent: "a\\nb"}}', "storage.s3.useragent: holds a character that a header cannot"),
        (
            f"s3: {{{S3_LEAST}, regionendpoint: 'http://x', usedualstack: true}}",
            "storage.s3.usedualstack: chooses among Amazon's addresses while regionendpoint is set",
        ),
        (f"s3: {{{S3_LEAST}, accelerate: true, usefipsendpoint: true}}", "storage.s3.accelerate: works neither with"),
        (f"s3: {{{S3_LEAST}, accelerate: true, forcepathstyle: true}}", "storage.s3.accelerate: works neither with"),
        ("s3: {bucket: a.b, region: r, accelerate: true}", "storage.s3.accelerate: works neither with"),
        (f"s3: {{{S3_LEAST}, v4auth: false}}", "storage.s3.v4auth: requests are signed by version 4 only"),
        (f"s3aws: {{{S3_LEAST}, v4auth: false}}", "storage.s3aws.v4auth: requests are signed by version 4 only"),
        (f"s3: {{{S3_LEAST}, objectacl: public-read}}", "storage.s3.objectacl: objects are written without an ACL"),
        ("gcs: {keyfile: k}", "storage.gcs.bucket: is missing"),
        ("gcs: {bucket: b, chunksize: 1000}", "storage.gcs.chunksize: must be a multiple of 262144 (256KiB) bytes"),
        ("gcs: {bucket: b, chunksize: 0}", "storage.gcs.chunksize: must be a multiple of 262144 (256KiB) bytes"),
        (
            "gcs: {bucket: b, keyfile: '{\"type\": 1}'}",
            "storage.gcs.keyfile: is not the path of a file; the key itself",
        ),
        ("gcs: {bucket: b, credentials: x}", "storage.gcs.credentials: must be a map of names"),
        (
            "gcs: {bucket: b, credentials: {type: service_account, client_email: a}}",
            "storage.gcs.credentials.private_key: is missing; give the whole key of a service account",
        ),
        (
            "gcs: {bucket: b, credentials: {type: authorized_user, client_email: a, private_key: b}}",
            "storage.gcs.credentials.type: is not service_account",
        ),
        ("azure: {accountkey: a2V5, container: c}", "storage.azure.accountname: is missing"),
        ("azure: {accountname: a, accountkey: a2V5}", "storage.azure.container: is missing"),
        ("azure: {accountname: a, container: c}", "storage.azure.accountkey: is missing; give it, or set credentials."),
        ("azure: {accountname: a.b, accountkey: a2V5, container: c}", "storage.azure.accountname: is not the name of"),
        ("azure: {accountname: a, accountkey: a, container: c}", "storage.azure.accountkey: is not base64; copy the"),
        (f"azure: {{{AZURE_LEAST}, realm: a/b}}", "storage.azure.realm: is not a domain such as core.windows.net"),
        (f"azure: {{{AZURE_LEAST}, serviceurl: a.example.com}}", "storage.azure.serviceurl: must begin with https://"),
        (f"azure: {{{AZURE_LEAST}, credentials: {{type: sas}}}}", "storage.azure.credentials.type: 'sas' is none of"),
        (
            f"azure: {{{AZURE_LEAST}, credentials: {{type: client_secret, clientid: i, tenantid: t}}}}",
            "storage.azure.credentials.secret: is missing while credentials.type is client_secret",
        ),
    ],
)
def test_what_an_object_store_cannot_be_is_said_by_key(refusals: Refusals, text: str, problem: str) -> None:
    (told,) = refusals(f"storage: {{{text}}}\n{DATABASE}")

    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("text", "notice"),
    [
        (f"s3: {{{S3_LEAST}, multipartcopychunksize: 33554432}}", "storage.s3.multipartcopychunksize"),
        (f"s3: {{{S3_LEAST}, multipartcopymaxconcurrency: 100}}", "storage.s3.multipartcopymaxconcurrency"),
        (f"s3aws: {{{S3_LEAST}, multipartcopythresholdsize: 1}}", "storage.s3aws.multipartcopythresholdsize"),
        (f"s3: {{{S3_LEAST}, logs3apirequests: true}}", "storage.s3.logs3apirequests"),
        (f"s3: {{{S3_LEAST}, v4auth: true}}", "storage.s3.v4auth"),
        (f"s3: {{{S3_LEAST}, objectacl: private}}", "storage.s3.objectacl"),
        ("gcs: {bucket: b, maxconcurrency: 50}", "storage.gcs.maxconcurrency"),
        ("gcs: {bucket: b, disablekeepalives: true}", "storage.gcs.disablekeepalives"),
        (f"azure: {{{AZURE_LEAST}, connectionstring: 'AccountKey={SECRET}'}}", "storage.azure.connectionstring"),
        (f"azure: {{{AZURE_LEAST}, max_retries: 5}}", "storage.azure.max_retries"),
        (f"azure: {{{AZURE_LEAST}, copy_status_poll_delay: 1s}}", "storage.azure.copy_status_poll_delay"),
    ],
)
def test_key_without_effect_is_accepted_with_one_notice(loaded: LoadText, text: str, notice: str) -> None:
    result = loaded(f"storage: {{{text}}}\n{DATABASE}")

    assert [told.partition(":")[0] for told in result.notices] == [notice]
    assert result.warnings == ()
    assert SECRET not in result.notices[0]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (f"s3: {{{S3_LEAST}, keyid: k}}", "storage.s3.keyid: has no effect without encrypt: true"),
        (f"s3: {{{S3_LEAST}, loglevel: loud}}", "storage.s3.loglevel: is not known; off is used"),
        ("gcs: {bucket: b, chunksize: 262144}", "storage.gcs.chunksize: 256KiB is below 5MiB; 5MiB is used"),
        (
            f"gcs: {{bucket: b, keyfile: k, credentials: {{type: {SECRET}}}}}",
            "storage.gcs.credentials: have no effect beside keyfile",
        ),
        (
            f"s3: {{{S3_LEAST}, encypt: true}}",
            "storage.s3.encypt: unknown key, ignored; did you mean storage.s3.encrypt?",
        ),
    ],
)
def test_what_was_probably_not_meant_is_warned_about(loaded: LoadText, text: str, warning: str) -> None:
    assert loaded(f"storage: {{{text}}}\n{DATABASE}").warnings == (warning,)


def test_part_too_small_for_google_is_made_larger(loaded: LoadText) -> None:
    config = loaded(f"storage: {{gcs: {{bucket: b, chunksize: 262144}}}}\n{DATABASE}").config

    assert gcs(config.storage).chunksize == 5 * 2**20


@pytest.mark.parametrize(
    ("text", "drivers"),
    [
        (f"s3: {{{S3_LEAST}}}, filesystem: {{}}", "two drivers, filesystem and s3"),
        (f"s3: {{{S3_LEAST}}}, s3aws: {{{S3_LEAST}}}", "two drivers, s3 and s3aws"),
        ("gcs: {bucket: b}, azure: {}, inmemory: ", "three drivers, inmemory, gcs and azure"),
    ],
)
def test_exactly_one_driver_is_taken(refusals: Refusals, text: str, drivers: str) -> None:
    (told,) = refusals(f"storage: {{{text}}}\n{DATABASE}")

    assert told.startswith(f"storage: has {drivers}; keep one")


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        (f"s3: {{{S3_LEAST}}}", "s3"),
        (f"s3aws: {{{S3_LEAST}}}", "s3"),
        ("gcs: {bucket: b}", "gcs"),
        (f"azure: {{{AZURE_LEAST}}}", "azure"),
    ],
)
def test_object_store_needs_a_database_of_its_own(refusals: Refusals, text: str, driver: str) -> None:
    (told,) = refusals(f"storage: {{{text}}}")

    assert told == (
        f"stackyard.database.url: is missing while storage.{driver} keeps the bytes; give "
        "postgresql://user:password@host/database, for several nodes, or sqlite:////path/of/a/file, for one"
    )


@pytest.mark.parametrize("url", ["postgresql://u:p@db/registry", "sqlite:////data/stackyard.db"])
def test_object_store_takes_either_database(loaded: LoadText, url: str) -> None:
    config = loaded(f"storage: {{s3: {{{S3_LEAST}}}}}\nstackyard: {{database: {{url: '{url}'}}}}").config

    assert config.storage.objects is not None


@pytest.mark.parametrize(
    "text",
    [
        f"s3: {{{S3_LEAST}, accesskey: AKIA, secretkey: {SECRET}}}",
        f"s3aws: {{{S3_LEAST}, accesskey: AKIA, secretkey: {SECRET}}}",
        f"gcs: {{bucket: b, credentials: {{type: service_account, client_email: a@b, private_key: {SECRET}}}}}",
        "azure: {accountname: a, container: c, credentials: {type: client_secret, clientid: i, tenantid: t, "
        f"secret: {SECRET}}}}}",
        f"azure: {{accountname: a, container: c, accountkey: {SECRET}{SECRET}aa}}",
    ],
)
def test_secrets_of_an_object_store_are_never_shown(loaded: LoadText, text: str) -> None:
    config = loaded(f"storage: {{{text}}}\n{DATABASE}").config

    for shown in (repr(config), str(config), repr(effective(config)), config.model_dump_json()):
        assert SECRET not in shown
        assert "**" in shown


@pytest.mark.parametrize(
    "text",
    [
        f"s3: {{{S3_LEAST}, secretkey: [{SECRET}]}}",
        f"s3: {{{S3_LEAST}, secretkey: {SECRET}}}",
        f"s3: {{{S3_LEAST}, regionendpoint: 'http://u:{SECRET}@x'}}",
        f"s3: {{{S3_LEAST}, regionendpoint: 'http://x:{SECRET}'}}",
        f"s3: {{{S3_LEAST}, redirectendpoint: 'https://x/{SECRET}'}}",
        f'gcs: {{bucket: b, keyfile: \'{{"private_key": "{SECRET}"}}\'}}',
        f"gcs: {{bucket: b, credentials: {SECRET}}}",
        f"gcs: {{bucket: b, credentials: {{type: {SECRET}, client_email: a, private_key: b}}}}",
        f"gcs: {{bucket: b, credentials: {{private_key: {{a: {SECRET}}}}}}}",
        f"azure: {{accountname: a, container: c, accountkey: {SECRET}}}",
        f"azure: {{accountname: a, container: c, accountkey: [{SECRET}]}}",
        f"azure: {{accountname: a, container: c, credentials: {{type: client_secret, secret: {SECRET}}}}}",
        f"azure: {{accountname: a, container: c, credentials: {SECRET}}}",
        f"azure: {{{AZURE_LEAST}, serviceurl: 'https://x?sig={SECRET}'}}",
    ],
)
def test_refusal_of_an_object_store_does_not_repeat_a_secret(refusals: Refusals, text: str) -> None:
    assert SECRET not in "\n".join(refusals(f"storage: {{{text}}}\n{DATABASE}"))


@pytest.mark.parametrize("lifetime", [timedelta(minutes=1), timedelta(minutes=45), timedelta(days=7)])
def test_redirects_last_as_long_as_is_set(loaded: LoadText, lifetime: timedelta) -> None:
    seconds = int(lifetime.total_seconds())

    assert loaded(STACKYARD_REDIRECT_LIFETIME=f"{seconds}s").config.stackyard.redirect.lifetime == lifetime


def test_redirects_last_twenty_minutes_by_default(loaded: LoadText) -> None:
    assert loaded().config.stackyard.redirect.lifetime == timedelta(minutes=20)


@pytest.mark.parametrize(
    ("lifetime", "problem"), [("59s", "is below 1m"), ("168h1s", "is above 168h"), ("soon", "is not")]
)
def test_redirects_that_last_too_short_or_too_long_are_refused(refusals: Refusals, lifetime: str, problem: str) -> None:
    (told,) = refusals(f"stackyard: {{redirect: {{lifetime: {lifetime}}}}}")

    assert told.startswith(f"stackyard.redirect.lifetime: {problem}")
