"""TLS contexts: nothing old, nobody anonymous."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.tls import client_context, server_context
from secure_pfnas.wire.identity import PartyRole

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def files(tmp_path):
    authority = CertificateAuthority.create(tmp_path, federation="clinic", now=NOW)
    return authority.issue("broker", PartyRole.BROKER, now=NOW)


@pytest.mark.parametrize("make", [client_context, server_context])
def test_both_ends_demand_a_certificate_and_tls_1_3(files, make):
    context = make(files)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_client_checks_the_host_name(files):
    assert client_context(files).check_hostname


@pytest.mark.parametrize("make", [client_context, server_context])
def test_files_that_cannot_be_used_are_one_line(files, tmp_path, make):
    missing = CredentialFiles(files.certificate, tmp_path / "none.pem", files.ca)
    junk = CredentialFiles(files.certificate, files.certificate, files.ca)
    for broken in (missing, junk):
        with pytest.raises(UserError) as caught:
            make(broken)
        assert caught.value.code is ExitCode.IDENTITY
        assert "cannot be used for TLS" in caught.value.what
