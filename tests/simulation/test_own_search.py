"""Devices that choose for themselves: two worlds that differ in nothing but choices look the same.

In one world every device's agent draws one architecture, in the other another one, with other
rewards, other trained values and other trial times. What the broker carries and what the server
reads is the same, byte for byte; each defence switched off makes the worlds differ.
"""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from secure_pfnas.agents.own import OwnAgent
from secure_pfnas.errors import Complete
from secure_pfnas.privacy.plan import UPDATE
from secure_pfnas.roles.client import Client
from secure_pfnas.roles.client.searching import is_own
from secure_pfnas.roles.events import Computed
from secure_pfnas.roles.records import MetricsKept, RewardReceived, SearchKept
from secure_pfnas.runtime import parties
from secure_pfnas.runtime.faults import ScriptedFaults, header_of, parse_moments
from secure_pfnas.runtime.simulate import Simulation
from secure_pfnas.runtime.witness import CuriousEndpoint
from secure_pfnas.wire import identity
from tests.simulation import village
from tests.simulation.village import TABLES, StubWorkers, Village, federation, settings

CLIENT = {"agent": {"placement": "client"}}
SEEDED = {**CLIENT, "privacy": {"seeded_noise": True}, "federation": {"rounds": 3}}
CANARY = 7_654_321


class Revealing(StubWorkers):
    """Results that hang on everything in the job: architecture, weights and personal values."""

    def result(self, work, **changes):
        personal = 0.0 if work.personal is None else float(np.abs(work.personal).sum())
        told = [
            work.seed,
            *work.architecture,
            *np.float64([work.weights.sum(), personal]).view("u8"),
        ]
        rng = np.random.default_rng([int(part) for part in told])
        made = super().result(
            replace(work, seed=int(rng.integers(2**62))), correct=CANARY + work.architecture[0]
        )
        return replace(made, **changes)


class Clockwork(Simulation):
    """Trains as long as an architecture takes; a device may have one core for all it does."""

    one_core = False

    def compute(self, process, job, work):
        busy = self.__dict__.setdefault("_busy", {})
        starts = max(self.now_ms, busy.get(process.name, 0)) if self.one_core else self.now_ms
        busy[process.name] = starts + 300 + 100 * sum(work.architecture)
        self._training_ms = busy[process.name] - self.now_ms
        super().compute(process, job, work)


@pytest.fixture
def repeatable(monkeypatch):
    """Signatures by RFC 6979, so that nothing differs that need not."""
    signed = ec.ECDSA(SHA256(), deterministic_signing=True)
    monkeypatch.setattr(
        identity.Signer,
        "sign",
        lambda self, context, data: self.private_key.sign(
            identity._labelled(context, data), signed
        ),
    )
    monkeypatch.setattr(village, "Simulation", Clockwork)


def world(monkeypatch, architecture, **sections):
    """Run with every own choice replaced; return the envelopes' outsides and all plaintexts."""
    outside, inside = [], []
    endpoint = parties.Endpoint

    def curious(**given):
        return CuriousEndpoint(
            lambda body: inside.append((body.kind, body.sender, body.recipient, body.data)), **given
        )

    def tap(now_ms, sender, recipient, data):
        outside.append((now_ms, sender, recipient, header_of(data).kind, len(data)))

    born = parties.server_life
    with monkeypatch.context() as patch:
        patch.setattr(OwnAgent, "draw", lambda _self, _rng: architecture)
        patch.setattr(village, "server_life", lambda *given: born(*given, made=curious))
        story = Village(federation(**{**SEEDED, **sections}), tap=tap)
        story.workers = Revealing(story.workers._personal)
        assert story.run() == Complete()
    assert parties.Endpoint is endpoint
    return outside, inside, story


def worlds(monkeypatch, **sections):
    chosen = ((0, 0), (2, 2))
    one, other = (world(monkeypatch, architecture, **sections) for architecture in chosen)
    own = [[job for _, job in story.workers.jobs] for *_, story in (one, other)]
    assert {job.architecture for job in own[0]} != {job.architecture for job in own[1]}
    return one, other


