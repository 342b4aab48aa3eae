"""One member sends nonsense of every sort: it is refused by name, and the others get their sums."""

from __future__ import annotations

import tracemalloc

import pytest

from secure_pfnas.roles.events import Received
from secure_pfnas.roles.messages import FROM_DEVICE, Report
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.secagg.messages import SealedShares, SlotPayload, Upload
from secure_pfnas.secagg.parameters import Suite
from secure_pfnas.wire.codec import MIB
from tests.roles.hall import Hall, of
from tests.simulation.village import Books

BAD = "dev-002"


def own_report(house: Hall) -> Report:
    """What the misbehaving device would honestly have sent."""
    house.deliver(lost=of(BAD, "report"), held=lambda letter: letter.kind != "task")
    letter = next(post for post in house.post if post.sender == BAD)
    house.post.remove(letter)
    opened = house.endpoints[SERVER].open(
        letter.data, expected=house.endpoints[BAD].signer.role, now_ms=house.now_ms
    )
    return Report.decode(opened.body)


def long_slot(upload: Upload) -> Upload:
    first, *rest = upload.slots
    longer = SlotPayload(slot=first.slot, values=first.values + bytes(4))
    return upload.model_copy(update={"slots": (longer, *rest)})


def doubled_slot(upload: Upload) -> Upload:
    first, *rest = upload.slots
    return upload.model_copy(update={"slots": (first, first, *rest)})


def stale_round(upload: Upload) -> Upload:
    return upload.model_copy(update={"rid": bytes(32)})


def wide_box(upload: Upload) -> Upload:
    first, *rest = upload.shares
    wide = SealedShares(recipient=first.recipient, ciphertext=bytes(100_000))
    return upload.model_copy(update={"shares": (wide, *rest)})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (long_slot, "wrong_length"),
        (doubled_slot, "wrong_slot"),
        (stale_round, "wrong_round"),
        (wide_box, "oversized"),
    ],
)
def test_a_spoiled_upload_costs_its_sender_the_round_and_nobody_else(
    gathered: Hall, books: Books, spoil, reason
):
    report = own_report(gathered)
    spoiled = spoil(Upload.decode(report.upload))
    body = report.model_copy(update={"upload": spoiled.encode()})
    data = gathered.forge(SERVER, "report", body, by=gathered.endpoints[BAD])
    gathered.tell(SERVER, Received(data))
    gathered.deliver()
    assert (1, BAD, "train", reason) in gathered.drops()
    assert gathered.shelf.outcomes()[0] == "COMPLETE"
    assert BAD not in gathered.shelf.ended[1].survivors
    assert books.check(gathered.terms.policy.minimum_contributors) > 0


def test_a_foreign_signature_and_a_bent_letter_change_nothing(gathered: Hall):
    report = own_report(gathered)
    data = gathered.forge(SERVER, "report", report, by=gathered.endpoints[BAD])
    for bent in (data[:-1], data + bytes(1), b"", bytes(MIB)):
        gathered.tell(SERVER, Received(bent))
    other = gathered.endpoints["dev-003"].signer
    gathered.endpoints[BAD].signer, own = other, gathered.endpoints[BAD].signer
    forged = gathered.forge(SERVER, "report", report, by=gathered.endpoints[BAD])
    gathered.endpoints[BAD].signer = own
    gathered.tell(SERVER, Received(forged))  # dev-003's, and no upload of its own shape
    reasons = {reason for _, _, _, reason in gathered.drops()}
    assert reasons <= {"malformed", "bad_signature", "wrong_slot", "wrong_committee", "replayed"}
    assert BAD in gathered.server.desk.round.pending
    gathered.tell(SERVER, Received(data))
    gathered.deliver()
    assert gathered.shelf.outcomes()[0] == "COMPLETE"


@pytest.mark.parametrize("name", ["dev-000", "dev-004"])
def test_a_downgraded_roster_is_refused_by_each_device_for_itself(gathered: Hall, name: str):
    lax = gathered.remade(suite=Suite.CHACHA20)
    gathered.assign(name, gathered.task(name, lax))
    assert gathered.refusals(name) == ["policy_downgrade"]


@pytest.mark.parametrize("kind", sorted(FROM_DEVICE))
def test_an_oversized_message_is_refused_before_it_is_parsed(kind: str):
    """The bytes are there already; refusing them takes next to nothing more."""
    message = FROM_DEVICE[kind]
    data = bytes(message.LIMIT + 1)
    tracemalloc.start()
    with pytest.raises(Exception, match="oversized"):
        message.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
