"""The twenty oracles that secure aggregation is held to, one test each, in their order.

Each is the shortest test that fails when its promise is broken; the rooms' own tests go deeper.
Two further ones have their places elsewhere: simulator and MQTT give identical sums
(tests/runtime/test_bit_identity.py), and noise inside the masks does not exist (docs/protocol.md).
"""

from __future__ import annotations

import os
from itertools import combinations

import numpy as np
import pyshamir
import pytest

from secure_pfnas.audit.statistics import FALSE_ALARM, linear_complexity, looks_uniform
from secure_pfnas.errors import AbortReason, Complete, DropReason, Rejected
from secure_pfnas.privacy.quantize import BITS, Quantizer
from secure_pfnas.roles.messages import FROM_DEVICE, Report
from secure_pfnas.roles.records import RoundJoined, SurvivorsSigned
from secure_pfnas.runtime.device_store import DeviceStore
from secure_pfnas.runtime.faults import Moment, ScriptedFaults
from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.keys import self_commitment
from secure_pfnas.secagg.masks import Stream, add_masks
from secure_pfnas.secagg.messages import (
    PairSeedShare,
    SelfMaskShare,
    SlotPayload,
    Upload,
    rid,
)
from secure_pfnas.secagg.parameters import Suite, check_headroom
from secure_pfnas.secagg.recover import Deal, Recovery
from secure_pfnas.secagg.roster import committee_of
from secure_pfnas.secagg.server import Aborted
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.chunks import Channel, ChunkSettings
from secure_pfnas.wire.envelope import Envelope
from secure_pfnas.wire.identity import PartyRole
from secure_pfnas.wire.randomness import SeededStream
from tests.secagg.fleet import Fleet, names, shares_of, stricter
from tests.simulation.observer import Observer
from tests.simulation.test_linear_system import determined, memberships, systems
from tests.simulation.village import Books, Village, federation
from tests.wire.conftest import Town

AES = Suite.AES_256_CTR
MODULUS = 2**32
WIDE = dict.fromkeys(names(9), (0, 1))
SIZES = {0: 40, 1: 7}


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(WIDE, SIZES)


def refused(step, *arguments, **named) -> DropReason:
    with pytest.raises(Rejected) as caught:
        step(*arguments, **named)
    return caught.value.reason


def spare(fleet: Fleet) -> int:
    return len(fleet.roster.committee) - fleet.roster.threshold


def masked_constant(words: int, neighbours: int) -> np.ndarray:
    total = np.full(words, 7, np.uint32)
    seeds = (bytes([number]) * 32 for number in range(neighbours))
    streams = (Stream(s, [(0, words)], negate=bool(n % 2)) for n, s in enumerate(seeds))
    add_masks(total, streams, AES)
    return total


@pytest.mark.parametrize("seed", range(12))
def test_oracle_01_an_unmasked_slot_sum_is_the_plain_sum_bit_for_bit(seed: int):
    rng = np.random.default_rng(seed)
    held = {cid: np.flatnonzero(rng.random(5) < 0.7).tolist() for cid in names(10)}
    fleet = Fleet(held, dict(enumerate(rng.integers(1, 90, 5).tolist())), seed=seed)
    result = fleet.run(absent=set(rng.permutation(names(10))[: seed % 4].tolist()))
    assert isinstance(result, Unmasked)
    fleet.check(result)


def test_oracle_02_a_masked_constant_is_uniform_bytes_with_balanced_lowest_bits():
    masked = masked_constant(1 << 18, 9)
    assert looks_uniform(masked, FALSE_ALARM)
    assert abs((masked & 1).mean() - 0.5) < 0.005


def test_oracle_03_lowest_bits_have_half_their_number_as_linear_complexity():
    assert abs(linear_complexity(masked_constant(42_000, 31) & 1) - 21_000) < 20


@pytest.mark.parametrize("stage", ["silent_commit", "silent_reveal"])
def test_oracle_04_exactly_l_minus_t_committee_drops_are_stood(fleet: Fleet, stage: str):
    result = fleet.run(**{stage: fleet.roster.committee[: spare(fleet)]})
    assert isinstance(result, Unmasked)
    fleet.check(result)


def test_oracle_05_one_drop_more_aborts_and_publishes_no_sum(fleet: Fleet):
    drops = fleet.roster.committee[: spare(fleet) + 1]
    assert fleet.run(silent_commit=drops) == Aborted(AbortReason.TOO_FEW_SIGNATURES)
    again = Fleet(WIDE, SIZES)
    assert again.run(silent_reveal=drops) == Aborted(AbortReason.TOO_FEW_SHARES)


