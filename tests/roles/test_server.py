"""The server's stories: who takes part, who is left out, and how a round ends."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.errors import Abort, AbortReason, Complete
from secure_pfnas.roles.events import Computed, Departed, Finished, Received, Returned, Started
from secure_pfnas.roles.messages import Farewell, Hello, Refusal, Report
from secure_pfnas.roles.records import Checkpoint, RewardReceived, RoundEnded
from secure_pfnas.roles.server import GRACE_MS
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.secagg.keys import _statement
from secure_pfnas.secagg.messages import PublicPrekey, SelfMaskShare, Upload
from secure_pfnas.secagg.server import Collecting
from tests.roles.hall import Hall, hall, of
from tests.simulation.village import federation, signer

DEV = "dev-002"


def answer(house: Hall, name: str, kind: str, body, number: int = 1):
    """Hand the server a letter written in a device's name."""
    data = house.forge(SERVER, kind, body, by=house.endpoints[name], number=number)
    return house.tell(SERVER, Received(data))


def greeting(house: Hall, name: str, **changes) -> Hello:
    device = house.devices[name]
    given = {
        "seal_public": house.endpoints[name].seal_public,
        "device_class": "edge",
        "prekeys": device.kit.keyring.publics(),
    }
    return Hello(**{**given, **changes})


def greet(house: Hall, name: str, **changes):
    data = house.forge(
        SERVER, "hello", greeting(house, name, **changes), by=house.endpoints[name], sealed=False
    )
    return house.tell(SERVER, Received(data))


def but(*names: str):
    """Lose everything these devices send after their greeting."""
    return lambda letter: letter.sender in names and letter.kind != "hello"


def rounds(count: int, **sections) -> Hall:
    return hall(federation={"rounds": count}, **sections)


# The plain story -----------------------------------------------------------------------------


def test_a_federation_runs_to_its_farewell(gathered):
    gathered.deliver()
    assert gathered.shelf.outcomes() == ["COMPLETE", "COMPLETE"]
    finished = {name: e.outcome for name, e in gathered.log if isinstance(e, Finished)}
    assert finished == dict.fromkeys([SERVER, *gathered.names], Complete())
    assert gathered.drops() == []


def test_every_member_has_its_own_reward_once_a_round(gathered):
    gathered.deliver()
    rewards = [r for r in gathered.shelf.records if isinstance(r, RewardReceived)]
    assert sorted((r.round, r.name) for r in rewards) == [
        (number, name) for number in (1, 2) for name in gathered.names
    ]


def test_the_next_rounds_weights_are_the_supernet_of_the_last(gathered):
    before = gathered.server.desk.vector.copy()
    gathered.deliver(held=lambda letter: letter.header.round == 2)
    checkpoint = gathered.shelf.checkpoints[1]
    assert not np.array_equal(checkpoint.vector, before)
    assert np.array_equal(gathered.server.desk.vector, checkpoint.vector)


def test_the_agents_of_those_left_out_do_not_move(gathered):
    gathered.deliver(lost=of(DEV, "report"), held=lambda letter: letter.header.round == 2)
    gathered.fire("train-1")
    gathered.deliver(held=lambda letter: letter.header.round == 2)
    learned = gathered.shelf.checkpoints[1].agents
    assert any("dev-001" in name for name in learned)
    assert not any(DEV in name for name in learned)


# Enrolment -----------------------------------------------------------------------------------


def test_too_few_devices_abort_the_round_and_the_next_one_is_tried(hall):
    hall.gather(absent=("dev-003", "dev-004", "dev-005", "dev-006"))
    assert hall.post == []
    hall.fire("enrol-1")
    assert hall.shelf.outcomes() == ["too_few_members"]
    for name in ("dev-003", "dev-004", "dev-005", "dev-006"):
        hall.tell(name, Started())
    hall.deliver()
    assert hall.shelf.outcomes() == ["too_few_members", "COMPLETE"]


def test_nobody_at_all_ends_in_aborts_not_in_waiting(hall):
    hall.tell(SERVER, Started())
    hall.fire("enrol-1")
    hall.fire("enrol-2")
    effects = hall.fire("enrol-3")  # nobody came to take leave of
    assert effects == [Finished(Abort(AbortReason.TOO_FEW_MEMBERS))]


