from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from nvclab.certificates import Authority

NOW = dt.datetime(2026, 3, 2, 13, 0, tzinfo=dt.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.prepare(NOW)
    return authority


def test_the_server_certificate_is_signed_by_the_authority(authority: Authority) -> None:
    ca = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    server = x509.load_pem_x509_certificate(authority.server_file.read_bytes())
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]


def test_it_is_kept_while_it_lasts_and_made_anew_before_it_warns(authority: Authority) -> None:
    first = authority.server_file.read_bytes()
    authority.prepare(NOW + dt.timedelta(days=100))
    assert authority.server_file.read_bytes() == first
    authority.prepare(NOW + dt.timedelta(days=130))
    assert authority.server_file.read_bytes() != first


def test_an_expired_one_can_be_issued(authority: Authority) -> None:
    pem = authority.issue(NOW - dt.timedelta(days=91), dt.timedelta(days=90))
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert certificate.not_valid_after_utc == NOW - dt.timedelta(days=1)
    assert "PRIVATE KEY" in pem
