"""Homomorphic encryption: members open sums of exactly the signed contributors, nothing else."""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np
import pytest

from secure_pfnas.errors import AbortReason, DropReason, ExitCode, UserError
from secure_pfnas.secagg.ckks import ring, tags
from secure_pfnas.secagg.ckks.backend import KEY_BYTES_MAX, SecretKey
from secure_pfnas.secagg.ckks.client import Committed
from secure_pfnas.secagg.ckks.contributors import decryptors
from secure_pfnas.secagg.ckks.messages import EncryptedSlot, RoundKey
from secure_pfnas.secagg.keys import Route, seal
from secure_pfnas.secagg.messages import SealedShares
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.secagg.server import Aborted
from secure_pfnas.secagg.unmask import Unmasked
from tests.benchmarks.backends import ERROR_GOAL, measured
from tests.conformance.aggregation import refusal
from tests.secagg.ckks_fleet import CkksFleet
from tests.secagg.fleet import TERMS, names, stricter

tenseal = pytest.importorskip("tenseal")

SIZES = {0: 6, 1: 2_100}
SIX = names(6)
CKKS = stricter(TERMS, scheme=Scheme.CKKS)
RID, KEY = bytes(32), bytes(range(32))


def fleet(**changes) -> CkksFleet:
    return CkksFleet(dict.fromkeys(SIX, (0, 1)), SIZES, terms=stricter(CKKS, **changes))


@pytest.fixture(scope="module")
def secret() -> SecretKey:
    return SecretKey.make()


def asked(party: CkksFleet):
    """A member that was asked, and what it was asked."""
    server, requests = party.to_revealing()
    return server, *next(iter(requests.items()))


def instead(request, slot: int, **changes):
    """The request with something else for one slot."""
    slots = tuple(
        given.model_copy(update=changes) if given.slot == slot else given for given in request.slots
    )
    return request.model_copy(update={"slots": slots})


def coefficients(entry: EncryptedSlot) -> ring.Coefficients:
    return ring.read(entry.ciphertext, SIZES[entry.slot])


def written(total: ring.Coefficients) -> bytes:
    return total.astype("<u8").tobytes()


# What a server may try instead of a sum ------------------------------------------------------


@pytest.mark.parametrize("victim", SIX[:2])
def test_a_single_ciphertext_is_no_sum(victim: str):
    """The server claims six signed contributors and hands over one: with its true tag, too."""
    party = fleet()
    _, member, request = asked(party)
    one = party.sent[victim].slots[0]
    forged = instead(request, 0, ciphertext=one.ciphertext, tag=one.tag)
    assert refusal(party.reveal, member, forged).reason is DropReason.WRONG_SUM
    forged = instead(request, 0, ciphertext=one.ciphertext)
    assert refusal(party.reveal, member, forged).reason is DropReason.WRONG_SUM


def test_without_the_check_of_tags_a_single_ciphertext_would_be_opened(monkeypatch):
    """The attack is real: this is what the check keeps out."""
    monkeypatch.setattr("secure_pfnas.secagg.ckks.client.is_sum", lambda *_, **__: True)
    party = fleet()
    _, member, request = asked(party)
    one = party.sent[SIX[0]].slots[0]
    answer = party.reveal(member, instead(request, 0, ciphertext=one.ciphertext, tag=one.tag))
    assert np.array_equal(np.frombuffer(answer.slots[0].values, "<u4"), party.values[SIX[0]][0])


def test_a_sum_that_leaves_one_out_or_takes_one_twice_is_refused():
    party = fleet()
    _, member, request = asked(party)
    parts = [party.sent[cid].slots[0] for cid in SIX]
    for chosen in (parts[1:], [*parts, parts[0]]):
        total, made = coefficients(chosen[0]), chosen[0].tag
        for part in chosen[1:]:
            total, made = ring.add(total, coefficients(part)), (made + part.tag) % ring.PRIME
        forged = instead(request, 0, ciphertext=written(total), tag=made)
        assert refusal(party.reveal, member, forged).reason is DropReason.WRONG_SUM


