"""A federation of silos under one key of their own, in the roles that masks are driven by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secure_pfnas.errors import Complete
from secure_pfnas.roles.events import Received
from secure_pfnas.roles.messages import FROM_SERVER
from secure_pfnas.runtime.faults import ScriptedFaults, parse_moments
from secure_pfnas.secagg.ckks.client import Keyed
from secure_pfnas.secagg.ckks.contributors import dealer_of
from secure_pfnas.secagg.ckks.messages import KeyBox, KeyDeal, KeyRequest
from secure_pfnas.secagg.ckks.server import Decrypting
from secure_pfnas.secagg.keys import Route, make_prekeys, seal
from secure_pfnas.secagg.messages import rid
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.randomness import SeededStream
from tests.roles.hall import Hall, hall, of
from tests.simulation.village import Books, Village, federation, signer

tenseal = pytest.importorskip("tenseal")
DEV = "dev-002"
SILO = {"scheme": "ckks", "trust": "silo"}


class Ciphers(Books):
    """The same books under encryption."""

    def watch(self, patch: Any) -> Books:
        upload, close = Keyed.upload, Decrypting.close

        def uploaded(state: Keyed, values: Any, random: Any, *lanes: Any) -> Any:
            own = {slot: values[slot].copy() for slot in state.offered}
            round_ = self.given.setdefault(rid(state.seat.roster), {})
            assert state.seat.cid not in round_, "a client uploaded twice in a round"
            round_[state.seat.cid] = own
            return upload(state, values, random, *lanes)

        def closed(state: Decrypting, *lanes: Any) -> Any:
            result = close(state, *lanes)
            if isinstance(result, Unmasked):
                self.opened[state.table.rid] = result
            return result

        patch.setattr(Keyed, "upload", uploaded)
        patch.setattr(Decrypting, "close", closed)
        return self


@pytest.fixture
def books(monkeypatch) -> Books:
    return Ciphers().watch(monkeypatch)


def silo(**sections: Any):
    secagg = {**SILO, **sections.pop("secagg", {})}
    return federation(secagg=secagg, **sections)


def test_masks_and_ciphertexts_end_in_the_same_bits(books):
    """Same settings and seed: only the scheme differs, and not one bit of the supernet."""
    seeded = {"seeded_noise": True}
    one, other = Village(federation(privacy=seeded)), Village(silo(privacy=seeded))
    assert one.run() == other.run() == Complete()
    assert one.server.outcomes() == other.server.outcomes() == ["COMPLETE", "COMPLETE"]
    assert np.array_equal(one.server.checkpoints[2].vector, other.server.checkpoints[2].vector)
    assert books.check(minimum=3) > 4


def test_whole_clients_noise_passes_through_ciphertexts_as_through_masks(books):
    noise = {"seeded_noise": True, "weight_noise": True, "client_epsilon": 1000.0}
    one, other = Village(federation(privacy=noise)), Village(silo(privacy=noise))
    assert one.run() == other.run() == Complete()
    assert np.array_equal(one.server.checkpoints[2].vector, other.server.checkpoints[2].vector)


# Dropouts at every stage --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["report", "commit_signature", "decrypted"])
def test_a_device_that_dies_in_any_phase_costs_no_round(books, moment):
    dies = ScriptedFaults(fatal=parse_moments([f"dev-003@1:{moment}"]))
    village = Village(silo(federation={"rounds": 1}), faults=dies)
    assert village.run() == Complete()
    assert village.server.outcomes() == ["COMPLETE"]
    assert books.check(minimum=3)


@pytest.fixture
def gathered() -> Hall:
    house = hall(secagg=SILO)
    house.gather()
    return house


def dealer(house: Hall) -> str:
    return dealer_of(house.roster)


def test_only_the_dealer_is_asked_before_there_is_a_key(gathered):
    assert [(x.recipient, x.kind) for x in gathered.post] == [(dealer(gathered), "key_request")]
    gathered.deliver(held=lambda x: x.kind == "task")
    asked = {x.recipient for x in gathered.post if x.kind == "task"}
    assert asked == set(gathered.names)
    spent = [len(shelf.remembered.ledger.entries) for shelf in gathered.shelves.values()]
    assert spent == [0] * len(spent), "nothing is spent before there is a key"


def test_a_dealer_that_drops_ends_the_round_before_anybody_spent_and_the_next_has_another(
    gathered,
):
    lost = dealer(gathered)
    gathered.deliver(lost=of(lost, "key_request"))
    gathered.fire("key-1")
    assert gathered.shelf.outcomes() == ["too_few_members"]
    assert all(not shelf.remembered.ledger.entries for shelf in gathered.shelves.values())
    assert gathered.drops(lost) == [(1, lost, "key", "timed_out")]
    gathered.deliver()
    assert gathered.shelf.outcomes() == ["too_few_members", "COMPLETE"]
    assert lost not in gathered.shelf.started[2].architectures


def test_a_dealer_that_dies_with_the_key_is_a_dropout_like_any_other(gathered, books):
    """It dealt, so everybody else can go on; its new life has lost the key and cannot."""
    lost = dealer(gathered)
    gathered.deliver(held=lambda x: x.kind == "task")
    gathered.bear(lost)
    gathered.deliver()
    gathered.fire("train-1")
    gathered.deliver()
    assert gathered.shelf.outcomes()[0] == "COMPLETE"
    assert gathered.drops(lost)[0][2] == "train"
    assert lost not in gathered.shelf.ended[1].survivors
    assert books.check(minimum=3)


def test_a_device_without_a_key_for_it_does_not_train(gathered):
    gathered.deliver(held=lambda x: x.kind == "task")
    one, other = [name for name in gathered.names if name != dealer(gathered)][:2]
    gathered.assign(one, gathered.task(one))
    gathered.assign(other, gathered.task(other).model_copy(update={"setup": boxed(gathered, one)}))
    assert gathered.refusals(one) == ["malformed"]
    assert gathered.refusals(other) == ["undecipherable"], "another's box"
    assert not gathered.shelves[one].remembered.ledger.entries


def boxed(house: Hall, name: str) -> bytes:
    """The box that the server holds for a member, sealed by a dealer of the test's own."""
    prekey = house.devices[dealer(house)].kit.round.state
    public = next(m.prekey.seal_public for m in house.roster.members if m.cid == name)
    stranger = make_prekeys(signer("stranger"), 1, 1, SeededStream(1))[0]
    route = Route(prekey.seat.rid, dealer(house), name)
    sealed = seal(stranger.seal_key, public, route, b"a key of somebody else's")
    return KeyBox(rid=prekey.seat.rid, ciphertext=sealed).encode()


