"""Certificates: checked before use, replaced while connections go on."""

import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from cryptography import x509

from stackyard.server.errors import StartError
from stackyard.server.privileges import read_secret
from stackyard.server.settings import ClientCertificates, TlsSettings

_log = structlog.get_logger("tls")

_ASKED = {
    ClientCertificates.NONE: ssl.CERT_NONE,
    ClientCertificates.VERIFIED_IF_GIVEN: ssl.CERT_OPTIONAL,
    ClientCertificates.REQUIRED: ssl.CERT_REQUIRED,
}
_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Certificate:
    """One listener's certificate, as the TLS context that serves it to new connections.

    Made in the supervisor, so that what cannot be used stops the start, and so that a key only root may read is
    read; every worker goes on with its own copy.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """Load the files. Raises StartError when they cannot be used."""
        self._settings = settings
        self._seen = self._look()
        try:
            self.context = _context(settings)
        except (OSError, ValueError) as error:
            raise StartError(_why(settings, error)) from error

    def changed(self) -> bool:
        """Whether the files are others than those last looked at, also where the last ones were of no use."""
        return self._look() != self._seen

    def reload(self) -> bool:
        """Serve what the files hold now to new connections; what cannot be used is logged and the old kept.

        The context is replaced and not changed: a handshake that began with the old one ends with it, and none ever
        sees a certificate without its key. May run in a thread.
        """
        self._seen = self._look()
        try:
            self.context = _context(self._settings)
        except (OSError, ValueError) as error:
            reason = _why(self._settings, error)
            _log.error("the new certificate cannot be used; the old one stays", reason=reason)
            return False
        _log.info("certificate loaded", file=str(self._settings.certificate))
        return True

    def _look(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(_stamp(file) for file in (self._settings.certificate, self._settings.key))


def _context(settings: TlsSettings) -> ssl.SSLContext:
    """A context with everything the files hold now. Raises OSError or ValueError when they are of no use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[settings.minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = _ASKED[settings.client_certificates]
    for authority in settings.client_authorities:
        _trust(context, authority)
    certificate, key = _read(settings.certificate), _read(settings.key)
    _warn(certificate, settings)
    with _as_file(certificate + b"\n" + key) as path:
        context.load_cert_chain(path, password=_no_password)
    return context


def _trust(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(cafile=authority)
    except OSError as error:
        raise ValueError(f"the client authority {authority} cannot be used: {_reason(error)}") from error


def _no_password() -> bytes:
    raise ValueError("the key is encrypted; a server cannot ask for its password")


def _warn(certificate: bytes, settings: TlsSettings) -> None:
    """Say what clients will refuse, though we can serve it."""
    try:
        leaf = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError as error:
        raise ValueError(f"{settings.certificate} holds no certificate in PEM form") from error
    try:
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        _log.warning(
            "the certificate names its host only in the subject's CN, which Go clients (docker, containerd, podman, "
            "skopeo) refuse: they read the subjectAltName alone; make it again with "
            '-addext "subjectAltName=DNS:registry.example.com"',
            file=str(settings.certificate),
            subject=leaf.subject.rfc4514_string(),
        )
    now = datetime.now(UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        _log.warning(
            "the certificate is not valid now: clients refuse it",
            file=str(settings.certificate),
            not_before=leaf.not_valid_before_utc.isoformat(),
            not_after=leaf.not_valid_after_utc.isoformat(),
        )


def _read(file: Path) -> bytes:
    content = read_secret(file)
    if not content.strip():
        raise ValueError(f"{file} is empty")
    return content


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A name for bytes in memory: OpenSSL loads by path, and the file may have changed since it was checked."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _why(settings: TlsSettings, error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {settings.key} does not belong to the certificate {settings.certificate}"
    if isinstance(error, ssl.SSLError):
        return f"the key {settings.key} cannot be used: {_reason(error)}"
    return _reason(error)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
