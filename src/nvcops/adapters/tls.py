"""Certificates off the handshake, as a customer sees them: the details also of one that nobody should trust."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from nvcops.adapters.http import reason, tls_context
from nvcops.core.errors import DeadlineExceeded, Refused, Unreachable
from nvcops.core.target import Certificate


def read_certificate(name: str, address: str, ca_file: Path | None, deadline_s: float) -> Certificate:
    """The certificate that `address` (host:port) shows for `name`.

    Raises:
        TargetError: no handshake came about, so nothing is known of the certificate.
    """
    where = f"{name} ({address})"
    try:
        try:
            der, distrust = _shown(name, address, tls_context(ca_file), deadline_s), ""
        except ssl.SSLCertVerificationError as error:
            der, distrust = _shown(name, address, _trusting(), deadline_s), error.verify_message
    except TimeoutError as error:
        raise DeadlineExceeded(f"{where} did not finish the handshake within {deadline_s:g} s") from error
    except ssl.SSLError as error:
        raise Refused(f"{where} refused the handshake: {error.reason or error}") from error
    except OSError as error:
        raise Unreachable(f"{where} does not answer: {reason(error)}") from error
    return _described(der, distrust)


def _shown(name: str, address: str, context: ssl.SSLContext, deadline_s: float) -> bytes:
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=deadline_s) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def _trusting() -> ssl.SSLContext:
    """A context that looks and does not judge: used to describe a certificate that was already found bad."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _described(der: bytes, distrust: str) -> Certificate:
    certificate = x509.load_der_x509_certificate(der)
    return Certificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=_key(certificate),
        distrust=distrust,
    )


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else type(key).__name__
