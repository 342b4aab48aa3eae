"""What goes wrong on purpose goes wrong as told."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.errors import Rejected
from secure_pfnas.roles.events import Send, SetTimer
from secure_pfnas.roles.records import RoundJoined
from secure_pfnas.runtime.driver import NoFaults
from secure_pfnas.runtime.faults import (
    Moment,
    RandomFaults,
    ScriptedFaults,
    header_of,
    parse_moments,
)
from tests.roles.hall import hall


@pytest.fixture(scope="module")
def task() -> bytes:
    house = hall()
    house.gather()
    return house.post[2].data


def test_a_fault_reads_only_the_signed_header(task):
    header = header_of(task)
    assert (header.sender, header.recipient, header.kind, header.round) == (
        "server",
        "dev-002",
        "task",
        1,
    )
    with pytest.raises(Rejected):
        header_of(b"\xc1")


def test_moments_are_read_from_text():
    assert parse_moments(["dev-003@2", "server@10:task"]) == {
        Moment("dev-003", 2, "report"),
        Moment("server", 10, "task"),
    }
    assert parse_moments([]) == set()


@pytest.mark.parametrize("text", ["dev-003", "@2", "dev-003@x", "dev-003@-1", "dev-003@:report"])
def test_a_moment_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="is not NAME@ROUND"):
        parse_moments([text])


def test_a_lost_message_has_no_copy(task):
    faults = ScriptedFaults(lost=frozenset(parse_moments(["server@1:task"])))
    assert faults.copies("server", "dev-002", task) == []
    assert faults.copies("another", "dev-002", task) == [0]
    assert not faults.kills("server", Send("dev-002", task))


def test_a_fatal_message_kills_its_sender_once(task):
    faults = ScriptedFaults(fatal=parse_moments(["server@1:task"]))
    assert not faults.kills("another", Send("dev-002", task))
    assert not faults.kills("server", SetTimer("task", 1))
    assert faults.kills("server", Send("dev-002", task))
    assert not faults.kills("server", Send("dev-002", task))


def test_random_faults_keep_their_odds(task):
    rng = np.random.default_rng(1)
    faults = RandomFaults(rng, lose=0.2, repeat=0.5, delay_ms=100, kill=0.1, immortal={"server"})
    copies = [faults.copies("a", "b", task) for _ in range(3000)]
    counts = np.bincount([len(delays) for delays in copies], minlength=3) / 3000
    assert np.allclose(counts, [0.2, 0.4, 0.4], atol=0.03)
    delays = [delay for pair in copies for delay in pair]
    assert (min(delays), max(delays)) == (0, 100)
    deaths = sum(faults.kills("dev-000", RoundJoined(1)) for _ in range(3000))
    assert 220 < deaths < 380
    assert not any(faults.kills("server", RoundJoined(1)) for _ in range(300))


def test_without_faults_everything_arrives_once_and_everybody_lives(task):
    faults = NoFaults()
    assert faults.copies("server", "dev-002", task) == [0]
    assert not faults.kills("server", Send("dev-002", task))