def test_a_multiple_of_one_coefficient_or_one_part_more_is_refused():
    party = fleet()
    _, member, request = asked(party)
    total = coefficients(request.slots[0])
    for place in (0, ring.DEGREE, 2 * ring.DEGREE - 1):
        other = total.copy()
        other[0, place] = (int(other[0, place]) + 1) % ring.PRIME
        forged = instead(request, 0, ciphertext=written(other))
        assert refusal(party.reveal, member, forged).reason is DropReason.WRONG_SUM


def test_one_slot_does_not_stand_in_for_another():
    party = CkksFleet(dict.fromkeys(SIX, (0, 1)), {0: 6, 1: 6}, terms=CKKS)
    _, member, request = asked(party)
    other = request.slots[1]
    forged = instead(request, 0, ciphertext=other.ciphertext, tag=other.tag)
    assert refusal(party.reveal, member, forged).reason is DropReason.WRONG_SUM


def test_slots_that_the_signed_set_does_not_open_are_not_decrypted():
    party = CkksFleet({cid: (0, 1) if n < 3 else (0,) for n, cid in enumerate(SIX)}, SIZES, CKKS)
    server, requests = party.to_revealing(absent=SIX[:1])
    assert list(server.opened) == [0]
    member, request = next(iter(requests.items()))
    closed = party.sent[SIX[1]].slots[1]
    more = request.model_copy(update={"slots": (*request.slots, closed)})
    assert refusal(party.reveal, member, more).reason is DropReason.WRONG_SLOT


def test_twenty_devices_of_the_compact_space_get_the_masked_sums_to_the_bit():
    """Three of them dropped; every coordinate within 1e-4 of the sum of the floats."""
    _, facts = measured()
    assert facts["same"]
    assert facts["opened"] > 20
    assert facts["ckks"] <= ERROR_GOAL


# Who holds which key -------------------------------------------------------------------------


def test_nothing_the_server_is_sent_holds_the_key():
    party = fleet()
    party.to_revealing()
    exported, tag_key = party.keyed.secret.export(), party.keyed.tag_key
    seen = [party.dealt.encode(), *(message.encode() for message in party.sent.values())]
    windows = [exported[start : start + 24] for start in range(0, len(exported), 4096)]
    for data in seen:
        assert tag_key not in data
        assert not any(window in data for window in windows)


def test_a_box_opens_for_its_member_alone():
    party = fleet()
    party.server()
    one, other = (cid for cid in islice((c for c in SIX if c != party.dealer), 2))
    refused = refusal(party.join(one).receive_key, party.boxes[other])
    assert (refused.reason, refused.peer) == (DropReason.UNDECIPHERABLE, party.dealer)


def test_only_the_dealer_makes_a_key_and_only_once():
    party = fleet()
    other = next(cid for cid in SIX if cid != party.dealer)
    assert refusal(party.join(other).deal, party.random(other)).reason is DropReason.WRONG_STATE
    party.server()
    keying = party.keying().receive(party.dealer, party.dealt)
    assert refusal(keying.receive, other, party.dealt).reason is DropReason.WRONG_ROLE
    _, second = party.join(party.dealer).deal(party.random("again"))
    assert refusal(keying.receive, party.dealer, second).reason is DropReason.EQUIVOCATION
    few = party.dealt.model_copy(update={"boxes": party.dealt.boxes[1:]})
    assert refusal(keying.receive, party.dealer, few).reason is DropReason.WRONG_COMMITTEE
    foreign = party.dealt.model_copy(update={"rid": RID})
    assert refusal(keying.receive, party.dealer, foreign).reason is DropReason.WRONG_ROUND


def test_without_its_dealer_a_round_ends_and_says_who_was_missing():
    party = fleet()
    assert not party.keying().ready
    assert party.keying().close() == Aborted(AbortReason.TOO_FEW_MEMBERS)


def boxed(party: CkksFleet, cid: str, content: RoundKey):
    """What the dealer might seal to a member instead of a key."""
    box = seal(
        party.prekeys[party.dealer].seal_key,
        party.prekeys[cid].publics()[1],
        Route(party.join(cid).seat.rid, party.dealer, cid),
        content.encode(),
    )
    return party.boxes[cid].model_copy(update={"ciphertext": box})


