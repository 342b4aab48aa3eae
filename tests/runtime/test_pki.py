"""The private CA: what it issues is believed, and nothing else is."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import make_ca, make_leaf, new_key
from secure_pfnas.runtime.credentials import load_key
from secure_pfnas.runtime.pki import (
    CertificateAuthority,
    CertificateTrust,
    CredentialFiles,
    MemoryAuthority,
)
from secure_pfnas.runtime.revocation import listed_names
from secure_pfnas.wire.identity import PartyRole

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DEVICE = PartyRole.DEVICE


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority.create(tmp_path / "certs", federation="clinic", now=NOW)


def refusal(trust, certificate):
    with pytest.raises(Rejected) as caught:
        trust.party(certificate)
    assert caught.value.reason is DropReason.UNTRUSTED_CERTIFICATE
    return caught.value.detail


def mistake(call, code=ExitCode.IDENTITY):
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.code is code
    assert "\n" not in caught.value.what
    return caught.value.what


@pytest.mark.parametrize("role", list(PartyRole))
def test_an_issued_certificate_is_believed_and_signs(authority, role):
    files = authority.issue("party-1", role, now=NOW)
    signer = files.signer()
    party = files.trust(lambda: NOW).party(signer.certificate)
    assert (party.name, party.role) == ("party-1", role)
    party.verify(b"test", b"data", signer.sign(b"test", b"data"))
    with pytest.raises(Rejected):
        party.verify(b"other", b"data", signer.sign(b"test", b"data"))


def test_running_again_changes_no_file(authority):
    def state():
        files = sorted(path for path in authority.folder.rglob("*") if path.is_file())
        return {
            path: (sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) for path in files
        }

    authority.issue("dev-1", DEVICE, now=NOW)
    before = state()
    again = CertificateAuthority.create(
        authority.folder, federation="clinic", now=NOW + timedelta(days=3)
    )
    again.issue("dev-1", DEVICE, now=NOW + timedelta(days=3))
    assert state() == before


def test_private_keys_are_readable_by_their_owner_only(authority):
    files = authority.issue("dev-1", DEVICE, now=NOW)
    for path in (files.key, authority.folder / "ca.key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_listing_names_every_party(authority):
    authority.issue("dev-1", DEVICE, now=NOW)
    authority.issue("broker", PartyRole.BROKER, now=NOW)
    rows = authority.listing()
    assert [(row.name, row.role) for row in rows] == [
        ("broker", PartyRole.BROKER),
        ("dev-1", DEVICE),
    ]
    leaf = x509.load_pem_x509_certificate((authority.folder / "dev-1/cert.pem").read_bytes())
    assert rows[1].fingerprint == leaf.fingerprint(SHA256()).hex()
    assert rows[1].serial == leaf.serial_number


def test_only_a_broker_may_serve_tls(authority):
    for name, role in (("broker", PartyRole.BROKER), ("dev-1", DEVICE)):
        files = authority.issue(name, role, now=NOW, hosts=("localhost", "10.0.0.1"))
        leaf = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        use = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
        assert (ExtendedKeyUsageOID.SERVER_AUTH in use) == (role is PartyRole.BROKER)
        assert hosts == (["localhost"] if role is PartyRole.BROKER else [])


def test_a_foreign_certificate_is_refused(authority, tmp_path):
    other = CertificateAuthority.create(tmp_path / "other", federation="clinic", now=NOW)
    foreign = other.issue("dev-1", DEVICE, now=NOW).signer()
    trust = authority.issue("dev-1", DEVICE, now=NOW).trust(lambda: NOW)
    assert "not this CA's" in refusal(trust, foreign.certificate)


def test_a_certificate_is_believed_inside_its_window_only():
    hour = NOW
    memory = MemoryAuthority(now=NOW, days=10)
    trust = memory.trust(lambda: hour)
    certificate = memory.issue("dev-1", DEVICE).certificate
    assert trust.party(certificate).name == "dev-1"
    hour = NOW + timedelta(days=11)
    assert "expired" in refusal(trust, certificate)
    hour = NOW - timedelta(days=1)
    assert "not yet valid" in refusal(trust, certificate)


@pytest.mark.parametrize("data", [b"", b"junk", bytes(5000), bytes(4096)])
def test_bytes_that_are_no_certificate_are_refused(data):
    refusal(MemoryAuthority().trust(lambda: NOW), data)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_whatever_bit_is_flipped_is_refused_and_never_a_crash():
    """One byte is no content: how many bits of the signature's last byte are unused."""
    memory = MemoryAuthority()
    own = memory.issue("dev-1", DEVICE)
    certificate, trust = own.certificate, memory.trust(lambda: NOW)
    believed = 0
    for bit in range(8 * len(certificate)):
        damaged = bytearray(certificate)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            party = trust.party(bytes(damaged))
        except Rejected:
            continue
        believed += 1
        assert (party.name, party.public_key) == ("dev-1", own.private_key.public_key())
    assert believed <= 3


