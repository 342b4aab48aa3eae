"""What every scheme of secure aggregation promises. A scheme's test inherits this suite.

A scheme brings a fleet: a whole round in memory, every message encoded and decoded on its way, with
the steps of ``tests.secagg.fleet.Fleet``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from secure_pfnas.errors import AbortReason, DropReason, Rejected
from secure_pfnas.secagg.parameters import ClientPolicy
from secure_pfnas.secagg.server import Aborted
from secure_pfnas.secagg.unmask import Unmasked
from tests.secagg.fleet import names, signer, stricter

SIZES = {0: 5, 1: 2_500, 2: 3, 4: 1}
SIX = names(6)


def refusal(step, *arguments, **named) -> Rejected:
    with pytest.raises(Rejected) as refused:
        step(*arguments, **named)
    return refused.value


class AggregationConformance:
    """Inherit, name the fleet and the terms."""

    fleet: ClassVar[Any]
    terms: ClassVar[ClientPolicy]

    def party(self, slots=None, **terms):
        given = dict.fromkeys(SIX, (0, 1, 2, 4)) if slots is None else slots
        return self.fleet(given, SIZES, terms=stricter(self.terms, **terms))

    def opened(self, result) -> Unmasked:
        assert isinstance(result, Unmasked), result
        return result

    @pytest.mark.parametrize("absent", [(), SIX[:1], SIX[1:3]])
    def test_sums_are_the_plain_sums_of_whoever_uploaded(self, absent):
        party = self.party()
        result = self.opened(party.run(absent=absent))
        assert set(result.survivors) == set(SIX) - set(absent)
        party.check(result)

    def test_the_largest_values_do_not_wrap(self):
        party = self.party()
        most = 2**self.terms.bits - 1
        for held in party.values.values():
            for slot in held:
                held[slot][:] = most
        result = self.opened(party.run())
        assert all((part.total == 6 * most).all() for part in result.sums.values())

    def test_a_late_upload_is_in_no_sum(self):
        party = self.party()
        result = self.opened(party.run(lost=SIX[2:3]))
        assert SIX[2] not in result.survivors
        party.check(result)

    def test_a_slot_of_too_few_members_carries_no_bytes_and_stays_closed(self):
        slots = {cid: (0, 1) if n < 2 else (0,) for n, cid in enumerate(SIX)}
        party = self.party(slots)
        party.collected(SIX)
        assert [entry.slot for entry in party.sent[SIX[0]].slots] == [0]
        result = self.opened(self.party(slots).run())
        assert (result.opened, result.closed) == ((0,), (1,))

    def test_a_slot_that_falls_under_the_minimum_stays_closed_while_others_open(self):
        slots = {cid: (0, 1) if n < 3 else (0,) for n, cid in enumerate(SIX)}
        party = self.party(slots)
        result = self.opened(party.run(absent=SIX[:1]))
        assert (result.opened, result.closed) == ((0,), (1,))
        party.check(result)

    def test_too_few_survivors_end_the_round(self):
        result = self.party().run(absent=SIX[2:])
        assert isinstance(result, Aborted)
        assert result.reason is AbortReason.TOO_FEW_SURVIVORS

    def test_a_threshold_of_signatures_is_enough_and_one_less_is_not(self):
        party = self.party()
        spare = len(party.roster.committee) - party.roster.threshold
        silent = party.roster.committee[::-1]
        party.check(self.opened(party.run(silent_commit=silent[:spare])))
        result = self.party().run(silent_commit=silent[: spare + 1])
        assert isinstance(result, Aborted)
        assert result.reason is AbortReason.TOO_FEW_SIGNATURES

    def test_a_second_survivor_set_is_never_signed_and_the_same_one_again_alike(self):
        party = self.party()
        _, requests = party.to_committing()
        member, request = next(iter(requests.items()))
        first = party.commit(member, request)
        other = request.model_copy(
            update={
                "survivors": request.survivors[1:],
                "upload_digests": request.upload_digests[1:],
            }
        )
        refused = refusal(party.rounds[member].commit, other, signer(member))
        assert refused.reason is DropReason.EQUIVOCATION
        assert party.commit(member, request) == first

    def test_a_set_below_the_minimum_is_not_signed(self):
        party = self.party()
        _, requests = party.to_committing()
        member, request = next(iter(requests.items()))
        few = request.model_copy(
            update={
                "survivors": request.survivors[:2],
                "upload_digests": request.upload_digests[:2],
            }
        )
        refused = refusal(party.rounds[member].commit, few, signer(member))
        assert refused.reason is DropReason.TOO_FEW_SURVIVORS

    def test_another_upload_in_ones_name_is_not_signed(self):
        party = self.party()
        _, requests = party.to_committing()
        member, request = next(iter(requests.items()))
        forged = request.model_copy(update={"upload_digests": (bytes(32),) * 6})
        refused = refusal(party.rounds[member].commit, forged, signer(member))
        assert refused.reason is DropReason.WRONG_DIGEST

    def test_nothing_is_opened_for_one_signature_too_few(self):
        party = self.party()
        _, requests = party.to_revealing()
        member, request = next(iter(requests.items()))
        few = request.signatures[: party.roster.threshold - 1]
        refused = refusal(party.reveal, member, request.model_copy(update={"signatures": few}))
        assert refused.reason is DropReason.TOO_FEW_SIGNATURES

    def test_a_signature_counts_once(self):
        party = self.party()
        _, requests = party.to_revealing()
        member, request = next(iter(requests.items()))
        again = request.signatures[:1] * party.roster.threshold
        refused = refusal(party.reveal, member, request.model_copy(update={"signatures": again}))
        assert refused.reason is DropReason.DUPLICATE_MEMBER

    def test_nothing_is_opened_for_another_set_than_the_signed_one(self):
        party = self.party()
        _, requests = party.to_revealing()
        member, request = next(iter(requests.items()))
        commit = request.commit.model_copy(update={"upload_digests": (bytes(32),) * 6})
        refused = refusal(party.reveal, member, request.model_copy(update={"commit": commit}))
        assert refused.reason is DropReason.EQUIVOCATION

    def test_another_rounds_messages_are_refused(self):
        party = self.party()
        _, requests = party.to_committing()
        member, request = next(iter(requests.items()))
        other = request.model_copy(update={"rid": bytes(32)})
        refused = refusal(party.rounds[member].commit, other, signer(member))
        assert refused.reason is DropReason.WRONG_ROUND
        server = self.party().server()
        foreign = party.sent[SIX[0]].model_copy(update={"rid": bytes(32)})
        refused = refusal(server.receive, SIX[0], foreign)
        assert (refused.reason, refused.peer) == (DropReason.WRONG_ROUND, SIX[0])

    def test_an_upload_counts_once_and_a_second_other_one_is_equivocation(self):
        party = self.party()
        server = party.collected(SIX)
        message = party.sent[SIX[0]]
        assert server.receive(SIX[0], message) is server
        refused = refusal(server.receive, SIX[0], party.altered(message))
        assert (refused.reason, refused.peer) == (DropReason.EQUIVOCATION, SIX[0])

    def test_uploads_of_other_slots_or_strangers_are_refused_by_name(self):
        party = self.party()
        server = party.collected(SIX[1:])
        message = party.sent[SIX[1]]
        refused = refusal(server.receive, "stranger", message)
        assert (refused.reason, refused.peer) == (DropReason.UNKNOWN_MEMBER, "stranger")
        short = message.model_copy(update={"slots": message.slots[:-1]})
        refused = refusal(server.receive, SIX[0], short)
        assert (refused.reason, refused.peer) == (DropReason.WRONG_SLOT, SIX[0])

    def test_slots_of_another_length_are_refused_by_name(self):
        party = self.party()
        server = party.collected(SIX[1:])
        refused = refusal(server.receive, SIX[0], party.cut(party.sent[SIX[1]]))
        assert (refused.reason, refused.peer) == (DropReason.WRONG_LENGTH, SIX[0])

    def test_an_upload_fits_its_announced_limit(self):
        party = self.party()
        server = party.server()
        party.collected(SIX)
        assert len(party.sent[SIX[0]].encode()) <= server.upload_limit(SIX[0])
        assert server.upload_limit("stranger") == 0

    @pytest.mark.parametrize(
        "pinned",
        [{"minimum_contributors": 4}, {"collusion": 2, "minimum_contributors": 4}, {"bits": 16}],
    )
    def test_a_laxer_round_than_the_pinned_policy_is_refused(self, pinned):
        party = self.party()
        refused = refusal(party.join, SIX[0], policy=stricter(self.terms, **pinned))
        assert refused.reason is DropReason.POLICY_DOWNGRADE

    def test_a_round_of_another_scheme_is_refused(self):
        party = self.party()
        others = {"masking": "ckks", "ckks": "masking"}
        kind = type(self.terms.scheme)
        foreign = kind(others[self.terms.scheme.value])
        refused = refusal(party.join, SIX[0], policy=stricter(self.terms, scheme=foreign))
        assert refused.reason is DropReason.POLICY_DOWNGRADE
        roster = party.make_roster(terms=stricter(self.terms, scheme=foreign))
        refused = refusal(party.join, SIX[0], roster)
        assert refused.reason is DropReason.POLICY_DOWNGRADE

    def test_a_round_not_later_than_the_last_is_refused(self):
        refused = refusal(self.party().join, SIX[0], last_round=1)
        assert refused.reason is DropReason.WRONG_ROUND

    def test_values_of_another_size_or_type_are_our_bug(self):
        party = self.party()
        party.collected(SIX[1:])
        party.values[SIX[0]][1] = np.zeros(7, np.uint32)
        with pytest.raises(ValueError, match="slot 1 needs 2500"):
            party.upload(SIX[0])

    def test_answers_come_the_same_when_asked_again(self):
        party = self.party()
        _, requests = party.to_revealing()
        member, request = next(iter(requests.items()))
        assert party.reveal(member, request) == party.reveal(member, request)