@pytest.mark.parametrize("blob", [b"", b"\x08\x01" * 40, bytes(KEY_BYTES_MAX)])
def test_a_dealer_that_seals_no_key_is_named(blob: bytes):
    party = fleet()
    party.server()
    cid = next(c for c in SIX if c != party.dealer)
    box = boxed(party, cid, RoundKey(secret=blob, tag_key=KEY))
    refused = refusal(party.join(cid).receive_key, box)
    assert (refused.reason, refused.peer) == (DropReason.MALFORMED, party.dealer)


def test_a_key_of_other_parameters_is_refused():
    other = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        poly_modulus_degree=4096,
        coeff_mod_bit_sizes=[60, 40],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
    )
    other.global_scale = 2**20
    blob = other.serialize(save_secret_key=True, save_public_key=False)
    assert refusal(SecretKey.load, blob, "dev").reason is DropReason.MALFORMED
    public = other.serialize(
        save_secret_key=False,
        save_public_key=False,
        save_galois_keys=False,
        save_relin_keys=False,
    )
    assert refusal(SecretKey.load, public, "dev").reason is DropReason.MALFORMED
    assert refusal(SecretKey.load, bytes(KEY_BYTES_MAX + 1), "dev").reason is DropReason.OVERSIZED


def test_a_machine_without_the_library_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(UserError, match="TenSEAL") as told:
        SecretKey.make()
    assert told.value.code is ExitCode.CONFIG
    assert "pip install tenseal" in told.value.todo


# Decryptors ----------------------------------------------------------------------------------


def lying(answer):
    first = answer.slots[0].model_copy(update={"values": bytes(4 * SIZES[0])})
    return answer.model_copy(update={"slots": (first, *answer.slots[1:])})


def test_as_many_liars_as_may_collude_are_outvoted_and_named():
    party = fleet()
    server, requests = party.to_revealing()
    assert len(requests) == 3  # 2c + 1
    liar, *honest = requests
    server = server.receive(liar, lying(party.reveal(liar, requests[liar])))
    assert not server.ready
    for cid in honest:
        server = server.receive(cid, party.reveal(cid, requests[cid]))
    result = server.close()
    assert isinstance(result, Unmasked)
    assert result.blamed == (liar,)
    party.check(result)


def test_one_more_liar_costs_the_round_and_no_wrong_sum_comes_of_it():
    party = fleet()
    server, requests = party.to_revealing()
    for number, cid in enumerate(requests):
        answer = party.reveal(cid, requests[cid])
        first = answer.slots[0].model_copy(update={"values": bytes([number]) * 4 * SIZES[0]})
        answer = answer.model_copy(update={"slots": (first, *answer.slots[1:])})
        server = server.receive(cid, answer)
    assert server.close() == Aborted(AbortReason.BAD_SHARES)


def test_a_single_answer_is_not_enough():
    party = fleet()
    server, member, request = asked(party)
    server = server.receive(member, party.reveal(member, request))
    assert server.close() == Aborted(AbortReason.TOO_FEW_SHARES)


def test_answers_of_strangers_other_rounds_slots_and_lengths_are_refused():
    party = fleet()
    server, member, request = asked(party)
    answer = party.reveal(member, request)
    cases = {
        DropReason.WRONG_COMMITTEE: ("stranger", answer),
        DropReason.WRONG_ROUND: (member, answer.model_copy(update={"rid": RID})),
        DropReason.WRONG_SLOT: (member, answer.model_copy(update={"slots": answer.slots[1:]})),
        DropReason.WRONG_LENGTH: (
            member,
            answer.model_copy(
                update={
                    "slots": (
                        answer.slots[0].model_copy(update={"values": b"1234"}),
                        *answer.slots[1:],
                    )
                }
            ),
        ),
    }
    for reason, (cid, message) in cases.items():
        refused = refusal(server.receive, cid, message)
        assert (refused.reason, refused.peer) == (reason, cid)
    told = server.receive(member, answer)
    assert refusal(told.receive, member, lying(answer)).reason is DropReason.EQUIVOCATION


