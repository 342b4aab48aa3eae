"""A device's stories: what it believes, what it refuses, and in which order it acts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secure_pfnas.nas.cost import cost
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.plan import REWARD, UPDATE
from secure_pfnas.roles.client import HELLO_EVERY_MS, Memory
from secure_pfnas.roles.events import Compute, Computed, Departed, Received
from secure_pfnas.roles.messages import Done, Farewell, Report
from secure_pfnas.roles.records import (
    LedgerAppended,
    MetricsKept,
    PersonalKept,
    SurvivorsSigned,
)
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.secagg.messages import CommitRequest, Roster, Upload
from secure_pfnas.secagg.parameters import Suite
from secure_pfnas.wire.identity import PartyRole
from tests.roles.hall import Hall, hall, identity, of
from tests.simulation.village import federation

DEV = "dev-002"


def ledger_of(house: Hall, name: str = DEV):
    return house.shelves[name].memory().ledger


def joined(effects) -> bool:
    return any(isinstance(effect, Compute) for effect in effects)


def to_commit(house: Hall) -> Hall:
    """Everybody reports; the requests to sign lie in the post."""
    house.deliver(held=lambda letter: letter.kind == "commit_request")
    return house


# The order of things -------------------------------------------------------------------------


def test_the_budget_is_reserved_before_anything_is_computed(gathered):
    effects = gathered.assign(DEV, gathered.task(DEV))
    assert gathered.kinds(effects) == ["RoundJoined", "LedgerAppended", "LedgerAppended", "Compute"]
    entries = [effect.entry for effect in effects if isinstance(effect, LedgerAppended)]
    assert [(entry.mechanism, entry.state) for entry in entries] == [
        (UPDATE, State.RESERVED),
        (REWARD, State.RESERVED),
    ]


def test_the_released_value_is_kept_before_the_report_leaves(gathered):
    gathered.deliver()
    own = [effect for name, effect in gathered.log if name == DEV]
    kinds = gathered.kinds(own)
    report = kinds.index("report")
    before = [effect for effect in own[:report] if isinstance(effect, LedgerAppended)]
    assert [(effect.entry.mechanism, effect.entry.state) for effect in before] == [
        (UPDATE, State.RESERVED),
        (REWARD, State.RESERVED),
        (UPDATE, State.RELEASED),
        (REWARD, State.RELEASED),
    ]


def test_the_signed_set_is_kept_before_the_signature_leaves(gathered):
    gathered.deliver()
    signers = set(gathered.shelves) & {
        name for name, effect in gathered.log if isinstance(effect, SurvivorsSigned)
    }
    assert signers
    for signer in signers:
        kinds = gathered.kinds([effect for name, effect in gathered.log if name == signer])
        assert kinds[kinds.index("commit_signature") - 1] == "SurvivorsSigned"


def test_what_is_raw_stays_in_the_devices_own_records(gathered):
    gathered.deliver()
    kept = [r for r in gathered.shelves[DEV].records if isinstance(r, MetricsKept | PersonalKept)]
    assert len(kept) == 2 * gathered.terms.settings.federation.rounds
    assert not any(isinstance(r, MetricsKept | PersonalKept) for r in gathered.shelf.records)


# What is refused -----------------------------------------------------------------------------


def test_a_device_with_an_exhausted_budget_trains_nothing_and_says_so(hall):
    plan, ledger = hall.terms.plan, ledger_of(hall)
    for number in (90, 91):
        for mechanism in (UPDATE, REWARD):
            charge = plan.charge(mechanism)
            ledger, _ = ledger.reserve("another", number, mechanism, charge, plan.budget())
    hall.shelves[DEV].remembered = Memory(ledger=ledger)
    hall.bear(DEV)
    hall.gather()
    hall.deliver()
    assert hall.drops(DEV) == [(1, DEV, "train", "budget_exhausted")]
    assert hall.refusals(DEV) == ["budget_exhausted"]
    assert not joined(effect for name, effect in hall.log if name == DEV)
    assert ledger_of(hall) == ledger
    assert hall.shelf.outcomes() == ["COMPLETE", "COMPLETE"]


def refuses(house: Hall, name: str, effects) -> str:
    """A refused task costs nothing, and the server is told why."""
    assert not joined(effects)
    assert house.kinds(effects) == ["TaskRefused", "refusal"]
    assert ledger_of(house, name).entries == ()
    return house.refusals(name)[-1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"minimum_survivors": 3}, "policy_downgrade"),
        ({"minimum_contributors": 2, "collusion": 0}, "policy_downgrade"),
        ({"collusion": 0}, "policy_downgrade"),
        ({"clip_micro": 4_000_001}, "policy_downgrade"),
        ({"bits": 16}, "policy_downgrade"),
        ({"bits": 24}, "policy_downgrade"),
        ({"suite": Suite.NONE}, "policy_downgrade"),
        ({"layout_digest": "ab" * 32}, "wrong_digest"),
        ({"federation": "another"}, "wrong_federation"),
    ],
)
def test_a_roster_below_the_pinned_policy_is_refused(gathered, changes, reason):
    task = gathered.task(DEV, gathered.remade(**changes))
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == reason


@pytest.mark.parametrize("changes", [{}, {"clip_micro": 3_000_000}, {"minimum_survivors": 6}])
def test_a_roster_as_strict_or_stricter_is_joined(gathered, changes):
    assert joined(gathered.assign(DEV, gathered.task(DEV, gathered.remade(**changes))))


def test_an_architecture_outside_the_space_is_refused(gathered):
    task = gathered.task(DEV, architecture=(0, 3))
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "unknown_architecture"


def test_an_architecture_over_the_devices_own_caps_is_refused(gathered):
    given = gathered.cohort.architectures[DEV]
    needs = cost(gathered.terms.space, given).parameters
    own = federation(reward={"max_parameters": needs - 1})
    gathered.bear(DEV, own)
    roster = make_roster_with_new_key(gathered, DEV)
    task = gathered.task(DEV, roster)
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "cap_exceeded"


def make_roster_with_new_key(house: Hall, name: str, number: int = 1):
    """Put a restarted device's newest key into the round's roster."""
    key = house.devices[name].kit.keyring.publics()[0]
    members = [
        member.model_copy(update={"prekey": key}) if member.cid == name else member
        for member in house.roster.members
    ]
    return house.remade(members=members, round=number)


def test_slots_that_are_not_the_architectures_are_refused(gathered):
    given = gathered.cohort.architectures[DEV]
    other = tuple(0 if index else 1 for index in given)
    task = gathered.task(DEV, architecture=other)
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "wrong_slot"


@pytest.mark.parametrize("extra", [-4, 4, 1])
def test_weights_of_another_length_are_refused(gathered, extra):
    size = len(gathered.task(DEV).weights)
    task = gathered.task(DEV, weights=bytes(size + extra))
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "wrong_length"


def test_weights_other_than_the_rosters_are_refused(gathered):
    """A model made for one device would bring its own update out of the sum."""
    weights = np.frombuffer(gathered.task(DEV).weights, "<f4").copy()
    weights[0] += 1
    crafted = gathered.task(DEV, weights=weights.tobytes())
    assert refuses(gathered, DEV, gathered.assign(DEV, crafted)) == "wrong_digest"


@pytest.mark.parametrize("digests", [b"", bytes(31), bytes(32)])
def test_a_roster_that_does_not_fix_every_slots_weights_is_refused(gathered, digests):
    roster = gathered.remade(parameters=digests)
    task = gathered.task(DEV, roster)
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "wrong_digest"


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(gathered, poison):
    weights = np.frombuffer(gathered.task(DEV).weights, "<f4").copy()
    weights[-1] = poison
    task = gathered.task(DEV, weights=weights.tobytes())
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "not_finite"


def test_a_roster_without_the_device_is_refused(gathered):
    members = [member for member in gathered.roster.members if member.cid != DEV]
    task = gathered.task(DEV).model_copy(
        update={"roster": gathered.remade(members=members).encode()}
    )
    assert refuses(gathered, DEV, gathered.assign(DEV, task)) == "unknown_member"


def test_a_roster_that_cannot_be_answered_is_only_noted(gathered):
    """Nothing can be sealed to a key of low order: there is no way to say no."""
    for roster in (gathered.remade(server_seal_public=bytes(32)).encode(), b"\x90"):
        task = gathered.task(DEV).model_copy(update={"roster": roster})
        effects = gathered.assign(DEV, task)
        assert gathered.kinds(effects) == ["TaskRefused"]
        assert gathered.refusals(DEV)[-1] == "malformed"


def test_a_task_for_an_old_round_is_refused(hall):
    hall.gather()
    old = hall.task(DEV)
    hall.deliver(held=of(DEV, "farewell"))
    number = hall.shelves[DEV].memory().last_round
    assert number == 2
    key = hall.devices[DEV].kit.keyring.publics()[0]
    assert key.sequence > 0
    roster = renewed(hall, old, key)
    effects = hall.assign(DEV, old.model_copy(update={"roster": roster.encode()}))
    assert not joined(effects)
    assert hall.refusals(DEV)[-1] == "wrong_round"


def renewed(house: Hall, task, key):
    """Make the task's roster again, the same round, with an unused key of the device."""
    roster = Roster.decode(task.roster)
    members = [
        member.model_copy(update={"prekey": key}) if member.cid == DEV else member
        for member in roster.members
    ]
    return house.remade(roster, members=members)