def alike(one, other):
    """Compare times, parties, kinds and sizes; a signature has 68 to 72 bytes, by chance."""
    outsides = [tuple(facts[:4] for facts in passed) for passed in (one, other)]
    sizes = [np.array([facts[4] for facts in passed]) for passed in (one, other)]
    return outsides[0] == outsides[1] and bool((np.abs(sizes[0] - sizes[1]) <= 4).all())


@pytest.mark.usefixtures("repeatable")
def test_what_devices_choose_and_earn_changes_no_byte_of_what_is_sent(monkeypatch):
    one, other = worlds(monkeypatch)
    assert alike(one[0], other[0])
    assert one[1] == other[1]  # every plaintext
    assert {kind for kind, *_ in one[1]} >= {"task", "report", "reveal", "done"}
    checkpoints = [max(story.server.checkpoints.items())[1] for *_, story in (one, other)]
    assert checkpoints[0].vector.tobytes() == checkpoints[1].vector.tobytes()


def personal_values_in_common(client, found):
    """One set of personal values for the shared training and for the device's own."""
    client.kit.personal = client.kit.search._personal
    return 0.0


def a_hint_in_the_update(client, found):
    """The next shared update leans by what the last trial earned."""
    return float(found.correct - CANARY)


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("fault", [personal_values_in_common, a_hint_in_the_update])
def test_a_device_that_lets_its_search_into_an_upload_is_seen(monkeypatch, fault):
    handle, lean = Client.handle, {}

    def faulty(self, event, now_ms):
        own = isinstance(event, Computed) and is_own(event.job)
        if isinstance(event, Computed) and not own:
            update = event.result.update + np.float32(lean.get(self, 0.0))
            event = replace(event, result=replace(event.result, update=update))
        effects = handle(self, event, now_ms)
        if own:
            lean[self] = fault(self, event.result)
        return effects

    monkeypatch.setattr(Client, "handle", faulty)
    one, other = worlds(monkeypatch)
    assert one[1] != other[1]


@pytest.mark.usefixtures("repeatable")
def test_a_device_that_reports_after_its_trial_is_seen(monkeypatch):
    """Without the order of trainings an architecture's time is in the report's."""
    handle, held = Client.handle, {}

    def late(self, event, now_ms):
        effects = handle(self, event, now_ms)
        if not isinstance(event, Computed):
            return effects
        if is_own(event.job):
            return [*effects, held.pop(self)]
        *kept, held[self], trial = effects
        return [*kept, trial]

    monkeypatch.setattr(Client, "handle", late)
    one, other = worlds(monkeypatch)
    assert not alike(one[0], other[0])


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("report_s", [0.0, 2.0])
def test_a_trial_on_the_only_core_shows_in_the_next_report_unless_reports_keep_a_time(
    monkeypatch, report_s
):
    monkeypatch.setattr(Clockwork, "one_core", True)
    deadlines = {**TABLES["deadlines"], "report_s": report_s}
    one, other = worlds(monkeypatch, deadlines=deadlines)
    assert alike(one[0], other[0]) == (report_s > 0)
    assert (one[1] == other[1]) or not report_s
    if report_s:
        sent = {now for now, _, _, kind, _ in one[0] if kind == "report"}
        tasks = {now for now, _, _, kind, _ in one[0] if kind == "task"}
        assert sent == {now + 2020 for now in tasks}  # the latency, and the time to keep


@pytest.mark.usefixtures("repeatable")
def test_in_server_placement_the_two_worlds_differ(monkeypatch):
    """What the comparison is good for: architectures that the server draws are in every message."""
    placed = {"agent": {"placement": "server", "kind": "fixed", "start": "0-0"}}
    one = world(monkeypatch, (0, 0), **placed)
    placed["agent"]["start"] = "2-2"
    other = world(monkeypatch, (0, 0), **placed)
    assert not alike(one[0], other[0])
    assert one[1] != other[1]


