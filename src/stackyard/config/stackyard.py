"""`stackyard`: our own settings, in the one top-level key that Distribution ignores."""

import ipaddress
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, SecretStr, model_validator

from stackyard.config.access import Access, Name
from stackyard.config.auth import Quoted
from stackyard.config.lifecycle import Retention, Tags
from stackyard.config.quotas import Quota
from stackyard.config.section import SIZE, WORDS, Duration, LongSpan, Networks, Section, Size, option, section

# RFC 1122 and RFC 4291 loopback, RFC 1918 and RFC 4193 private ranges.
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_MIB = 2**20


def _database(url: SecretStr) -> SecretStr:
    """Raises ValueError without repeating the address, which may hold a password."""
    scheme, _, rest = url.get_secret_value().partition("://")
    if scheme not in ("", "sqlite", "postgresql"):
        raise ValueError("begins with neither sqlite:/// nor postgresql://")
    if scheme == "sqlite" and not (rest.startswith("/") and len(rest) > 1):
        raise ValueError("names no file; write sqlite:///relative/path or sqlite:////absolute/path")
    if scheme == "postgresql" and not _database_name(rest):
        raise ValueError("names no database; write postgresql://user:password@host/database")
    return url


def _database_name(rest: str) -> str:
    """Read from the end: a password may hold any of the characters that divide an address."""
    return rest.rpartition("@")[2].partition("/")[2].partition("?")[0]


def _at_least(least: timedelta, written: str) -> AfterValidator:
    def check(span: timedelta) -> timedelta:
        if span < least:
            raise ValueError(f"is below {written}")
        return span

    return AfterValidator(check)


def _at_most(most: timedelta, written: str) -> AfterValidator:
    def check(span: timedelta) -> timedelta:
        if span > most:
            raise ValueError(f"is above {written}")
        return span

    return AfterValidator(check)


_A_SECOND = _at_least(timedelta(seconds=1), "1s")


class Database(Section):
    """`stackyard.database`."""

    url: Annotated[SecretStr, AfterValidator(_database)] = option(
        SecretStr(""),
        "sqlite:///path or postgresql://user:password@host/database. Empty: a SQLite file beside the blobs. Needed "
        "with storage.s3, gcs and azure, where there is no place beside them.",
    )


class Token(Section):
    """`stackyard.token`: the tokens issued here when access rules are on."""

    service: Quoted = option("stackyard", "The service of the challenge and the audience of the tokens.")
    lifetime: Annotated[Duration, _at_least(timedelta(seconds=60), "60s, the least clients expect")] = option(
        timedelta(hours=1),
        "How long a token is valid; long enough for one layer over a slow line. A user removed or changed loses it at "
        "once all the same.",
    )


class Limits(Section):
    """`stackyard.limits`: what one client may ask of the server. No limit is on a whole request."""

    manifestsize: Size = option(4 * _MIB, "The largest manifest taken, in bytes.", ge=1024, le=256 * _MIB)
    headersize: Size = option(64 * 1024, "The largest header of a request, in bytes.", ge=1024, le=16 * _MIB)
    uploads: int = option(1000, "The most uploads whose bytes are arriving at once, in the whole server.", ge=1)
    headertimeout: Annotated[Duration, _A_SECOND] = option(
        timedelta(seconds=30), "How long a request's header, or a TLS handshake, may take to arrive."
    )
    idletimeout: Annotated[Duration, _A_SECOND] = option(
        timedelta(seconds=120), "How long a connection may be silent between two requests."
    )
    minimumrate: Size = option(
        1024, "Bytes per second that a body must move while the client is waited for; 0: any.", ge=0
    )
    ratewindow: Annotated[Duration, _A_SECOND] = option(
        timedelta(seconds=60), "The span over which minimumrate is averaged."
    )


class Storage(Section):
    """`stackyard.storage`: what is kept of the disk."""

    reserve: Annotated[int | None, SIZE] = option(
        None,
        "Space on the disk that no push takes, so that everything else goes on; 0: none. Default: 1GiB, or a twentieth "
        "of the disk where that is less.",
        ge=0,
        lt=2**63,
    )
    ballast: Annotated[int | None, SIZE] = option(
        None,
        "Size of a file beside the database that is given back first when the disk is full all the same, so that "
        "things can be deleted then; 0: none. Default: 16MiB, or a hundredth of the disk where that is less.",
        ge=0,
        le=2**40,
    )