def test_a_key_from_anybody_but_the_dealer_is_refused(gathered):
    other = next(name for name in gathered.names if name != dealer(gathered))
    dealt = KeyDeal(rid=rid(gathered.roster), boxes=())
    assert gathered.server.desk.round.phase.value == "key"
    data = gathered.endpoints[other].seal(
        "server",
        "key_deal",
        dealt,
        seal_public=gathered.endpoints["server"].seal_public,
        round=1,
        now_ms=gathered.now_ms,
    )
    gathered.tell("server", Received(data))
    assert gathered.drops(other) == [(1, other, "key", "wrong_role")]
    gathered.deliver()
    assert gathered.shelf.outcomes()[0] == "COMPLETE"


def test_masks_know_no_key_request_and_no_setup():
    house = hall()
    house.gather()
    request = KeyRequest(roster=house.roster.encode())
    house.tell(DEV, Received(house.forge(DEV, "key_request", request)))
    assert house.refusals(DEV) == ["wrong_state"]
    house.assign(DEV, house.task(DEV).model_copy(update={"setup": b"x"}))
    assert house.refusals(DEV) == ["wrong_state", "malformed"]


# What a hostile server may try -------------------------------------------------------------------


def add_nothing(patch: Any) -> None:
    """The server passes one device's upload off as the sum, its true tag with it."""
    patch.setattr("secure_pfnas.secagg.ckks.server._Sum.plus", lambda first, second: first)