def forged(name="dev-1", *, ca=None, san=("fl:device",), uses=None, is_ca=False, key=None):
    """Sign, with the real CA's key, a certificate that breaks one rule."""
    ca_key = new_key()
    root = make_ca(ca_key, "clinic", now=NOW, days=100)
    key = key or new_key()
    uris = [x509.UniformResourceIdentifier(uri) for uri in san]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n) for n in name.split()]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(uses or [ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True
        )
    )
    if uris:
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=False)
    leaf = builder.sign(ca_key, SHA256())
    trust = CertificateTrust(root.public_bytes(Encoding.PEM), lambda: NOW)
    return trust, leaf.public_bytes(Encoding.DER)


def test_the_forger_can_also_make_a_good_one():
    trust, certificate = forged()
    assert trust.party(certificate).name == "dev-1"


@pytest.mark.parametrize(
    ("broken", "because"),
    [
        ({"name": "Dev/#"}, "name"),
        ({"name": "dev-1 dev-2"}, "name"),
        ({"san": ()}, "role"),
        ({"san": ("fl:emperor",)}, "role"),
        ({"san": ("fl:device", "fl:server")}, "role"),
        ({"is_ca": True}, "a CA is no party"),
        ({"uses": [ExtendedKeyUsageOID.SERVER_AUTH]}, "key usage"),
        ({"san": ("fl:broker",)}, "key usage"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "P-256"),
    ],
)
def test_a_signed_certificate_that_breaks_a_rule_is_refused(broken, because):
    trust, certificate = forged(**broken)
    assert because in refusal(trust, certificate)


def test_a_leaf_cannot_sign_another_leaf():
    ca_key, leaf_key = new_key(), new_key()
    root = make_ca(ca_key, "clinic", now=NOW, days=100)
    common = {"role": DEVICE, "now": NOW, "days": 9}
    leaf = make_leaf(leaf_key.public_key(), "dev-1", ca=root, ca_key=ca_key, **common)
    below = make_leaf(new_key().public_key(), "dev-2", ca=leaf, ca_key=leaf_key, **common)
    trust = CertificateTrust(root.public_bytes(Encoding.PEM), lambda: NOW)
    refusal(trust, below.public_bytes(Encoding.DER))


def test_a_revoked_certificate_is_refused_also_where_it_was_believed_before(authority):
    files = authority.issue("dev-1", DEVICE, now=NOW)
    kept = authority.issue("dev-2", DEVICE, now=NOW)
    trust = files.trust(lambda: NOW)
    certificate = files.signer().certificate
    trust.party(certificate)
    crl = authority.revoke("dev-1", now=NOW)
    trust.revoke(crl.read_bytes())
    assert refusal(trust, certificate) == "revoked"
    assert refusal(files.trust(lambda: NOW), certificate) == "revoked"
    assert trust.party(kept.signer().certificate).name == "dev-2"
    assert [row.revoked for row in authority.listing()] == [True, False]
    assert "revoked" in mistake(lambda: authority.issue("dev-1", DEVICE, now=NOW))
    authority.revoke("dev-2", now=NOW)
    assert [row.revoked for row in authority.listing()] == [True, True]


def test_a_revocation_list_of_another_ca_is_refused(authority, tmp_path):
    other = CertificateAuthority.create(tmp_path / "other", federation="clinic", now=NOW)
    other.issue("dev-1", DEVICE, now=NOW)
    crl = other.revoke("dev-1", now=NOW)
    trust = authority.issue("dev-1", DEVICE, now=NOW).trust(lambda: NOW)
    assert "not signed by this CA" in mistake(lambda: trust.revoke(crl.read_bytes()))
    assert "not one in PEM form" in mistake(lambda: trust.revoke(b"junk"))


