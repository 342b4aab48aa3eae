"""The enrolment desk: who gets a certificate, who does not, and what a stranger can do to it."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
import ssl
import stat
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from secure_pfnas.errors import ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import make_ca, new_key, renewal_due
from secure_pfnas.runtime.credentials import certificate_pem, load_certificate, load_key
from secure_pfnas.runtime.desk import applicant
from secure_pfnas.runtime.desk.applicant import believed_bundle, desk_of, enrol, renew
from secure_pfnas.runtime.desk.keeper import Kept
from secure_pfnas.runtime.desk.messages import LENGTH, Answer, DeskAddress, Request, framed
from secure_pfnas.runtime.desk.service import Desk, new_code, serve
from secure_pfnas.runtime.desk.tokens import JoinCode
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.tls import server_context
from secure_pfnas.runtime.trust import root_of
from secure_pfnas.wire.identity import PartyRole

DAY = timedelta(days=1)


def now():
    return datetime.now(UTC)


@contextmanager
def open_desk(
    authority, name="desk", role=PartyRole.DESK, hosts=("127.0.0.1",), days=90, overlap=-DAY
):
    files = authority.issue(name, role, now=now(), hosts=hosts)
    ready, address, loops, tasks = threading.Event(), [], [], []

    def on_ready(where):
        address.append(where)
        ready.set()

    async def main():
        loops.append(asyncio.get_running_loop())
        desk = Desk(authority.folder, now, days=days, overlap=overlap)
        tasks.append(asyncio.create_task(serve(desk, files, "127.0.0.1", 0, on_ready=on_ready)))
        await asyncio.wait(tasks)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    yield address[0]
    loops[0].call_soon_threadsafe(tasks[0].cancel)
    thread.join(10)


@pytest.fixture
def authority(tmp_path):
    return CertificateAuthority.create(tmp_path / "office", federation="clinic", now=now() - DAY)


@pytest.fixture
def desk(authority):
    with open_desk(authority) as address:
        yield address


@pytest.fixture
def home(tmp_path):
    """The device's own folder: another machine."""
    return tmp_path / "home"


def code_for(authority, name="dev-1", role=PartyRole.DEVICE, lifetime=DAY, **options):
    return new_code(authority, name, role, now=now(), lifetime=lifetime, **options)


def mistake(call, code=ExitCode.IDENTITY):
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.code is code
    assert "\n" not in caught.value.what
    return caught.value.what


def test_a_device_makes_its_key_and_enrols_with_a_code(authority, desk, home):
    code = JoinCode.parse(str(code_for(authority)))
    files = enrol(code, desk, home)
    signer = files.check(now())
    assert (signer.name, signer.role) == ("dev-1", PartyRole.DEVICE)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert [row.name for row in authority.listing()] == ["desk", "dev-1"]
    assert not (authority.folder / "dev-1" / "key.pem").exists()
    life = load_certificate(files.certificate)
    assert life.not_valid_after_utc - life.not_valid_before_utc < 91 * DAY
    assert desk_of(files) == desk


def test_enrolling_again_changes_no_file_and_asks_nobody(authority, home):
    code = code_for(authority)
    with open_desk(authority) as desk:
        files = enrol(code, desk, home)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert enrol(code, desk, home) == files
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_code_serves_one_key_once(authority, desk, home, tmp_path, caplog):
    code = code_for(authority)
    enrol(code, desk, home)
    assert "refused" in mistake(lambda: enrol(code, desk, tmp_path / "thief"))
    assert "used up" in caplog.text
    assert len({row.fingerprint for row in authority.listing()}) == 2