def test_the_deadline_starts_a_round_with_those_who_came(hall):
    hall.gather(absent=("dev-000",))
    assert hall.post == []
    hall.fire("enrol-1")
    assert [member.cid for member in hall.roster.members] == list(hall.names[1:])


def test_a_cohort_is_drawn_from_the_seed_and_the_round_alone():
    def members() -> list[tuple[str, ...]]:
        house = hall(federation={"clients": 9, "cohort": 6, "rounds": 3})
        house.gather()
        house.deliver()
        return [tuple(sorted(started.architectures)) for started in house.shelf.started.values()]

    first = members()
    assert first == members()
    assert {len(names) for names in first} == {6}
    assert len(set(first)) > 1


def test_a_plan_that_nobody_can_carry_out_is_refused_round_by_round():
    """Devices greet as of a class that the settings expect none of: only then is it known."""
    tight = {"micro": {"max_parameters": 60}}
    house = hall(training={"strategy": "fedper"}, devices=tight)
    for name in house.names:
        house.bear(name, federation(devices=tight, reward={"device_class": "micro"}))
    house.gather()
    assert house.shelf.outcomes() == ["plan_refused"]
    house.fire("enrol-2")
    house.deliver()
    assert house.shelf.outcomes() == ["plan_refused", "plan_refused"]
    assert house.log[-1][1] == Finished(Complete())


# Greetings that lie --------------------------------------------------------------------------


def claimed(name: str, mask: bytes, seal: bytes, sequence: int = 7) -> PublicPrekey:
    """Sign keys as one's own, whoever has made them."""
    signature = signer(name).sign(b"prekey", _statement(name, sequence, mask, seal))
    return PublicPrekey(sequence=sequence, mask_public=mask, seal_public=seal, signature=signature)


def bad_signature(house: Hall) -> dict:
    key = house.devices[DEV].kit.keyring.publics()[0]
    return {"prekeys": (key.model_copy(update={"sequence": key.sequence + 1}),)}


def key_of_low_order(house: Hall) -> dict:
    return {"prekeys": (claimed(DEV, bytes(32), b"\1" * 32),)}


def sealing_key_of_low_order(house: Hall) -> dict:
    return {"seal_public": bytes(32)}


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (bad_signature, "bad_signature"),
        (key_of_low_order, "malformed"),
        (sealing_key_of_low_order, "malformed"),
    ],
)
def test_a_greeting_with_a_bad_key_counts_for_nothing(hall, lie, reason):
    hall.gather(absent=(DEV,))
    greet(hall, DEV, **lie(hall))
    assert hall.drops() == [(0, DEV, "enrol", reason)]
    assert hall.post == []
    hall.fire("enrol-1")
    hall.deliver()
    assert hall.shelf.outcomes() == ["COMPLETE", "COMPLETE"]


def test_a_device_of_an_unknown_class_is_not_taken(hall):
    hall.gather(absent=(DEV,))
    hello = greeting(hall, DEV).model_copy(update={"device_class": "mainframe"})
    answer(hall, DEV, "hello", hello)
    assert hall.drops() == [(0, "unknown", "enrol", "malformed")]


def test_a_copied_key_costs_one_device_its_place_and_nobody_the_round(hall):
    """dev-002 passes dev-001's keys off as its own; only a roster shows it."""
    hall.gather(absent=(DEV,))
    victim = hall.devices["dev-001"].kit.keyring.publics()[0]
    greet(hall, DEV, prekeys=(claimed(DEV, victim.mask_public, victim.seal_public),))
    assert hall.drops() == [(1, DEV, "enrol", "duplicate_key")]
    hall.deliver()
    assert hall.shelf.outcomes() == ["COMPLETE", "COMPLETE"]
    assert DEV not in hall.shelf.ended[1].survivors


def test_a_copied_key_that_leaves_too_few_aborts_at_the_deadline(hall):
    hall.gather(absent=("dev-003", "dev-004", "dev-005", "dev-006"))
    victim = hall.devices["dev-001"].kit.keyring.publics()[0]
    greet(hall, "dev-003", prekeys=(claimed("dev-003", victim.mask_public, victim.seal_public),))
    hall.fire("enrol-1")
    assert hall.shelf.outcomes() == ["too_few_members"]
    assert hall.drops() == [(1, "dev-003", "enrol", "duplicate_key")]