class Redirect(Section):
    """`stackyard.redirect`: downloads that an object store serves itself."""

    lifetime: Annotated[
        Duration,
        _at_least(timedelta(minutes=1), "1m, the least"),
        _at_most(timedelta(days=7), "168h, the longest an object store signs for"),
    ] = option(
        timedelta(minutes=20),
        "How long the URL lasts to which a download is redirected. Whoever has it can download the blob for so long.",
    )


class Collection(Section):
    """`stackyard.gc`: how long content outlives its last use."""

    promise: Annotated[Duration, _at_least(timedelta(seconds=10), "10s, the least")] = option(
        timedelta(hours=1), "How long content that a client was told is here stays here, whatever else is set."
    )
    undo: Duration = option(
        timedelta(days=7), "How long what was deleted or overwritten can be restored before its bytes go."
    )
    linger: Duration = option(
        timedelta(seconds=60),
        "How long the bytes of a blob that is collected stay after it was last shown, for downloads that just begin; "
        "without it, those are told that it is gone.",
    )
    untagged: LongSpan = option(
        timedelta(0),
        "How long a manifest without a tag is kept that nothing names and nobody pulls by digest, such as 7d; 0: for "
        "ever, as in Distribution.",
    )


class Scrub(Section):
    """`stackyard.scrub`: stored bytes are read back, and what is damaged is no longer served."""

    rate: Size = option(8 * _MIB, "Bytes per second that are read back in the background; 0: none.", ge=0)
    every: Annotated[Duration, _at_least(timedelta(minutes=1), "1m, the least")] = option(
        timedelta(days=30), "How often every blob is read back."
    )


class Distribution(Section):
    """`stackyard.distribution`: the way back to docker-registry."""

    follow: bool = option(
        True,
        "Whether docker-registry's own files on the volume are kept current, within seconds of each change, so that it "
        "can be started on the volume at any time. While hundreds of pushes a second come in, this waits for them; a "
        "stop catches up.",
    )


class Api(Section):
    """`stackyard.api`: administration."""

    socket: str = option(
        "",
        "The unix socket on which the server's own user and root may administer without a login. Empty: admin.sock, "
        "beside the database in the data folder; none: no such socket.",
    )


class Audit(Section):
    """`stackyard.audit`: the record of what administrators changed."""

    keep: Duration = option(timedelta(days=365), "How long an entry is kept.")
    entries: int = option(1_000_000, "The most entries kept; beyond them the oldest go.", ge=1)


class Stackyard(Section):
    """`stackyard`."""

    workers: int = option(
        0, "Processes that answer requests; 0: one for each CPU that may be used, four at most.", ge=0, le=1024
    )
    trustedproxies: Networks = option(
        _PRIVATE, "Addresses and ranges of proxies whose Forwarded and X-Forwarded-* headers are believed."
    )
    admins: Annotated[tuple[Name, ...], WORDS] = option((), "Users who may do everything everywhere.")
    database: Database = section(Database)
    access: Access = section(Access)
    token: Token = section(Token)
    limits: Limits = section(Limits)
    storage: Storage = section(Storage)
    redirect: Redirect = section(Redirect)
    gc: Collection = section(Collection)
    scrub: Scrub = section(Scrub)
    distribution: Distribution = section(Distribution)
    api: Api = section(Api)
    retention: Retention = section(Retention)
    tags: Tags = section(Tags)
    audit: Audit = section(Audit)
    quotas: tuple[Quota, ...] = option((), "Limits on what the repositories below a path hold together.")

    @model_validator(mode="after")
    def _one_quota_each(self) -> "Stackyard":
        prefixes = [each.prefix for each in self.quotas]
        for position, prefix in enumerate(prefixes):
            if prefix in prefixes[:position]:
                raise ValueError(f".quotas[{position}]: there is another quota on {prefix or '/'}")
        return self