def test_twice_the_colluders_and_one_are_asked():
    assert decryptors("abcdefgh", 3) == tuple("abcdefg")
    assert decryptors("abc", 3) == tuple("abc")


# Ciphertexts and tags ------------------------------------------------------------------------


def test_a_coefficient_outside_the_ring_is_refused_by_name():
    for bad in (ring.PRIME, 2**64 - 1):
        data = bad.to_bytes(8, "little") + bytes(ring.CIPHERTEXT_BYTES - 8)
        refused = refusal(ring.read, data, 1, "dev")
        assert (refused.reason, refused.peer) == (DropReason.MALFORMED, "dev")
    assert ring.read(bytes(ring.CIPHERTEXT_BYTES), 1).shape == (1, 2 * ring.DEGREE)


def test_addition_is_modular():
    a = np.array([[ring.PRIME - 1, 5, 0]], np.uint64)
    assert ring.add(a, a).tolist() == [[ring.PRIME - 2, 10, 0]]


def test_codes_survive_exactly_up_to_the_largest_sum(secret: SecretKey):
    """Whoever decrypts sees integers, never the noise: near 2**32 and for many summands, too."""
    codes = np.array([0, 1, 2**20 - 1, 2**31, 2**32 - 1] * 500, np.uint32)
    total = ring.read(secret.encrypt(codes), codes.size)
    assert np.array_equal(secret.decrypt(total, codes.size), codes)
    small = ring.read(secret.encrypt(np.full(2048, 4095, np.uint32)), 2048)
    summed = small
    for _ in range(10):  # 1,024 summands, by doubling: the noise adds up as badly as it can
        summed = ring.add(summed, summed)
    assert (secret.decrypt(summed, 2048) == 4095 * 1024).all()


def test_what_is_no_encryption_of_a_sum_is_not_rounded_to_one(secret: SecretKey):
    rng = np.random.default_rng(1)
    junk = rng.integers(0, ring.PRIME, (1, 2 * ring.DEGREE), dtype=np.uint64)
    assert refusal(secret.decrypt, junk, 10).reason is DropReason.MALFORMED


def test_two_encryptions_of_one_update_have_nothing_in_common(secret: SecretKey):
    codes = np.full(2048, 7, np.uint32)
    one, other = secret.encrypt(codes), secret.encrypt(codes)
    assert (
        len(
            {one[k : k + 8] for k in range(0, len(one), 8)}
            & {other[k : k + 8] for k in range(0, len(other), 8)}
        )
        == 0
    )


def test_tags_agree_with_the_definition_in_plain_integers(monkeypatch):
    rng = np.random.default_rng(2)
    c, d = (rng.integers(0, ring.PRIME, (1, 50), dtype=np.uint64) for _ in range(2))
    both = tags.tag(KEY, RID, 3, "a", c) + tags.tag(KEY, RID, 3, "b", d)
    check = {"total": ring.add(c, d), "tags": both % ring.PRIME}
    assert tags.is_sum(KEY, RID, 3, ("a", "b"), **check)
    assert not tags.is_sum(KEY, RID, 3, ("a",), **check)
    assert not tags.is_sum(KEY, RID, 4, ("a", "b"), **check)
    assert not tags.is_sum(RID, RID, 3, ("a", "b"), **check)
    unit = np.zeros((1, 50), np.uint64)
    unit[0, 7] = 1
    k7 = tags._product(KEY, RID, 3, unit)
    unit[0, 7] = ring.PRIME - 1
    assert tags._product(KEY, RID, 3, unit) == (ring.PRIME - 1) * k7 % ring.PRIME
    whole = tags._product(KEY, RID, 3, c)
    monkeypatch.setattr(tags, "_AT_A_TIME", 16)
    assert tags._product(KEY, RID, 3, c) == whole


def test_a_member_that_signed_holds_the_state_that_decrypts():
    party = fleet()
    _, requests = party.to_revealing()
    assert all(isinstance(party.rounds[cid], Committed) for cid in requests)
    assert all(isinstance(box, SealedShares) for box in party.dealt.boxes)