def test_a_key_that_has_served_serves_in_no_other_roster(gathered):
    assert joined(gathered.assign(DEV, gathered.task(DEV)))
    later = gathered.remade(round=2)
    assert not joined(gathered.assign(DEV, gathered.task(DEV, later)))
    assert gathered.refusals(DEV)[-1] == "reused_prekey"


# Whom it believes ----------------------------------------------------------------------------


def test_an_unsealed_command_is_ignored(gathered):
    data = gathered.forge(DEV, "task", gathered.task(DEV), sealed=False)
    assert gathered.tell(DEV, Received(data)) == []


def test_a_command_signed_by_a_device_is_ignored(gathered):
    data = gathered.forge(DEV, "task", gathered.task(DEV), by=gathered.endpoints["dev-001"])
    assert gathered.tell(DEV, Received(data)) == []


def test_noise_on_the_wire_is_ignored(gathered):
    for data in (b"", b"\xc1", bytes(2000)):
        assert gathered.tell(DEV, Received(data)) == []


def test_a_server_of_another_name_is_not_obeyed(gathered):
    other = gathered.endpoint("shadow", PartyRole.SERVER)
    data = gathered.forge(DEV, "task", gathered.task(DEV), by=other)
    effects = gathered.tell(DEV, Received(data))
    assert not joined(effects)
    assert gathered.refusals(DEV) == ["wrong_role"]