def test_a_certificate_never_outlives_its_ca(tmp_path):
    authority = CertificateAuthority.create(
        tmp_path, federation="clinic", now=NOW, lifetime_days=30
    )
    authority.issue("dev-1", DEVICE, now=NOW)
    assert authority.listing()[0].not_after <= authority.certificate.not_valid_after_utc
    late = NOW + timedelta(days=31)
    assert "the CA has expired" in mistake(lambda: authority.issue("dev-2", DEVICE, now=late))
    files = CredentialFiles.in_folder(tmp_path / "dev-1")
    assert "the CA expired on 2026-07-01" in mistake(lambda: files.check(late))


def test_an_expired_certificate_is_named(authority):
    files = authority.issue("dev-1", DEVICE, now=NOW, days=5)
    assert "expired" in mistake(lambda: files.check(NOW + timedelta(days=6)))
    assert files.check(NOW).name == "dev-1"


def test_one_name_has_one_role(authority):
    authority.issue("dev-1", DEVICE, now=NOW)
    assert "not a server's" in mistake(lambda: authority.issue("dev-1", PartyRole.SERVER, now=NOW))


@pytest.mark.parametrize("name", ["", "Dev", "a/b", "+", "-a", "a" * 64, "../x"])
def test_a_name_that_could_not_stand_in_a_topic_is_refused(authority, name):
    assert "name" in mistake(lambda: authority.issue(name, DEVICE, now=NOW))


def test_a_folder_of_another_federation_is_refused(authority):
    assert "'clinic'" in mistake(
        lambda: CertificateAuthority.create(authority.folder, federation="shop", now=NOW)
    )


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("damage", ["missing", "junk"])
def test_a_missing_or_damaged_file_is_one_line(authority, name, damage):
    files = authority.issue("dev-1", DEVICE, now=NOW)
    path = authority.folder / "dev-1" / name
    path.unlink() if damage == "missing" else path.write_bytes(b"junk")
    what = mistake(lambda: files.check(NOW))
    assert name in what or damage == "junk"


def test_files_that_do_not_belong_together_are_named(authority):
    files = authority.issue("dev-1", DEVICE, now=NOW)
    other = authority.issue("dev-2", DEVICE, now=NOW)
    mixed = CredentialFiles(files.certificate, other.key, files.ca)
    assert "is not the key of" in mistake(mixed.signer)
    swapped = CredentialFiles(files.certificate, files.key, files.certificate)
    assert "not a CA's" in mistake(lambda: swapped.check(NOW))
    no_party = CredentialFiles(files.ca, authority.folder / "ca.key.pem", files.ca)
    assert "names no party" in mistake(no_party.signer)
    (authority.folder / "ca.key.pem").write_bytes(other.key.read_bytes())
    assert "is not the key of" in mistake(lambda: CertificateAuthority.open(authority.folder))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    what = mistake(
        lambda: CertificateAuthority.create(tmp_path / "file", federation="clinic", now=NOW),
        ExitCode.STORAGE,
    )
    assert "file: File exists" in what


