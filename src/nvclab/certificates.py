"""A small certificate authority of the lab, and the certificate that customers see at the load balancer."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nvclab.layout import write_private

if TYPE_CHECKING:
    from pathlib import Path

SERVER_NAME = "localhost"
_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 180
# Below this the certificate is made anew at the next start, so that an old lab does not warn of its own age.
_SERVER_DAYS_LEFT_MIN = 60


@dataclass(frozen=True)
class Authority:
    """The lab's authority: `folder` holds ca.pem, ca.key and bank.pem (certificate and key, as HAProxy reads them)."""

    folder: Path

    @property
    def certificate_file(self) -> Path:
        """What clients trust."""
        return self.folder / "ca.pem"

    @property
    def server_file(self) -> Path:
        """Certificate and key of the bank's front door."""
        return self.folder / "bank.pem"

    def prepare(self, now: dt.datetime) -> None:
        """Make what is missing or about to expire."""
        key_file = self.folder / "ca.key"
        if not (self.certificate_file.exists() and key_file.exists()):
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(key_file, _private(key))
            write_private(self.certificate_file, _pem(_authority(key, now)))
        if not self.server_file.exists() or self._server_days_left(now) < _SERVER_DAYS_LEFT_MIN:
            write_private(self.server_file, self.issue(now - dt.timedelta(hours=1), dt.timedelta(days=_SERVER_DAYS)))

    def issue(self, start: dt.datetime, lasts: dt.timedelta) -> str:
        """A fresh server certificate with its key and the authority's certificate, as one PEM text."""
        authority = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
        signer = load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        if not isinstance(signer, ec.EllipticCurvePrivateKey):
            raise TypeError("the lab's authority signs with an elliptic curve")
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(SERVER_NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            _builder(SERVER_NAME, authority.subject, key, start, start + lasts)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return _pem(certificate) + _private(key)

    def _server_days_left(self, now: dt.datetime) -> int:
        certificate = x509.load_pem_x509_certificate(self.server_file.read_bytes())
        return (certificate.not_valid_after_utc - now).days


def _authority(key: ec.EllipticCurvePrivateKey, now: dt.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nvclab authority")])
    start = now - dt.timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder("nvclab authority", name, key, start, start + dt.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