@pytest.mark.usefixtures("repeatable")
def test_no_planted_reward_is_in_any_message(monkeypatch):
    _, inside, story = world(monkeypatch, (2, 1))
    earned = [r.test_correct for r in story.devices["dev-000"].records if type(r) is MetricsKept]
    assert len(earned) == 3
    needles = [msgpack.packb(CANARY + option) for option in range(3)]
    assert not [kind for kind, *_, data in inside for n in needles if n in data]
    reported = {
        "agent": {"placement": "server"},
        "privacy": {**SEEDED["privacy"], "reward_noise": False},
    }
    _, inside, _ = world(monkeypatch, (2, 1), **reported)
    assert [kind for kind, *_, data in inside for n in needles if n in data]


@pytest.mark.usefixtures("repeatable")
def test_every_shared_weight_travels_down_and_only_public_slots_up(monkeypatch):
    outside, _, story = world(monkeypatch, (0, 0))
    tasks = {size for _, _, _, kind, size in outside if kind == "task"}
    shared = 4 * sum(story.terms.slot_sizes.values())
    assert min(tasks) > shared
    drawn = [a for r in story.server.started.values() for a in r.architectures.values()]
    assert (0, 0) not in drawn
    shared_work = [job for _, job in story.workers.jobs][: len(drawn)]
    assert {job.architecture for job in shared_work} <= {*drawn, (0, 0)}
    largest = max(story.terms.layout.size(story.terms.layout.shared(one)) for one in drawn)
    reports = [size for _, _, _, kind, size in outside if kind == "report"]
    assert max(reports) < 4 * largest + 6000


# --- what is kept, where ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played():
    story = Village(federation(**SEEDED))
    assert story.run() == Complete()
    return story


def test_the_server_keeps_neither_rewards_nor_agents(played):
    assert not [r for r in played.server.records if isinstance(r, RewardReceived)]
    assert all(one.agents == {} for one in played.server.checkpoints.values())


def test_the_ledger_holds_updates_and_no_reward(played):
    for shelf in played.devices.values():
        ledger = shelf.remembered.ledger
        assert {entry.mechanism for entry in ledger.entries} == {UPDATE}
        assert len(ledger.reservations()) == 3
        assert ledger.entries[-1].validation_epsilon_micro == 0
    assert played.terms.plan.private
    assert "no reward leaves" in played.terms.plan.stamp()


def test_every_device_learns_from_its_own_trials_alone(played):
    for name, shelf in played.devices.items():
        tried = [r for r in shelf.records if isinstance(r, MetricsKept)]
        assert [metrics.round for metrics in tried] == [1, 2, 3]
        kept = [r for r in shelf.records if isinstance(r, SearchKept)]
        assert {key.partition("/")[0] for key in kept[-1].agent} == {name}
        assert kept[-1].agent[f"{name}/scalars"][0] == 3


def test_a_restarted_device_goes_on_with_what_it_had_learnt():
    story = Village(
        federation(**SEEDED), faults=ScriptedFaults(parse_moments(["dev-002@2:report"]))
    )
    assert story.run() == Complete()
    kept = [r for r in story.devices["dev-002"].records if isinstance(r, SearchKept)]
    assert [int(one.agent["dev-002/scalars"][0]) for one in kept] == [1, 2]
    others = [r for r in story.devices["dev-001"].records if isinstance(r, SearchKept)]
    assert [int(one.agent["dev-001/scalars"][0]) for one in others] == [1, 2, 3]


def test_noise_on_rewards_is_not_asked_for_where_none_leave():
    tiny = {"data": {"validation_per_client": 20, "train_per_client": 60}}
    private = settings(**CLIENT, **tiny, privacy={"reward_epsilon": 0.5, "reward_noise": False})
    assert private.non_private == ()
    assert federation(**CLIENT, **tiny, privacy={"reward_epsilon": 0.5}).plan.reward is None