def test_a_spent_key_offered_again_is_not_taken(gathered):
    own = next(m.prekey for m in gathered.roster.members if m.cid == DEV)
    greet(gathered, DEV, prekeys=(own,))
    assert own.sequence not in gathered.server.desk.registry[DEV].prekeys


# Left out ------------------------------------------------------------------------------------


def test_a_lost_report_costs_its_device_the_round_and_the_next():
    house = rounds(3)
    house.gather()
    house.deliver(lost=lambda letter: of(DEV, "report")(letter) and letter.header.round == 1)
    house.fire("train-1")
    house.deliver()
    assert house.drops() == [(1, DEV, "train", "timed_out")]
    present = {
        number: DEV in started.architectures for number, started in house.shelf.started.items()
    }
    assert present == {1: True, 2: False, 3: True}
    assert house.shelf.outcomes() == ["COMPLETE"] * 3


def test_a_late_report_is_nobodys_fault_and_of_no_use(gathered):
    gathered.deliver(held=of(DEV, "report"))
    gathered.fire("train-1")
    late, gathered.post = (
        [x for x in gathered.post if x.kind == "report"],
        [x for x in gathered.post if x.kind != "report"],
    )
    gathered.deliver()
    before = len(gathered.drops())
    assert gathered.tell(SERVER, Received(late[0].data)) == []
    assert len(gathered.drops()) == before
    assert DEV not in gathered.shelf.ended[1].survivors


def test_in_place_of_oracle_17_an_update_of_an_earlier_round_is_stale_and_changes_nothing():
    """The authors weigh late updates by their age; here rounds are synchronous and none is used.

    A report of round 1 that arrives when round 2 has begun is dropped unread: what round 2 makes
    of supernet and agents is the same, to the bit, as if it had never come.
    """

    def ended(arrives: bool) -> Checkpoint:
        house, of_round_1 = rounds(2), of(DEV, "report")
        house.gather()
        house.deliver(held=of_round_1)
        late = [letter for letter in house.post if of_round_1(letter)]
        house.post = []
        house.fire("train-1")
        house.deliver(held=lambda letter: letter.kind == "report" and letter.header.round == 2)
        if arrives:
            assert house.tell(SERVER, Received(late[0].data)) == []
        house.deliver()
        assert house.shelf.outcomes() == ["COMPLETE", "COMPLETE"]
        assert house.drops() == [(1, DEV, "train", "timed_out")]
        return house.shelf.checkpoints[2]

    without, with_it = ended(arrives=False), ended(arrives=True)
    assert without.vector.tobytes() == with_it.vector.tobytes()
    assert without.agents.keys() == with_it.agents.keys()
    assert all(np.array_equal(without.agents[k], with_it.agents[k]) for k in without.agents)


def test_what_coverage_moved_a_member_to_is_told_to_its_agent_as_not_its_draw(gathered):
    cohort = gathered.cohort
    survivors, rewards = gathered.names, dict.fromkeys(gathered.names, 0.5)
    trials = gathered.server.desk.round.trials(survivors, rewards)
    assert {n for n, trial in trials.items() if not trial.drawn} == set(cohort.coverage.moved)


def test_a_report_in_the_next_phase_costs_its_sender_nothing_more(gathered):
    gathered.deliver(held=lambda x: of(DEV, "report")(x) or x.kind == "commit_request")
    gathered.fire("train-1")
    report = next(x for x in gathered.post if x.kind == "report")
    gathered.tell(SERVER, Received(report.data))
    assert gathered.drops(DEV) == [
        (1, DEV, "train", "timed_out"),
        (1, DEV, "commit", "wrong_state"),
    ]


def as_sent(state: Collecting) -> Upload:
    """The device's upload, which is kept apart from its values."""
    return state.uploads[DEV].model_copy(update={"slots": state.tally.held[DEV]})


