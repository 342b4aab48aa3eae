"""Keys: derived alike by both ends, differently for every other purpose."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.keys import (
    Route,
    bind,
    make_prekeys,
    pair_commitment,
    pair_seed,
    seal,
    self_commitment,
    unseal,
    verify_prekey,
)
from secure_pfnas.secagg.messages import PublicPrekey
from secure_pfnas.wire.identity import Party, PartyRole
from secure_pfnas.wire.randomness import SeededStream
from tests.secagg.fleet import signer

RID = bytes(32)
ROUTE = Route(RID, "ann", "bob")
LOW_ORDER = bytes(32)


def key(number: int) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def public(number: int) -> bytes:
    return key(number).public_key().public_bytes_raw()


def party(name: str, role: PartyRole = PartyRole.DEVICE) -> Party:
    return Party(name, role, signer(name, role).private_key.public_key())


def prekey(name: str = "ann") -> PublicPrekey:
    return make_prekeys(signer(name), 5, 1, SeededStream(1, name))[0].public(signer(name))


def test_both_ends_of_a_pair_derive_one_seed():
    assert pair_seed(key(1), public(2), RID, "ann", "bob") == pair_seed(
        key(2), public(1), RID, "bob", "ann"
    )


def test_a_seed_of_another_round_or_pair_is_another_seed():
    seeds = {
        pair_seed(key(1), public(2), rid, "ann", peer)
        for rid in (RID, b"\x01" * 32)
        for peer in ("bob", "bobby")
    }
    assert len(seeds) == 4


def test_a_box_opens_only_on_its_own_route():
    box = seal(key(1), public(2), ROUTE, b"shares")
    assert unseal(key(2), public(1), ROUTE, box) == b"shares"
    strangers = (
        Route(b"\x01" * 32, "ann", "bob"),
        Route(RID, "bob", "ann"),
        Route(RID, "ann", "bo"),
    )
    for route in strangers:
        with pytest.raises(Rejected, match="undecipherable"):
            unseal(key(2), public(1), route, box)


def test_one_changed_bit_anywhere_closes_a_box():
    box = seal(key(1), public(2), ROUTE, b"shares")
    for position in range(len(box) * 8):
        changed = bytearray(box)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(Rejected, match="undecipherable"):
            unseal(key(2), public(1), ROUTE, bytes(changed))


def test_one_changed_bit_anywhere_voids_a_prekey():
    good = prekey()
    verify_prekey(party("ann"), good)
    fields = {
        "sequence": good.sequence + 1,
        "mask_public": public(7),
        "seal_public": public(7),
    }
    for name, value in fields.items():
        with pytest.raises(Rejected) as refusal:
            verify_prekey(party("ann"), good.model_copy(update={name: value}))
        assert refusal.value.reason is DropReason.BAD_SIGNATURE
    for position in range(256):
        changed = bytearray(good.mask_public)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(Rejected, match="bad_signature"):
            verify_prekey(party("ann"), good.model_copy(update={"mask_public": bytes(changed)}))


def test_a_prekey_serves_nobody_else():
    with pytest.raises(Rejected, match="bad_signature"):
        verify_prekey(party("bob"), prekey("ann"))


def test_prekeys_belong_to_devices():
    server = signer("server", PartyRole.SERVER)
    with pytest.raises(ValueError, match="devices"):
        make_prekeys(server, 0, 1, SeededStream(1, "server"))
    with pytest.raises(Rejected, match="wrong_role"):
        verify_prekey(party("server", PartyRole.SERVER), prekey())


def test_prekeys_are_numbered_on_and_never_alike():
    prekeys = make_prekeys(signer("ann"), 7, 32, SeededStream(1, "ann"))
    assert [prekey.sequence for prekey in prekeys] == list(range(7, 39))
    assert len({raw for prekey in prekeys for raw in prekey.publics()}) == 64


def test_a_prekey_does_not_print_its_keys():
    prekey = make_prekeys(signer("ann"), 7, 1, SeededStream(1, "ann"))[0]
    assert repr(prekey) == "Prekey(sequence=7)"


def test_keys_of_low_order_are_refused():
    """Whoever signs the all-zero point would make every secret with it guessable."""
    device = signer("ann")
    statement = bind("prekey", b"ann", (5).to_bytes(8, "big"), LOW_ORDER, public(1))
    poisoned = PublicPrekey(
        sequence=5,
        mask_public=LOW_ORDER,
        seal_public=public(1),
        signature=device.sign(b"prekey", statement),
    )
    with pytest.raises(Rejected) as refusal:
        verify_prekey(party("ann"), poisoned)
    assert (refusal.value.reason, refusal.value.peer) == (DropReason.MALFORMED, "ann")


def test_commitments_bind_name_slot_and_round():
    made = {
        self_commitment(rid, cid, slot, bytes(32))
        for rid in (RID, b"\x01" * 32)
        for cid in ("ann", "bob")
        for slot in (1, 2)
    }
    assert len(made) == 8
    assert pair_commitment(RID, "ann", "bob", RID) == pair_commitment(RID, "bob", "ann", RID)
    assert pair_commitment(RID, "ann", "bob", RID) != pair_commitment(RID, "ann", "bo", RID)


def test_bound_parts_cannot_be_shifted_into_each_other():
    assert bind("x", b"ab", b"c") != bind("x", b"a", b"bc")