def test_a_single_ciphertext_is_refused_by_every_device_and_nothing_is_opened(
    gathered, monkeypatch
):
    add_nothing(monkeypatch)
    gathered.deliver(held=lambda x: x.header.round == 2)
    asked = [name for name in gathered.names if gathered.refusals(name) == ["wrong_sum"]]
    assert len(asked) == 2 * gathered.roster.collusion + 1
    gathered.fire("reveal-1")
    assert gathered.shelf.outcomes() == ["too_few_shares"]
    assert not gathered.shelf.checkpoints


def test_without_the_devices_check_the_server_would_have_opened_one_update(
    gathered, monkeypatch, books
):
    """The attack is real: with the check switched off, the sums are not what was contributed."""
    add_nothing(monkeypatch)
    monkeypatch.setattr("secure_pfnas.secagg.ckks.client.is_sum", lambda *_, **__: True)
    gathered.deliver(held=lambda x: x.header.round == 2)
    assert gathered.shelf.outcomes() == ["COMPLETE"]
    (opened,) = books.opened.values()
    (given,) = books.given.values()
    for slot, part in opened.sums.items():
        assert any(np.array_equal(part.total, own[slot]) for own in given.values() if slot in own)


@pytest.mark.parametrize(
    ("secagg", "kind", "empty"),
    [({}, "decrypt_request", "slots"), (SILO, "reveal_request", "sealed")],
)
def test_a_request_of_the_other_scheme_is_refused(secagg, kind, empty):
    house = hall(secagg=secagg)
    house.gather()
    house.deliver(held=lambda x: x.kind == "commit_signature")
    commit = house.server.desk.round.state.request
    body = FROM_SERVER[kind](commit=commit, signatures=(), **{empty: ()})
    house.tell(DEV, Received(house.forge(DEV, kind, body)))
    assert house.refusals(DEV) == ["wrong_state"]


def test_the_server_never_holds_the_key(gathered):
    """Nothing that it can open, keep or pass on has the key's bytes in it."""
    gathered.deliver(held=lambda x: x.kind == "task")
    state = gathered.devices[dealer(gathered)].kit.round.state
    key, tag_key = state.secret.export(), state.tag_key
    seen: list[bytes] = []
    unsealed = gathered.endpoints["server"].open

    def noted(data: bytes, **given: Any) -> Any:
        opened = unsealed(data, **given)
        seen.append(opened.body)
        return opened

    gathered.endpoints["server"].open = noted
    gathered.deliver()
    assert gathered.shelf.outcomes()[0] == "COMPLETE"
    assert len(seen) > len(gathered.names)
    windows = [key[start : start + 24] for start in range(256, len(key) - 24, 1024)]
    assert not any(part in body for body in seen for part in (tag_key, *windows))


def test_a_device_forgets_the_key_once_it_has_answered(gathered):
    gathered.deliver(held=lambda x: x.kind == "decrypted")
    answered = {x.sender for x in gathered.post}
    assert answered
    for name in answered:
        assert not hasattr(gathered.devices[name].kit.round.state, "secret")


def test_a_resumed_server_starts_a_new_round_with_a_new_key(gathered):
    gathered.deliver(held=lambda x: x.kind == "report")
    first, made = gathered.roster, dealer(gathered)
    key = gathered.devices[made].kit.round.state.tag_key
    gathered.post.clear()
    gathered.bear_server()
    gathered.gather()
    gathered.deliver(held=lambda x: x.kind == "report")
    assert rid(gathered.roster) != rid(first)
    assert gathered.devices[dealer(gathered)].kit.round.state.tag_key != key
    gathered.deliver()
    assert gathered.shelf.outcomes() == ["interrupted", "COMPLETE"]
