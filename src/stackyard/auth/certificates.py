"""Whether a chain of certificates in a token (`x5c`, RFC 7515, 4.1.6) ends at one we trust."""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

MAX_CHAIN = 6
"""Longest chain that is looked at; each step costs a signature check before anybody is known."""


def trusted_until(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> datetime | None:
    """The moment the trust in the first certificate ends; None when there is none.

    The first certificate is one of `roots`, or issued, through others of `chain` in any order, by one of them. Every
    certificate on the way is valid at `now`, and every issuer is a certificate authority that may issue that deep.
    """
    if not 0 < len(chain) <= MAX_CHAIN:
        return None
    return _climb(chain[0], chain[1:], roots, now, 0)


def _climb(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
    depth: int,
) -> datetime | None:
    """`depth` is the number of authorities between the first certificate and the issuer of this one."""
    ends = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now <= ends:
        return None
    if certificate in roots:
        return ends
    for issuer in (*roots, *others):
        if not _issued(certificate, issuer, depth):
            continue
        rest = [other for other in others if other != issuer]
        if until := _climb(issuer, rest, roots, now, depth + 1):
            return min(ends, until)
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, depth: int) -> bool:
    if certificate == issuer or not _may_issue(issuer, depth):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _may_issue(issuer: x509.Certificate, depth: int) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = _usage(issuer)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    deep_enough = constraints.path_length is None or depth <= constraints.path_length
    return constraints.ca and deep_enough and (usage is None or usage.key_cert_sign)


def _usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
