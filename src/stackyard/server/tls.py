"""Certificates: checked before use, replaced while connections go on."""

import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from stackyard.server.errors import StartError
from stackyard.server.privileges import read_secret
from stackyard.server.settings import ClientCertificates, TlsSettings

_log = structlog.get_logger("tls")

_ASKED: Final = {
    ClientCertificates.NONE: SSL.VERIFY_NONE,
    ClientCertificates.VERIFIED_IF_GIVEN: SSL.VERIFY_PEER,
    ClientCertificates.REQUIRED: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
_MINIMUM: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

# The choice is ours, AES-128 first, which is the cheapest; but a client that puts ChaCha20 first, since its processor
# has no AES instructions, gets that.
_CIPHERS_13: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_CIPHERS_12: Final = (
    b"@SECLEVEL=2:ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!SHA1:!AESCCM:!aNULL:!eNULL"
)
_PRIORITIZE_CHACHA: Final = 1 << 21  # SSL_OP_PRIORITIZE_CHACHA, which pyOpenSSL does not name
_PARTIAL_WRITE: Final = 1  # SSL_MODE_ENABLE_PARTIAL_WRITE, likewise
_OPTIONS: Final = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | _PRIORITIZE_CHACHA


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
            raise StartError(_why(error)) from error

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
            _log.error("the new certificate cannot be used; the old one stays", reason=_why(error))
            return False
        _log.info("certificate loaded", file=str(self._settings.certificate))
        return True

    def _look(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(_stamp(file) for file in (self._settings.certificate, self._settings.key))


def _context(settings: TlsSettings) -> SSL.Context:
    """A context with everything the files hold now. Raises OSError or ValueError when they are of no use."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_MINIMUM[settings.minimum])
    context.set_options(_OPTIONS)
    context.set_cipher_list(_CIPHERS_12)
    context.set_tls13_ciphersuites(_CIPHERS_13)
    context.set_alpn_select_callback(_only_http_1)
    # A write goes on through as many records as the socket takes: with one call for each, the calls cost as much as
    # the encryption. What is at rest holds no buffers.
    context.clear_mode(_PARTIAL_WRITE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # Clients resume by tickets, whose key all workers have from the supervisor; after a reload they begin anew.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"stackyard")
    context.set_verify(_ASKED[settings.client_certificates])
    for authority in settings.client_authorities:
        _trust(context, authority)
    _present(context, settings)
    return context


def _only_http_1(_: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _trust(context: SSL.Context, authority: Path) -> None:
    try:
        context.load_verify_locations(str(authority))
    except SSL.Error as error:
        raise ValueError(f"the client authority {authority} cannot be used: {reason(error)}") from error


def _present(context: SSL.Context, settings: TlsSettings) -> None:
    """Make it show the certificate with what lies between it and its root, and prove it by the key."""
    chain = _certificates(settings.certificate)
    key = _key(settings.key)
    _warn(chain[0], settings)
    if key.public_key() != chain[0].public_key():
        raise ValueError(f"the key {settings.key} does not belong to the certificate {settings.certificate}")
    try:
        context.use_certificate(chain[0])
        for issuer in chain[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(key)
    except SSL.Error as error:
        raise ValueError(f"the certificate {settings.certificate} cannot be used: {reason(error)}") from error


def _certificates(file: Path) -> Sequence[x509.Certificate]:
    content = _read(file)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ValueError(f"{file} holds no certificate in PEM form") from error


def _key(file: Path) -> Any:
    content = _read(file)
    try:
        return load_pem_private_key(content, None)
    except TypeError as error:
        raise ValueError(f"the key {file} cannot be used: the key is encrypted; give one without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"the key {file} cannot be used: it is no private key in PEM form") from error


def _warn(leaf: x509.Certificate, settings: TlsSettings) -> None:
    """Say what clients will refuse, though we can serve it."""
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


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def reason(error: SSL.Error) -> str:
    """What went wrong, in OpenSSL's words."""
    told = error.args[0] if error.args else ()
    return str(told[-1][2]) if told and isinstance(told, list) else "not TLS"