def test_a_kind_that_only_devices_send_is_refused(gathered):
    data = gathered.forge(DEV, "report", Report(upload=b"", noised_correct=1))
    assert gathered.kinds(gathered.tell(DEV, Received(data))) == ["TaskRefused"]


def test_a_hint_from_the_broker_means_nothing_to_a_device(gathered):
    assert gathered.tell(DEV, Departed("dev-001")) == []


# Once ----------------------------------------------------------------------------------------


def test_the_same_letter_twice_counts_once(gathered):
    data = gathered.forge(DEV, "task", gathered.task(DEV))
    assert joined(gathered.tell(DEV, Received(data)))
    assert gathered.tell(DEV, Received(data)) == []


def test_a_task_sent_again_gives_no_second_release(gathered):
    assert joined(gathered.assign(DEV, gathered.task(DEV)))
    before = ledger_of(gathered)
    assert gathered.assign(DEV, gathered.task(DEV)) == []
    assert ledger_of(gathered) == before


def test_a_result_that_comes_twice_is_reported_once(gathered):
    task = gathered.task(DEV)
    gathered.assign(DEV, task)
    work = next(e.work for name, e in gathered.log if name == DEV and isinstance(e, Compute))
    before = ledger_of(gathered)
    again = gathered.tell(DEV, Computed("round-1", gathered.workers.result(work)))
    assert again == []
    assert ledger_of(gathered) == before


def test_a_restarted_device_never_joins_its_round_again(gathered):
    assert joined(gathered.assign(DEV, gathered.task(DEV)))
    gathered.bear(DEV)
    roster = make_roster_with_new_key(gathered, DEV)
    effects = gathered.assign(DEV, gathered.task(DEV, roster))
    assert not joined(effects)
    assert gathered.refusals(DEV)[-1] == "wrong_round"


def test_a_device_that_lost_its_notes_still_knows_its_rounds_by_its_ledger(gathered):
    assert joined(gathered.assign(DEV, gathered.task(DEV)))
    gathered.shelves[DEV].remembered = Memory(ledger=ledger_of(gathered))
    gathered.bear(DEV)
    roster = make_roster_with_new_key(gathered, DEV)
    assert not joined(gathered.assign(DEV, gathered.task(DEV, roster)))
    assert gathered.refusals(DEV)[-1] == "wrong_round"


def test_a_restarted_device_signs_no_survivor_set(gathered):
    to_commit(gathered)
    request = next(letter for letter in gathered.post if letter.recipient == DEV)
    assert request.kind == "commit_request"
    state = gathered.server.desk.round.state
    gathered.bear(DEV)
    effects = gathered.tell(DEV, Received(gathered.forge(DEV, "commit_request", state.request)))
    assert gathered.kinds(effects) == ["TaskRefused"]
    assert gathered.refusals(DEV) == ["wrong_round"]