def test_a_second_different_report_is_equivocation_and_the_first_counts(gathered):
    gathered.deliver(held=lambda x: x.kind == "report" and x.sender == "dev-006")
    held = list(gathered.post)
    state = gathered.server.desk.round.state
    first = gathered.server.desk.round.noised[DEV]
    sent = as_sent(state)
    other = sent.model_copy(update={"self_commitments": sent.self_commitments[::-1]})
    answer(gathered, DEV, "report", Report(upload=other.encode(), noised_correct=first + 1))
    assert gathered.drops() == [(1, DEV, "train", "equivocation")]
    gathered.post = held
    gathered.deliver()
    assert gathered.shelf.outcomes()[0] == "COMPLETE"
    rewards = [r for r in gathered.shelf.records if isinstance(r, RewardReceived)]
    assert [r.noised_correct for r in rewards if (r.round, r.name) == (1, DEV)] == [first]


def test_the_same_report_twice_counts_once(gathered):
    gathered.deliver(held=lambda x: x.kind == "report" and x.sender == "dev-006")
    held = list(gathered.post)
    current = gathered.server.desk.round
    again = Report(upload=as_sent(current.state).encode(), noised_correct=99)
    answer(gathered, DEV, "report", again)
    gathered.post = held
    gathered.deliver()
    assert gathered.drops() == []
    rewards = [r for r in gathered.shelf.records if isinstance(r, RewardReceived)]
    assert len([r for r in rewards if (r.round, r.name) == (1, DEV)]) == 1


def test_a_report_that_is_no_upload_leaves_its_sender_out(gathered):
    answer(gathered, DEV, "report", Report(upload=b"\x90", noised_correct=3))
    gathered.deliver(lost=but(DEV))
    assert gathered.drops(DEV)[0] == (1, DEV, "train", "malformed")
    assert gathered.shelf.outcomes()[0] == "COMPLETE"
    assert DEV not in gathered.shelf.ended[1].survivors


def test_a_refusal_is_taken_at_its_word_once(gathered):
    refusal = Refusal(rid=gathered.server.desk.round.rid, reason="cap_exceeded")
    answer(gathered, DEV, "refusal", refusal)
    assert gathered.drops() == [(1, DEV, "train", "cap_exceeded")]


@pytest.mark.parametrize(
    ("refusal", "number", "reason"),
    [
        (Refusal(rid=bytes(32), reason="cap_exceeded"), 1, "malformed"),
        (Refusal(rid=bytes(32), reason="no_such_reason"), 1, "malformed"),
        (Refusal(rid=bytes(32), reason="cap_exceeded"), 9, "wrong_round"),
    ],
)
def test_a_refusal_of_another_round_or_reason_changes_nothing(gathered, refusal, number, reason):
    answer(gathered, DEV, "refusal", refusal, number)
    assert gathered.drops() == [(1, DEV, "train", reason)]
    assert DEV in gathered.server.desk.round.pending


def test_what_no_device_says_is_dropped(gathered):
    gathered.tell(SERVER, Received(b"\xc1"))
    answer(gathered, DEV, "farewell", Farewell(rounds=1))
    own = gathered.forge(SERVER, "hello", Farewell(rounds=1), sealed=False)
    gathered.tell(SERVER, Received(own))
    assert gathered.drops() == [
        (1, "unknown", "train", "malformed"),
        (1, DEV, "train", "malformed"),
        (1, SERVER, "train", "wrong_role"),
    ]


def test_a_letter_played_again_is_dropped(gathered):
    hello = gathered.forge(
        SERVER, "hello", greeting(gathered, DEV), by=gathered.endpoints[DEV], sealed=False
    )
    assert gathered.tell(SERVER, Received(hello)) == []
    gathered.tell(SERVER, Received(hello))
    assert gathered.drops() == [(1, "unknown", "train", "replayed")]  # the bus's doing


def test_somebody_from_outside_the_round_changes_nothing():
    house = hall(federation={"clients": 9, "cohort": 6})
    house.gather()
    outsider = next(name for name in house.names if name not in house.cohort.architectures)
    answer(house, outsider, "report", Report(upload=b"", noised_correct=1))
    house.deliver()
    assert (1, outsider, "train", "malformed") in house.drops()
    assert house.shelf.outcomes() == ["COMPLETE", "COMPLETE"]