def test_an_answer_that_got_lost_is_given_again_to_the_same_key(authority, desk, home, monkeypatch):
    code = code_for(authority)
    with monkeypatch.context() as patch:
        patch.setattr(applicant, "_check_own", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            enrol(code, desk, home)
    issued = (authority.folder / "issued.jsonl").read_text().splitlines()
    enrol(code, desk, home).check(now())
    assert (authority.folder / "issued.jsonl").read_text().splitlines() == issued


@pytest.mark.parametrize("wrong", ["lapsed", "unknown", "another's name"])
def test_a_code_that_is_not_good_is_refused(authority, desk, home, wrong, caplog):
    lifetime = -DAY if wrong == "lapsed" else DAY
    code = code_for(authority, lifetime=lifetime)
    if wrong == "unknown":
        code = JoinCode(code.name, bytes(20), code.root)
    if wrong == "another's name":
        code = JoinCode("dev-2", code.secret, code.root)
    assert "refused" in mistake(lambda: enrol(code, desk, home))
    assert "token unknown" in caplog.text
    assert [row.name for row in authority.listing()] == ["desk"]
    assert not list(home.glob("dev-*"))


def test_a_secret_is_kept_nowhere_at_the_desk(authority, desk, home):
    code = code_for(authority)
    enrol(code, desk, home)
    for path in authority.folder.rglob("*"):
        if path.is_file():
            assert code.secret not in path.read_bytes()
            assert str(code).split(".")[1].encode() not in path.read_bytes()


def test_a_desk_of_another_ca_hears_no_secret(authority, home, tmp_path):
    """The code names the root; whoever answers in the desk's place is not told the token."""
    impostor = CertificateAuthority.create(tmp_path / "x", federation="clinic", now=now() - DAY)
    heard = []
    with open_desk(impostor) as address, pytest.MonkeyPatch.context() as patch:
        answer = Desk.answer
        patch.setattr(Desk, "answer", lambda s, d, c: (heard.append(d), answer(s, d, c))[1])
        code = code_for(authority)
        assert "fingerprint" in mistake(lambda: enrol(code, address, home))
    assert len(heard) == 1
    assert Request.decode(heard[0]) == Request(kind="bundle")


def test_a_bundle_with_a_smuggled_root_is_cut_down_to_the_named_one(authority):
    key = new_key()
    rogue = certificate_pem(make_ca(key, "clinic", now=now() - DAY, days=9))
    root = root_of(authority.bundle)
    assert believed_bundle(rogue + authority.bundle, {root}) == authority.bundle
    assert "fingerprint" in mistake(lambda: believed_bundle(rogue, {root}))


def test_a_broker_cannot_pose_as_the_desk(authority, home, monkeypatch):
    monkeypatch.setattr("secure_pfnas.runtime.desk.service.desk_context", server_context_for_all)
    with open_desk(authority, "broker", PartyRole.BROKER) as address:
        assert "of a broker" in mistake(lambda: enrol(code_for(authority), address, home))


def server_context_for_all(files):
    context = server_context(files)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def test_a_desk_of_another_host_is_refused(authority, home):
    with open_desk(authority, hosts=("elsewhere.example",)) as address:
        what = mistake(lambda: enrol(code_for(authority), address, home))
    assert "certificate is refused" in what


def test_only_a_desks_certificate_opens_a_desk(authority):
    files = authority.issue("dev-9", PartyRole.DEVICE, now=now())
    desk = Desk(authority.folder, now)
    call = serve(desk, files, "127.0.0.1", 0, on_ready=lambda _: None)
    assert "not a desk's" in mistake(lambda: asyncio.run(call))


def test_a_name_that_is_taken_gets_no_code_until_it_is_revoked(authority, desk, home, tmp_path):
    enrol(code_for(authority), desk, home)
    assert "revoke it first" in mistake(lambda: code_for(authority))
    authority.revoke("dev-1", now=now())
    again = enrol(code_for(authority), desk, tmp_path / "new-machine")
    again.check(now())


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_before(authority, desk, home):
    files = enrol(code_for(authority), desk, home)
    first = load_certificate(files.certificate)
    assert abs(renewal_due(first) - now() - 60 * DAY) < DAY
    assert not renew(files, desk)
    assert not renew(files, desk, early=True)  # the desk knows that it is too early
    aged = authority.sign(
        first.public_key(), "dev-1", PartyRole.DEVICE, now=now() - DAY / 2, days=1
    )
    for path in (files.certificate, authority.folder / "dev-1" / "cert.pem"):
        path.write_bytes(authority.chain(aged))
    key = files.key.read_bytes()
    aged_due = renewal_due(aged)
    assert aged_due > now()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("applicant", "service"):
            patch.setattr(f"secure_pfnas.runtime.desk.{module}.renewal_due", lambda _: now() - DAY)
        assert renew(files, desk)
    second = load_certificate(files.certificate)
    assert second.serial_number not in (first.serial_number, aged.serial_number)
    assert files.key.read_bytes() == key
    files.check(now())


def test_a_revoked_party_is_not_renewed(authority, desk, home):
    files = enrol(code_for(authority), desk, home)
    authority.revoke("dev-1", now=now())
    (files.certificate.parent / "crl.pem").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secure_pfnas.runtime.desk.applicant.renewal_due", lambda _: now() - DAY)
        assert "refused" in mistake(lambda: renew(files, desk))


def test_asking_brings_new_cas_and_revocations_to_who_is_far_away(authority, desk, home):
    near, far = (enrol(code_for(authority, n), desk, home) for n in ("dev-1", "dev-2"))
    successor = authority.roll_over(now=now())
    other = successor.sign(new_key().public_key(), "dev-3", PartyRole.DEVICE, now=now())
    der = other.public_bytes(Encoding.DER)
    with pytest.raises(Rejected):
        far.trust(now).party(der)
    renew(far, desk)
    assert far.trust(now).party(der).name == "dev-3"
    successor.revoke("dev-1", now=now())
    renew(far, desk)
    with pytest.raises(Rejected, match="revoked"):
        far.trust(now).party(near.signer().certificate)


def test_after_a_roll_over_renewal_gives_the_new_cas_certificate(authority, desk, home):
    files = enrol(code_for(authority), desk, home)
    successor = authority.roll_over(now=now())
    assert renew(files, desk, early=True)
    assert not renew(files, desk, early=True)
    assert load_certificate(files.certificate).issuer == successor.certificate.subject


def test_a_new_ca_is_made_known_for_an_hour_before_it_signs(authority, home):
    with open_desk(authority, overlap=timedelta(hours=1)) as desk:
        early = enrol(code_for(authority), desk, home)
        successor = authority.roll_over(now=now())
        late = enrol(code_for(authority, "dev-2"), desk, home)
        assert not renew(early, desk, early=True)
    with open_desk(authority, overlap=timedelta(0)) as desk:
        assert renew(early, desk, early=True)
    old, new = authority.certificate.subject, successor.certificate.subject
    assert load_certificate(late.certificate).issuer == old
    assert load_certificate(early.certificate).issuer == new
    assert late.trust(now).party(early.signer().certificate).name == "dev-1"


def test_an_older_revocation_list_does_not_replace_a_newer_one(authority, desk, home):
    files = enrol(code_for(authority), desk, home)
    enrol(code_for(authority, "dev-2"), desk, home)
    older = (authority.folder / "crl.pem").read_bytes()
    authority.revoke("dev-2", now=now())
    renew(files, desk)
    newer = (files.certificate.parent / "crl.pem").read_bytes()
    (authority.folder / "crl.pem").write_bytes(older)
    renew(files, desk)
    assert (files.certificate.parent / "crl.pem").read_bytes() == newer != older


def test_a_running_party_shows_its_renewed_certificate(authority, desk, home):
    files = enrol(code_for(authority), desk, home)
    signer = files.signer()
    kept, first = Kept(files, signer), signer.certificate
    authority.roll_over(now=now())
    renew(files, desk, early=True)
    kept.look()
    assert signer.certificate != first
    assert signer.certificate == files.signer().certificate


def test_a_running_party_asks_by_itself_and_survives_a_desk_that_is_gone(authority, home, caplog):
    with open_desk(authority) as desk:
        files = enrol(code_for(authority), desk, home)
        kept = Kept(files, files.signer())
        authority.revoke("desk", now=now())
        kept.ask_at = 0.0
        kept.look()
    assert "not renewed" not in caplog.text
    assert "desk" in (files.certificate.parent / "crl.pem").read_text()
    kept.ask_at = 0.0
    kept.look()
    assert "dev-1 is not renewed" in caplog.text
    files.check(now())


def test_another_key_under_a_running_party_is_not_taken(authority, home, caplog):
    files = authority.issue("dev-1", PartyRole.DEVICE, now=now())
    signer = files.signer()
    kept, first = Kept(files, signer), signer.certificate
    key = new_key()
    other = authority.sign(key.public_key(), "dev-1", PartyRole.DEVICE, now=now())
    files.certificate.write_bytes(authority.chain(other))
    kept.look()
    assert signer.certificate == first
    assert "keeps its certificate" in caplog.text


def request_of(csr, secret=b"", kind="enrol", name="dev-1"):
    return Request(kind=kind, name=name, secret=secret, csr=csr).encode()


def test_a_signing_request_that_proves_nothing_uses_up_no_token(authority, home, caplog):
    desk, code = Desk(authority.folder, now), code_for(authority)
    key = new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    good = bytearray(builder.sign(key, SHA256()).public_bytes(Encoding.DER))
    good[-1] ^= 1
    assert desk.answer(request_of(bytes(good), code.secret), None).refusal
    assert desk.answer(request_of(b"junk", code.secret), None).refusal
    good[-1] ^= 1
    assert desk.answer(request_of(bytes(good), code.secret), None).certificate


@given(data=st.one_of(st.binary(max_size=300), st.builds(request_of, st.binary(max_size=200))))
def test_whatever_a_stranger_says_the_desk_answers_and_gives_nothing(shared_desk, data):
    answer = shared_desk.answer(data, None)
    assert answer.certificate == b""


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory):
    logging.getLogger("secure_pfnas.runtime.desk.service").setLevel(logging.CRITICAL)
    folder = tmp_path_factory.mktemp("office")
    CertificateAuthority.create(folder, federation="clinic", now=now())
    yield Desk(folder, now)
    logging.getLogger("secure_pfnas.runtime.desk.service").setLevel(logging.NOTSET)


