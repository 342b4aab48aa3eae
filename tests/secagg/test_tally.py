"""Memory of the server: values beyond a bound are summed as they come in, and let go."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from secure_pfnas.errors import AbortReason
from secure_pfnas.secagg.server import Aborted, Collecting
from secure_pfnas.secagg.tally import Tally
from secure_pfnas.secagg.unmask import Unmasked
from tests.secagg.fleet import Fleet, names

SIZES = {0: 40, 1: 9}
VECTOR = 4 * sum(SIZES.values())


def fleet() -> Fleet:
    return Fleet(dict.fromkeys(names(6), (0, 1)), SIZES)


def collecting(party: Fleet, limit: int) -> Collecting:
    return replace(party.server(), tally=Tally(limit))


def played(party: Fleet, server: Collecting) -> Unmasked | Aborted:
    closed = server.close()
    if isinstance(closed, Aborted):
        return closed
    closed = party.committed(*closed, ()).close()
    assert not isinstance(closed, Aborted)
    return party.revealed(*closed, ()).close()


@pytest.mark.parametrize("held", [0, 1, 3, 6])
def test_the_sums_are_the_same_however_many_uploads_are_held(held: int):
    party = fleet()
    server = collecting(party, held * VECTOR)
    for cid in names(5):
        server = server.receive(cid, party.upload(cid))
    assert len(server.tally.held) == min(held, 5)
    result = played(party, server)
    assert isinstance(result, Unmasked)
    party.check(result)


def test_no_values_of_a_folded_upload_are_kept():
    party = fleet()
    server = collecting(party, 0)
    for cid in names(6):
        server = server.receive(cid, party.upload(cid))
    assert not server.tally.held
    assert all(not upload.slots for upload in server.uploads.values())


def liar(party: Fleet, cid: str):
    """An upload whose commitments to every pair seed are another's."""
    message = party.upload(cid)
    forged = tuple(bytes(32) for _ in message.pair_commitments)
    return message.model_copy(update={"pair_commitments": forged})


@pytest.mark.parametrize("held", [0, 6])
def test_who_lies_about_pair_seeds_is_left_out_or_costs_the_round_and_is_named(held: int):
    """Held values can be left out of the sum; folded ones cannot: never a wrong sum."""
    party = fleet()
    server = collecting(party, held * VECTOR).receive("dev-000", liar(party, "dev-000"))
    for cid in names(6)[1:]:
        server = server.receive(cid, party.upload(cid))
    result = played(party, server)
    if held:
        assert isinstance(result, Unmasked)
        assert "dev-000" in result.blamed
        party.check(result)
    else:
        assert result == Aborted(AbortReason.BAD_SHARES, ("dev-000",))


def test_a_state_left_behind_folds_no_more():
    party = fleet()
    behind = collecting(party, 0).receive("dev-000", party.upload("dev-000"))
    behind.receive("dev-001", party.upload("dev-001"))
    with pytest.raises(AssertionError, match="left behind"):
        behind.receive("dev-002", party.upload("dev-002"))


def test_a_repeated_upload_is_not_folded_twice():
    party = fleet()
    message = party.upload("dev-000")
    server = collecting(party, 0).receive("dev-000", message)
    assert server.receive("dev-000", message) is server


def test_the_digest_of_an_upload_is_that_of_its_encoding():
    """Whatever the sizes of its byte strings: around those that are not copied, too."""
    for size in (10, 16_383, 16_384, 16_385, 40_000):
        party = Fleet(dict.fromkeys(names(3), (0, 1)), {0: size, 1: 5})
        message = party.upload("dev-001")
        assert message.fingerprint() == sha256(message.encode()).digest()
        assert np.frombuffer(message.slots[0].values, "<u4").size == size