@pytest.mark.parametrize(
    "kind", ["task", "report", "commit_request", "commit_signature", "reveal_request", "reveal"]
)
def test_oracle_06_a_drop_at_any_stage_gives_the_right_sum(kind: str, monkeypatch):
    """Of each kind one device's letter is lost, and its process dies before another's."""
    books = Books().watch(monkeypatch)
    sender = "server" if kind in {"task", "commit_request", "reveal_request"} else "dev-001"
    lost = frozenset({Moment(sender, 1, kind)}) if sender == "dev-001" else frozenset()
    terms = federation(federation={"clients": 8, "cohort": 8, "rounds": 1})
    village = Village(terms, LoseOne(sender, kind) if not lost else ScriptedFaults(lost=lost))
    assert village.run() == Complete()
    assert books.check(terms.policy.minimum_contributors) > 0


class LoseOne(ScriptedFaults):
    """Loses what the server sends of one kind to ``dev-001``."""

    def __init__(self, sender: str, kind: str) -> None:
        super().__init__()
        self._moment = Moment(sender, 1, kind)

    def copies(self, sender: str, recipient: str, data: bytes) -> list[int]:
        from secure_pfnas.runtime.faults import _moment  # noqa: PLC0415

        return [] if recipient == "dev-001" and _moment(sender, data) == self._moment else [0]


def test_oracle_06_a_sender_lost_in_mid_chunk_is_a_sender_that_said_nothing():
    settings = ChunkSettings(chunk_bytes=64, window=8, timeout_s=1.0, stale_s=60.0)
    sender, receiver = (Channel(SeededStream(n, "c"), settings) for n in (1, 2))
    for frame in sender.send(bytes(400), 0.0)[:-1]:
        assert receiver.receive(frame, 0.0)[0] == []
    receiver.due(61.0)
    assert not receiver.inbox._partial


def test_oracle_07_a_second_survivor_set_is_refused_also_after_a_restart(fleet: Fleet, tmp_path):
    committing, asked = fleet.to_committing()
    request = asked["dev-001"]
    fewer = {"survivors": request.survivors[:-1], "upload_digests": request.upload_digests[:-1]}
    signature = fleet.commit("dev-001", request)
    second = request.model_copy(update=fewer)
    assert refused(fleet.commit, "dev-001", second) is DropReason.EQUIVOCATION
    with DeviceStore(tmp_path / "device") as store:
        store.keep(RoundJoined(fleet.roster.round), 1)
        store.keep(SurvivorsSigned(fleet.roster.round, signature.digest), 2)
    with DeviceStore(tmp_path / "device") as store:
        last = store.memory().last_round
    assert refused(fleet.join, "dev-001", last_round=last) is DropReason.WRONG_ROUND
    assert committing.signatures == {}


def test_oracle_08_one_signature_under_the_threshold_reveals_nothing(fleet: Fleet):
    _, asked = fleet.to_revealing()
    request = asked["dev-002"]
    few = request.signatures[: fleet.roster.threshold - 1]
    short = request.model_copy(update={"signatures": few})
    assert refused(fleet.reveal, "dev-002", short) is DropReason.TOO_FEW_SIGNATURES


def test_oracle_09_no_self_mask_of_the_dropped_and_no_pair_of_survivors_is_revealed():
    fleet = Fleet(dict.fromkeys(names(12), (0, 1)), SIZES)
    gone = {"dev-003", "dev-007"}
    _, asked = fleet.to_revealing(absent={"dev-003"}, lost={"dev-007"})
    for cid, request in asked.items():
        if cid not in gone:
            reveal = fleet.reveal(cid, request)
            assert shares_of(reveal, SelfMaskShare) == set(fleet.slots) - gone
            assert shares_of(reveal, PairSeedShare) == gone


THIN = dict.fromkeys(names(9), (0,)) | dict.fromkeys(names(3), (0, 1)) | {"dev-008": (0, 2)}


def test_oracle_10_for_a_slot_under_m_min_no_bytes_leave_a_client():
    upload = Fleet(THIN, {0: 4, 1: 5, 2: 6}).upload("dev-008")
    assert [payload.slot for payload in upload.slots] == [0]


def test_oracle_11_a_slot_that_falls_under_m_min_stays_closed_while_others_open():
    fleet = Fleet(THIN, {0: 4, 1: 5, 2: 6})
    result = fleet.run(lost={"dev-001"})
    assert (result.opened, result.closed) == ((0,), (1, 2))
    fleet.check(result)


def test_oracle_12_a_replayed_round_and_a_used_prekey_are_refused(fleet: Fleet):
    assert refused(fleet.join, "dev-001", last_round=1) is DropReason.WRONG_ROUND
    assert refused(fleet.join, "dev-001", used_prekeys={1}) is DropReason.REUSED_PREKEY
    old = fleet.prekeys["dev-001"]
    fleet.prekeys = Fleet(WIDE, SIZES, seed=2).prekeys
    assert refused(fleet.join, "dev-001", prekey=fleet.prekeys["dev-001"]) is (
        DropReason.REUSED_PREKEY
    )
    assert fleet.join("dev-001", prekey=old)


