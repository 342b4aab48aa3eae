"""An observer hears everything, can say nothing, and what it wrote down adds up."""

from __future__ import annotations

import threading

import pytest

from secure_pfnas.audit.capture import read
from secure_pfnas.audit.reconcile import captured
from secure_pfnas.errors import UserError
from secure_pfnas.runtime.evidence import gather
from secure_pfnas.runtime.observer import Observer
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker
SIZES = (0, 100, 300_000, 1_000_000)


@pytest.fixture
def recording(broker, tmp_path):
    """Record until the test says stop; returns the folder and the observer."""
    over = threading.Event()
    papers = broker.credentials("observer", PartyRole.OBSERVER)
    with Observer(papers, broker.address, tmp_path / "capture") as observer:
        thread = threading.Thread(target=observer.record, args=(over.is_set,))
        thread.start()

        def stop():
            over.set()
            thread.join()
            observer.close()
            return gather([tmp_path / "capture"])

        yield observer, stop
        over.set()
        thread.join()


def test_every_message_and_byte_that_passed_is_written_down(broker, recording, until):
    observer, stop = recording
    heard = []
    with (
        broker.link("server", lambda sender, payload: heard.append(payload)) as server,
        broker.link("dev-c") as device,
    ):
        for size in SIZES:
            device.send("server", bytes(size))
        until(lambda: len(heard) == len(SIZES))
        server.flush(10)
        device.flush(10)
        counted = server.counters  # both directions, as the server's end saw them
    until(lambda: observer.recorder.messages >= counted.messages + 1)
    found = stop()
    assert not found.faults
    (capture,) = found.captures
    frames = [one for _, one in capture.passed if not one.topic.endswith("presence")]
    assert sum(one.size for one in frames) == counted.bytes_up + counted.bytes_down - PRESENCE
    assert {one.publisher for one in frames} == {"server", "dev-c"}
    assert all(one.size == len(one.payload) for one in frames)


PRESENCE = len(b"online")
"""The server's link counts the device's presence among what it received."""


def test_chunks_are_put_together_again(broker, recording, until):
    observer, stop = recording
    heard = []
    with (
        broker.link("server", lambda sender, payload: heard.append(payload)),
        broker.link("dev-d") as device,
    ):
        device.send("server", bytes(600_000))
        until(lambda: heard)
    until(lambda: observer.recorder.bytes > 600_000)
    (capture,) = stop().captures
    journal = captured(capture)
    assert journal.framed
    found = read(journal)
    assert found.unfinished == 0
    assert len(found.faults) == 1  # whole, and no envelope: nothing is skipped in silence


def test_only_an_observers_certificate_records(broker, tmp_path):
    with pytest.raises(UserError, match="not an observer's"):
        Observer(broker.credentials("dev-a"), broker.address, tmp_path)