def test_a_device_that_greets_anew_in_mid_round_is_left_out_and_comes_back_later():
    house = rounds(4)
    house.gather()
    house.bear(DEV)
    house.tell(DEV, Started())
    house.deliver()
    assert house.drops() == [(1, DEV, "train", "restarted")]
    present = {
        number: DEV in started.architectures for number, started in house.shelf.started.items()
    }
    assert present == {1: True, 2: False, 3: True, 4: True}


def test_the_same_life_greeting_again_keeps_its_place(gathered):
    greet(gathered, DEV)
    gathered.deliver()
    assert gathered.drops() == []


# The broker's hints --------------------------------------------------------------------------


def all_but(house: Hall, *names: str) -> None:
    """Everybody else reports."""
    house.deliver(lost=of(names[0], "task"), held=lambda x: x.kind == "commit_request")


def test_a_departed_device_is_waited_for_only_a_little(gathered):
    all_but(gathered, DEV)
    began = gathered.now_ms
    gathered.tell(SERVER, Departed(DEV))
    gathered.fire("grace-train-1")
    assert gathered.now_ms == began + GRACE_MS
    assert gathered.drops() == [(1, DEV, "train", "timed_out")]
    gathered.deliver()
    assert gathered.shelf.outcomes() == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize("sign", ["presence", "word"])
def test_a_device_that_returns_in_time_is_waited_for(gathered, sign):
    all_but(gathered, DEV)
    gathered.tell(SERVER, Departed(DEV))
    if sign == "presence":
        gathered.tell(SERVER, Returned(DEV))
    else:
        greet(gathered, DEV)
    assert gathered.fire("grace-train-1") == []
    assert gathered.drops() == []
    gathered.fire("train-1")
    assert gathered.drops() == [(1, DEV, "train", "timed_out")]


def test_while_others_are_awaited_a_departure_hurries_nobody(gathered):
    gathered.tell(SERVER, Departed(DEV))
    assert ("server", "grace-train-1") not in gathered.alarms
    gathered.deliver(lost=of(DEV, "task"), held=lambda x: x.kind == "commit_request")
    assert ("server", "grace-train-1") in gathered.alarms


def test_a_departure_between_rounds_means_nothing(hall):
    hall.tell(SERVER, Started())
    assert hall.tell(SERVER, Departed(DEV)) == []


def test_what_is_no_concern_of_a_server_is_ignored(gathered):
    assert gathered.tell(SERVER, Computed("round-1", None)) == []


# Ends ----------------------------------------------------------------------------------------


def test_too_few_reports_open_nothing(gathered):
    gathered.deliver(lost=but("dev-000", "dev-001", "dev-002", "dev-003"))
    gathered.fire("train-1")
    assert gathered.shelf.ended[1] == RoundEnded(
        1, Abort(AbortReason.TOO_FEW_SURVIVORS), (), (), ()
    )
    assert gathered.shelf.checkpoints == {}


@pytest.mark.parametrize(
    ("kind", "phase", "reason"),
    [
        ("commit_signature", "commit", "too_few_signatures"),
        ("reveal", "reveal", "too_few_shares"),
    ],
)
def test_a_silent_committee_opens_nothing_and_the_federation_goes_on(gathered, kind, phase, reason):
    gathered.deliver(lost=lambda x: x.kind == kind and x.sender < "dev-003")
    gathered.fire(f"{phase}-1")
    assert gathered.shelf.outcomes()[0] == reason
    assert not any(isinstance(r, Checkpoint) for r in gathered.shelf.records)
    gathered.deliver()
    assert gathered.shelf.outcomes()[1] == "COMPLETE"
    assert sorted(gathered.shelf.checkpoints) == [2]


def test_a_device_that_reveals_wrong_shares_is_named_and_no_wrong_sum_comes_of_it(gathered, books):
    gathered.deliver(held=lambda x: x.kind == "reveal")
    true = gathered.devices[DEV].kit.round.state.message
    wrong = true.model_copy(
        update={
            "shares": tuple(
                share.model_copy(update={"shares": bytes(len(share.shares))})
                if isinstance(share, SelfMaskShare)
                else share
                for share in true.shares
            )
        }
    )
    answer(gathered, DEV, "reveal", wrong)
    gathered.post = [x for x in gathered.post if x.sender != DEV]
    gathered.deliver()
    books.check(3)
    assert gathered.shelf.outcomes()[0] in ("COMPLETE", "bad_shares")
    assert any(reason == "bad_share" for *_, reason in gathered.drops())


