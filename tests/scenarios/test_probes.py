"""A probe tells genuine papers from others; without that, a refusal would show nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import federate
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.probes import foreign, is_admitted
from secure_pfnas.runtime.stage import Stage
from secure_pfnas.wire.identity import PartyRole


@pytest.mark.broker
def test_only_genuine_and_valid_papers_are_answered(tmp_path):
    federation = Federation.of(Stage(tmp_path).settings())
    with federate.embedded(federation, tmp_path) as bus:
        genuine = bus.credentials("dev-000")
        assert is_admitted(bus.address, genuine, "dev-000")
        false = foreign(genuine, tmp_path / "foreign", federation.name, "dev-000")
        assert not is_admitted(bus.address, false, "dev-000")

        long_ago = federate.utc_now() - timedelta(days=100)
        authority = CertificateAuthority.open(tmp_path / "certs")
        issued = authority.issue("late", PartyRole.DEVICE, now=long_ago)
        expired = CredentialFiles(issued.certificate, issued.key, genuine.ca)
        assert not is_admitted(bus.address, expired, "late")