def test_oracle_13_one_changed_bit_in_any_signed_field_is_refused(fleet: Fleet):
    """Every byte of a prekey statement, of a survivor set's digest, of a sealed letter."""
    prekey = fleet.roster.members[4].prekey
    for field in ("sequence", "mask_public", "seal_public", "signature"):
        value = getattr(prekey, field)
        changed = value ^ 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
        members = list(fleet.roster.members)
        wrong = prekey.model_copy(update={field: changed})
        members[4] = members[4].model_copy(update={"prekey": wrong})
        roster = fleet.roster.model_copy(update={"members": tuple(members)})
        roster = roster.model_copy(update={"committee": committee_of(roster)})
        assert refused(fleet.join, "dev-001", roster) is DropReason.BAD_SIGNATURE
    committing, asked = fleet.to_committing()
    signature = fleet.commit("dev-001", asked["dev-001"])
    for place in range(len(signature.signature)):
        bits = bytearray(signature.signature)
        bits[place] ^= 1 << place % 8
        wrong = signature.model_copy(update={"signature": bytes(bits)})
        assert refused(committing.receive, "dev-001", wrong) is DropReason.BAD_SIGNATURE
    town = Town()
    device = town.endpoint("dev-001", PartyRole.DEVICE)
    server = town.endpoint("server", PartyRole.SERVER)
    report = Report(upload=bytes(300), noised_correct=1)
    letter = device.seal(
        "server",
        "report",
        report,
        seal_public=server.seal_public,
        round=1,
        now_ms=town.now_ms,
    )
    envelope = Envelope.decode(letter)
    for field in ("header", "body", "signature"):
        bits = getattr(envelope, field)
        for place in range(0, len(bits), 3):
            flipped = bits[:place] + bytes([bits[place] ^ 1 << place % 8]) + bits[place + 1 :]
            wrong = envelope.model_copy(update={field: flipped}).encode()
            refused(server.open, wrong, expected=PartyRole.DEVICE, now_ms=town.now_ms)
    assert server.open(letter, expected=PartyRole.DEVICE, now_ms=town.now_ms)


def test_oracle_14_two_rosters_in_one_round_sum_to_noise():
    fleet = Fleet(dict.fromkeys(names(6), (0,)), {0: 4096})
    other = fleet.make_roster(parameters=b"x")
    total = np.zeros(4096, np.uint32)
    for number, cid in enumerate(fleet.slots):
        joined = fleet.join(cid, other if number % 2 else fleet.roster)
        upload = joined.upload(fleet.values[cid], fleet.random(cid))[1]
        total += np.frombuffer(upload.slots[0].values, "<u4")
        add_masks(total, [Stream(fleet.random(cid)(32), [(0, 4096)], negate=True)], AES)
    assert looks_uniform(total - fleet.plain_sum(0, fleet.slots), FALSE_ALARM)


@pytest.mark.parametrize(
    "pinned",
    [
        {"minimum_survivors": 4},
        {"minimum_contributors": 4},
        {"minimum_contributors": 4, "collusion": 2},  # and with it t
        {"bits": 16},
        {"clip_micro": 999_999},
        {"suite": Suite.CHACHA20},
    ],
)
def test_oracle_15_a_roster_below_the_pinned_policy_is_refused(fleet: Fleet, pinned):
    policy = stricter(**pinned)
    assert refused(fleet.join, "dev-001", policy=policy) is DropReason.POLICY_DOWNGRADE


def test_oracle_15_a_threshold_that_does_not_follow_and_another_ca_are_refused(fleet: Fleet):
    lax = fleet.roster.model_copy(update={"threshold": fleet.roster.threshold - 1})
    lax = lax.model_copy(update={"committee": committee_of(lax)})
    assert refused(fleet.join, "dev-001", lax) is DropReason.POLICY_DOWNGRADE

    class AnotherAuthority:
        def party(self, certificate: bytes):
            raise Rejected(DropReason.UNTRUSTED_CERTIFICATE)

    stranger = {"trust": AnotherAuthority()}
    assert refused(fleet.join, "dev-001", **stranger) is DropReason.UNTRUSTED_CERTIFICATE


@pytest.mark.parametrize("bits", BITS)
def test_oracle_16_sums_that_could_wrap_cannot_be_made_and_the_largest_are_exact(bits: int):
    margin = 1000
    most = (MODULUS - 1 - 2 * margin) // (2**bits - 1)
    quantizer = Quantizer(1.0, bits, most, margin)
    for one_more in ({"summands": most + 1}, {"summands": most, "noise_margin": margin + 2**bits}):
        with pytest.raises(ValueError, match="overflow"):
            Quantizer(**{"bound": 1.0, "bits": bits, "noise_margin": margin, **one_more})
    top = int(quantizer.encode(np.ones(1, np.float32), SeededStream(1, "top"))[0])
    for noise in (-margin, margin):
        total = np.array([(top * most + noise) % MODULUS], np.uint32)
        value = most + noise * quantizer.step
        assert quantizer.decode_sum(total, most)[0] == pytest.approx(value, abs=1e-6)
    members = (2**32 - 1) // (2**bits - 1)
    check_headroom(bits, members)
    with pytest.raises(ValueError, match="exceed"):
        check_headroom(bits, members + 1)