def test_a_second_survivor_set_is_not_signed_and_ends_the_devices_part(gathered):
    to_commit(gathered)
    request = gathered.server.desk.round.state.request
    fewer = CommitRequest(
        rid=request.rid,
        survivors=request.survivors[:-1],
        upload_digests=request.upload_digests[:-1],
    )
    first = gathered.tell(DEV, Received(gathered.forge(DEV, "commit_request", fewer)))
    assert gathered.kinds(first) == ["SurvivorsSigned", "commit_signature"]
    second = gathered.tell(DEV, Received(gathered.forge(DEV, "commit_request", request)))
    assert gathered.kinds(second) == ["TaskRefused"]
    assert gathered.refusals(DEV) == ["equivocation"]
    third = gathered.tell(DEV, Received(gathered.forge(DEV, "commit_request", fewer)))
    assert gathered.kinds(third) == ["TaskRefused"]


# Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["dies", "diverges", "poisons"])
def test_a_failed_training_is_a_refusal_and_its_budget_stays_spent(fate):
    def train(name, result):
        if name != DEV:
            return result
        if fate == "dies":
            return None
        if fate == "diverges":
            return replace(result, failed=True)
        return replace(result, update=result.update * np.nan)

    house = hall(federation={"rounds": 1})
    house.train = train
    house.gather()
    house.deliver()
    reason = "not_finite" if fate == "poisons" else "training_failed"
    assert house.refusals(DEV) == [reason]
    assert house.drops(DEV) == [(1, DEV, "train", reason)]
    assert house.shelf.outcomes() == ["COMPLETE"]
    assert DEV not in house.shelf.ended[1].survivors
    states = {entry.state for entry in ledger_of(house).entries}
    assert states == {State.RESERVED}


def test_a_result_that_comes_after_the_end_is_dropped(gathered):
    roster = identity(gathered.roster)
    effects = gathered.devices[DEV].handle(
        Received(gathered.forge(DEV, "task", gathered.task(DEV))), gathered.now_ms
    )
    work = next(effect for effect in effects if isinstance(effect, Compute))
    done = Done(rid=roster, complete=False, reason="interrupted", survivors=(), closed=())
    gathered.tell(DEV, Received(gathered.forge(DEV, "done", done)))
    late = Computed(work.job, gathered.workers.result(work.work))
    assert gathered.tell(DEV, late) == []


# Comings and goings --------------------------------------------------------------------------


def test_a_device_greets_again_from_time_to_time(gathered):
    effects = gathered.fire("hello", DEV)
    assert gathered.kinds(effects) == ["hello", "SetTimer"]
    assert gathered.alarms[DEV, "hello"] == gathered.now_ms + 10_000  # half of enrol_s


def test_a_device_is_not_silent_for_longer_than_it_takes_to_be_missed():
    patient = hall(deadlines={"enrol_s": 3600.0})
    patient.gather()
    assert patient.alarms[DEV, "hello"] == patient.now_ms + HELLO_EVERY_MS


def test_whoever_was_left_out_greets_at_once(gathered):
    roster = identity(gathered.roster)
    done = Done(rid=roster, complete=True, reason="", survivors=("dev-001",), closed=())
    data = gathered.forge(DEV, "done", done)
    assert gathered.kinds(gathered.tell(DEV, Received(data))) == ["hello", "SetTimer"]


def test_a_low_ring_of_keys_is_refilled_and_told():
    house = hall(federation={"rounds": 9})
    house.gather()
    house.deliver()
    hellos = [e for name, e in house.log if name == DEV and house.kinds([e]) == ["hello"]]
    assert house.shelf.outcomes() == ["COMPLETE"] * 9
    assert len(hellos) >= 3  # four keys at a time


def test_tasks_that_get_lost_do_not_use_up_a_device_for_ever():
    """The server has spent keys that the device believes unused."""
    house = hall(federation={"rounds": 26})
    house.gather()
    for _ in range(8):
        house.deliver(lost=of(DEV, "task"))
        if ("server", f"train-{house.server.desk.last_round}") in house.alarms:
            house.fire(f"train-{house.server.desk.last_round}")
    house.deliver()
    assert DEV in house.shelf.ended[max(house.shelf.ended)].survivors


def test_farewell_ends_a_device_and_its_keys(gathered):
    data = gathered.forge(DEV, "farewell", Farewell(rounds=2))
    assert gathered.kinds(gathered.tell(DEV, Received(data))) == ["Finished"]
    assert gathered.devices[DEV].kit.keyring._unused == {}


def test_a_report_carries_only_slots_with_enough_members(gathered):
    gathered.deliver(held=lambda letter: letter.kind == "report")
    graph = gathered.server.desk.round.state.table.graph
    assert len(gathered.post) == 7
    for letter in gathered.post:
        opened = gathered.endpoints[SERVER].open(
            letter.data, expected=PartyRole.DEVICE, now_ms=gathered.now_ms
        )
        upload = Upload.decode(Report.decode(opened.body).upload)
        assert tuple(payload.slot for payload in upload.slots) == graph.offered[letter.sender]