def test_a_stale_timer_is_harmless(gathered):
    gathered.deliver(held=lambda letter: letter.header.round == 2)
    for timer in ("enrol-1", "train-1", "commit-1", "reveal-1"):
        assert gathered.fire(timer) == []
    gathered.deliver()
    assert gathered.shelf.outcomes() == ["COMPLETE", "COMPLETE"]
    assert gathered.fire("train-2") == []


def test_survivors_outside_the_committee_wait_for_nobody():
    """Everybody on a committee of 31 is gone: there is nobody to ask."""
    house = hall(federation={"clients": 36, "cohort": 36, "rounds": 1})
    house.gather()
    committee = set(house.roster.committee)
    assert len(committee) == 31
    house.deliver(lost=lambda x: x.kind == "report" and x.sender in committee)
    house.fire("train-1")
    house.deliver()
    assert house.shelf.outcomes() == ["too_few_signatures"]


# Lives ---------------------------------------------------------------------------------------


def test_a_new_life_ends_the_round_its_predecessor_died_in_and_starts_another(gathered):
    gathered.post.clear()
    gathered.bear_server()
    effects = gathered.tell(SERVER, Started())
    assert effects[0] == RoundEnded(1, Abort(AbortReason.INTERRUPTED), (), (), ())
    for name in gathered.names:
        gathered.fire("hello", name)
    gathered.deliver()
    assert gathered.shelf.outcomes() == ["interrupted", "COMPLETE"]


def test_a_new_life_goes_on_from_the_last_checkpoint(gathered):
    gathered.deliver(held=lambda letter: letter.header.round == 2)
    gathered.post.clear()
    vector = gathered.server.desk.vector.copy()
    gathered.bear_server()
    assert np.array_equal(gathered.server.desk.vector, vector)
    again, kept = gathered.server.desk.agents.state(), gathered.shelf.checkpoints[1].agents
    assert again.keys() == kept.keys()
    assert all(np.array_equal(again[name], kept[name]) for name in kept)


def test_answers_to_an_earlier_life_are_of_no_use(gathered):
    gathered.deliver(held=lambda letter: letter.kind == "report")
    reports, gathered.post = gathered.post, []
    gathered.bear_server()
    gathered.tell(SERVER, Started())
    for letter in reports:
        gathered.tell(SERVER, Received(letter.data))
    assert {reason for *_, reason in gathered.drops()} == {"undecipherable"}


def test_a_life_that_finds_all_rounds_over_takes_leave_of_whoever_comes(gathered):
    gathered.deliver(lost=lambda letter: letter.kind == "farewell")
    gathered.bear_server()
    gathered.tell(SERVER, Started())
    for name in gathered.names:
        gathered.fire("hello", name)
    gathered.deliver()
    finished = [name for name, e in gathered.log if isinstance(e, Finished)]
    assert finished == [SERVER, SERVER, *gathered.names]
    assert gathered.log[-1][1] == Finished(Complete())
    assert sorted(gathered.shelf.started) == [1, 2]


def test_a_last_life_does_not_wait_for_ever_for_devices_to_take_leave_of(gathered):
    gathered.deliver(lost=lambda letter: letter.kind == "farewell")
    gathered.bear_server()
    gathered.tell(SERVER, Started())
    gathered.fire("hello", DEV)
    gathered.deliver()
    gathered.fire("enrol-3")
    gathered.deliver()
    assert [name for name, e in gathered.log if isinstance(e, Finished)][1:] == [SERVER, DEV]


def test_a_device_that_was_left_out_and_stays_silent_is_not_asked_again():
    house = rounds(4)
    house.gather()
    house.deliver(lost=lambda x: x.sender == DEV or (x.recipient == DEV and x.kind == "done"))
    house.fire("train-1")
    house.deliver(lost=but_hello(DEV))
    asked = [number for number, s in house.shelf.started.items() if DEV in s.architectures]
    assert asked == [1]
    assert house.shelf.outcomes() == ["COMPLETE"] * 4


def but_hello(name: str):
    """Lose a device's greetings too."""
    return lambda letter: letter.sender == name