def test_a_disk_that_fills_leaves_nothing_half_written(authority, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secure_pfnas.runtime.files.os.fsync", full)
    before = sorted(path.name for path in authority.folder.iterdir())
    what = mistake(lambda: authority.issue("dev-1", DEVICE, now=NOW), ExitCode.STORAGE)
    assert "No space left" in what
    assert {path.name for path in authority.folder.iterdir()} - {"issued.jsonl"} == set(before)


def certificates_in(path):
    return x509.load_pem_x509_certificates(path.read_bytes())


def test_the_root_signs_issuing_cas_and_no_party(authority):
    files = authority.issue("dev-1", DEVICE, now=NOW)
    issuing, root = certificates_in(files.ca)
    assert issuing.issuer == root.subject == root.issuer
    assert certificates_in(files.certificate) == [
        x509.load_der_x509_certificate(files.signer().certificate),
        issuing,
    ]
    root_key = load_key(authority.folder / "root.key.pem")
    leaf = make_leaf(
        new_key().public_key(), "dev-2", DEVICE, ca=root, ca_key=root_key, now=NOW, days=9
    )
    assert "not this CA's" in refusal(files.trust(lambda: NOW), leaf.public_bytes(Encoding.DER))


def test_the_roots_key_may_be_carried_away(authority):
    (authority.folder / "root.key.pem").unlink()
    again = CertificateAuthority.create(authority.folder, federation="clinic", now=NOW)
    again.issue("dev-1", DEVICE, now=NOW).check(NOW)
    again.revoke("dev-1", now=NOW)
    assert "root.key.pem" in mistake(lambda: again.roll_over(now=NOW))


def test_a_foundation_that_was_cut_short_is_finished_with_the_same_keys(authority):
    keys = {name: (authority.folder / name).read_bytes() for name in ("root.key.pem", "ca.key.pem")}
    (authority.folder / "ca.pem").unlink()
    again = CertificateAuthority.create(authority.folder, federation="clinic", now=NOW)
    assert {name: (again.folder / name).read_bytes() for name in keys} == keys
    (again.folder / "ca.pem").unlink()
    (again.folder / "root.key.pem").unlink()
    mistake(lambda: CertificateAuthority.create(again.folder, federation="clinic", now=NOW))


def test_an_issuing_ca_without_its_root_is_no_bundle(authority):
    issuing, _ = certificates_in(authority.folder / "ca.pem")
    pem = issuing.public_bytes(Encoding.PEM)
    assert "root" in mistake(lambda: CertificateTrust(pem, lambda: NOW))


def test_a_revocation_covers_every_certificate_the_party_ever_had(authority):
    first = authority.issue("dev-1", DEVICE, now=NOW).signer().certificate
    leaf = authority.sign(new_key().public_key(), "dev-1", DEVICE, now=NOW)
    authority.enter("dev-1", leaf)
    other = authority.issue("dev-2", DEVICE, now=NOW)
    authority.revoke("dev-1", now=NOW)
    trust = other.trust(lambda: NOW)
    assert refusal(trust, first) == refusal(trust, leaf.public_bytes(Encoding.DER)) == "revoked"
    assert trust.party(other.signer().certificate).name == "dev-2"
    names = listed_names((authority.folder / "crl.pem").read_bytes())
    assert set(names.values()) == {"dev-1"}
    assert len(names) == 2


def test_after_a_roll_over_both_cas_are_believed_and_both_can_revoke(authority):
    old = authority.issue("dev-old", DEVICE, now=NOW)
    bystander = authority.issue("dev-2", DEVICE, now=NOW)
    new_authority = authority.roll_over(now=NOW)
    new = new_authority.issue("dev-new", DEVICE, now=NOW)
    assert certificates_in(new.certificate)[1] != certificates_in(old.certificate)[1]
    for believer in (old, new, bystander):
        trust = believer.trust(lambda: NOW)
        for holder in (old, new, bystander):
            trust.party(holder.signer().certificate)
    for name in ("dev-old", "dev-new"):
        new_authority.revoke(name, now=NOW)
    trust = bystander.trust(lambda: NOW)
    assert refusal(trust, old.signer().certificate) == "revoked"
    assert refusal(trust, new.signer().certificate) == "revoked"
    trust.party(bystander.signer().certificate)


def test_a_roll_over_keeps_what_was_revoked_before_it(authority):
    lost = authority.issue("dev-lost", DEVICE, now=NOW)
    authority.revoke("dev-lost", now=NOW)
    authority.roll_over(now=NOW)
    assert refusal(lost.trust(lambda: NOW), lost.signer().certificate) == "revoked"


def test_a_trust_that_follows_its_files_learns_of_a_new_ca_and_of_a_revocation(authority):
    files = authority.issue("dev-1", DEVICE, now=NOW)
    hour = [NOW]
    trust = files.followed(lambda: hour[0])
    later = authority.roll_over(now=NOW).issue("dev-2", DEVICE, now=NOW).signer().certificate
    assert trust.party(later).name == "dev-2"  # a new CA at once, since nothing else would do
    CertificateAuthority.open(authority.folder).revoke("dev-2", now=NOW)
    assert trust.party(later).name == "dev-2"
    hour[0] += timedelta(seconds=2)
    assert refusal(trust, later) == "revoked"