def test_oracle_17_a_late_upload_is_not_derivable_from_all_that_was_revealed(monkeypatch):
    """By rank: its unit vector is not in the span of all that the server holds."""
    observer = Observer().watch(monkeypatch)
    fleet = Fleet(dict.fromkeys(names(7), (0, 1)), {0: 3, 1: 2})
    fleet.run(lost={"dev-003"})
    slots = [system for _, _, system in systems(observer, fleet.sizes)]
    assert len(slots) == 2
    for system in slots:
        assert ("x", "dev-003", "") in system.unknowns
        assert not any(kind == "x" for kind, _, _ in system.solved())
    affair = observer.affairs[rid(fleet.roster)]
    shared = {("dev-000", "pair", "dev-003"), ("dev-003", "pair", "dev-000")}
    assert shared <= affair.known(frozenset())


def test_oracle_18_misshapen_slots_and_chunks_are_refused_in_bounded_memory(fleet: Fleet):
    server, upload = fleet.server(), fleet.upload("dev-001")
    first, second = upload.slots
    long = SlotPayload(slot=first.slot, values=first.values + bytes(4))
    for slots, reason in (
        ((long, second), DropReason.WRONG_LENGTH),
        ((first, first), DropReason.WRONG_SLOT),
        ((second, first), DropReason.WRONG_SLOT),
    ):
        wrong = upload.model_copy(update={"slots": slots})
        assert refused(server.receive, "dev-001", wrong) is reason
    once = server.receive("dev-001", upload)
    assert once.receive("dev-001", upload) is once
    assert refused(Upload.decode, bytes(Upload.LIMIT + 1)) is DropReason.OVERSIZED
    settings = ChunkSettings(chunk_bytes=64, window=8, transfer_bytes=1000)
    sender, receiver = (Channel(SeededStream(n, "c"), settings) for n in (1, 2))
    frames = sender.send(bytes(300), 0.0)
    doubled = [frames[i % len(frames)] for i in (3, 1, 1, 0, 4, 2, 3, 4)]
    delivered = [payload for frame in doubled for payload in receiver.receive(frame, 0.0)[0]]
    assert delivered == [bytes(300)]
    assert refused(receiver.receive, frames[0] + bytes(400), 0.0) in {
        DropReason.OVERSIZED,
        DropReason.MALFORMED,
    }


def test_oracle_19_no_reward_is_in_the_span_of_all_released_scalars():
    """A report's only number is noised; raw sums over slots would be solved."""
    fields = {field for kind in FROM_DEVICE.values() for field in kind.model_fields}
    assert set(Report.model_fields) == {"upload", "noised_correct"}
    assert not fields & {"loss", "accuracy", "correct", "num_examples", "train_time"}
    released = np.hstack([np.eye(40), np.eye(40)])  # reward and its own fresh noise
    assert determined(np.vstack([released, memberships(40, 12, 5, 1) @ released])) == 0
    assert determined(memberships(40, 12, 5, 1)) > 30


def test_oracle_20_shares_under_the_threshold_say_nothing_and_wrong_ones_are_found():
    shares = dict(enumerate(shamir.split(b"\x2a", 4, 3, SeededStream(3, "s")), start=1))
    for a, b in combinations(shares, 2):
        fits = {
            shamir.interpolate({0: bytes([claimed]), a: shares[a], b: shares[b]}, at=9)
            for claimed in range(256)
        }
        assert len(fits) == 256
    secret = os.urandom(32)
    ours = shamir.split(secret, 7, 4, os.urandom)
    vault = [bytearray(share) + bytes([x]) for x, share in enumerate(ours, start=1)]
    assert bytes(pyshamir.combine(vault[2:6])) == secret
    given = dict(enumerate(ours, start=1)) | {2: bytes(32)}
    commit = lambda _, seed: self_commitment(bytes(32), "d", 0, seed)  # noqa: E731
    recovery = Recovery(4)
    deal = Deal("d", given, commit, (self_commitment(bytes(32), "d", 0, secret),))
    assert recovery.recover(deal) == (secret,)
    assert recovery.disputes == {("d", 2)}


def test_the_oracles_are_twenty():
    numbers = {name[12:14] for name in globals() if name.startswith("test_oracle_")}
    assert numbers == {f"{number:02d}" for number in range(1, 21)}