def knock(desk, data):
    """Say something over TLS without a certificate; return what comes back."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((desk.host, desk.port), timeout=5) as tcp,
        context.wrap_socket(tcp) as tls,
    ):
        tls.sendall(data)
        try:
            return tls.recv(1 << 16)
        except OSError:
            return b""


def test_a_lying_length_is_hung_up_on_before_a_byte_is_kept(authority, desk, home):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for length in (Request.LIMIT + 1, 1 << 20, (1 << 32) - 1):
        assert knock(desk, LENGTH.pack(length) + b"x" * 1000) == b""
    for junk in (b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", LENGTH.pack(5) + b"hello"):
        knock(desk, junk + b"\x00" * 10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    enrol(code_for(authority), desk, home).check(now())


def test_the_bundle_is_for_everybody(authority, desk):
    data = knock(desk, framed(Request(kind="bundle")))
    answer = Answer.decode(data[LENGTH.size :])
    assert answer.ca == authority.bundle
    assert answer.certificate == b""


@pytest.mark.parametrize(
    "text", ["", "dev-1", "dev-1.aaaa.bb", "Dev_1." + "a" * 32 + "." + "0" * 64, "x" * 9999]
)
def test_a_code_that_is_none_is_one_line_and_not_repeated(text):
    what = mistake(lambda: JoinCode.parse(text), ExitCode.USAGE)
    assert len(what) < 100


@pytest.mark.parametrize("url", ["", "host", "mqtts://h:1", "tls://", "tls://h:99999", "tls://h/x"])
def test_an_address_that_is_none_is_one_line(url):
    mistake(lambda: DeskAddress.parse(url), ExitCode.USAGE)


def test_a_desk_that_is_not_there_is_one_line(authority, home):
    code = code_for(authority)
    what = mistake(lambda: enrol(code, DeskAddress("127.0.0.1", 1), home), ExitCode.BROKER)
    assert "cannot be reached" in what
    key = load_key(home / ".dev-1.enrolling" / "key.pem")
    with open_desk(authority) as desk:
        files = enrol(code, desk, home)
    assert load_key(files.key).public_key() == key.public_key()


def test_a_broker_enrols_with_its_hosts(authority, desk, home):
    code = code_for(authority, "broker", PartyRole.BROKER, hosts=("b.example", "10.0.0.1"))
    files = enrol(code, desk, home)
    leaf = load_certificate(files.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.example"]
    assert json.loads((authority.folder / "issued.jsonl").read_text().splitlines()[-1])["role"] == (
        "broker"
    )
    assert CredentialFiles.in_folder(home / "broker").crl == home / "broker" / "crl.pem"
