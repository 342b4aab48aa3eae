"""Two channels joined by a network that loses, repeats, reorders and forgets."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.chunks import Channel, ChunkSettings
from secure_pfnas.wire.frames import HELLO, AckFrame, ChunkFrame, parse
from secure_pfnas.wire.randomness import SeededStream

SMALL = ChunkSettings(
    chunk_bytes=8,
    window=4,
    concurrent=3,
    transfer_bytes=400,
    backlog=50,
    remembered=500,
    timeout_s=1.0,
    timeout_max_s=8.0,
    lifetime_s=1e6,
    stale_s=1e5,
)


class Pair:
    """Two channels, a clock, and a fate for every frame."""

    def __init__(self, settings=SMALL, fate=lambda _frame: 1):
        self.settings = settings
        self.now = 0.0
        self.fate = fate
        self.random = SeededStream(7, "ids")
        self.ends = [Channel(self.random, settings), Channel(self.random, settings)]
        self.wire = []
        self.delivered = ([], [])
        self.frames_sent = 0

    def send(self, end, payload):
        self._emit(end, self.ends[end].send(payload, self.now))

    def step(self, pick=0):
        """Let one frame arrive, or if none is under way let time pass; False if all is done."""
        if self.wire:
            end, frame = self.wire.pop(pick % len(self.wire))
            payloads, frames = self.ends[end].receive(frame, self.now)
            self.delivered[end].extend(payloads)
            self._emit(end, frames)
            return True
        if not any(end.outbox.pending for end in self.ends):
            return False
        self.now = max(self.now, min(end.next_deadline for end in self.ends if end.next_deadline))
        for number, end in enumerate(self.ends):
            self._emit(number, end.due(self.now))
        return True

    def run(self, steps=20_000):
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("it never ends")

    def forget(self, end):
        """One end restarts: it remembers nothing."""
        self.ends[end] = Channel(self.random, self.settings)

    def _emit(self, end, frames):
        self.frames_sent += len(frames)
        for frame in frames:
            self.wire += [(1 - end, frame)] * self.fate(frame)


def is_chunk(frame):
    return isinstance(parse(frame, SMALL), ChunkFrame)


PAYLOADS = st.lists(st.binary(max_size=120), min_size=1, max_size=8)


@settings(max_examples=150)
@given(PAYLOADS, PAYLOADS, st.integers(0, 2**32), st.integers(0, 90), st.integers(0, 60))
def test_whatever_the_network_does_each_payload_arrives_once_and_whole(
    there, back, seed, loss, repeats
):
    rng = random.Random(seed)
    troubled = True

    def fate(_frame):
        if not troubled:
            return 1
        if rng.randrange(100) < loss:
            return 0
        return 2 if rng.randrange(100) < repeats else 1

    pair = Pair(fate=fate)
    for payload in there:
        pair.send(0, payload)
    for payload in back:
        pair.send(1, payload)
    for _ in range(500):
        pair.step(rng.randrange(1000))
    troubled = False
    pair.run()
    assert sorted(pair.delivered[1]) == sorted(there)
    assert sorted(pair.delivered[0]) == sorted(back)


@settings(max_examples=60)
@given(st.binary(min_size=60, max_size=300), st.integers(0, 60))
def test_a_receiver_that_restarts_gets_everything_again(payload, after):
    pair = Pair()
    pair.send(0, payload)
    for _ in range(after):
        pair.step()
    was_delivered = len(pair.delivered[1])
    pair.forget(1)
    pair.run()
    assert set(pair.delivered[1]) == {payload}
    assert len(pair.delivered[1]) <= was_delivered + 1


def test_a_quiet_network_carries_each_chunk_once():
    pair = Pair()
    pair.send(0, bytes(range(200)))
    pair.run()
    assert pair.delivered[1] == [bytes(range(200))]
    assert pair.ends[0].outbox.resent == 0
    assert pair.now < SMALL.timeout_s


def test_the_window_bounds_what_is_under_way():
    pair = Pair()
    for _ in range(5):
        pair.send(0, bytes(100))
    assert len(pair.wire) == SMALL.window
    while pair.step():
        assert sum(is_chunk(frame) for _, frame in pair.wire) <= SMALL.window


def test_after_a_loss_only_the_missing_chunk_is_sent_again():
    lost = []

    def fate(frame):
        if is_chunk(frame) and parse(frame, SMALL).index == 2 and not lost:
            lost.append(frame)
            return 0
        return 1

    pair = Pair(fate=fate)
    pair.send(0, bytes(range(100)))
    pair.run()
    assert pair.delivered[1] == [bytes(range(100))]
    assert pair.ends[0].outbox.resent == 1


def test_a_silent_peer_is_probed_by_one_chunk_ever_more_rarely():
    pair = Pair(fate=lambda _frame: 0)
    pair.send(0, bytes(100))
    sent_at = []
    for _ in range(6):
        before = pair.frames_sent
        pair.step()
        assert pair.frames_sent == before + 1
        sent_at.append(pair.now)
    gaps = [round(b - a, 6) for a, b in pairwise(sent_at)]
    assert gaps == [2.0, 4.0, 8.0, 8.0, 8.0]


def test_a_peer_that_is_heard_again_is_not_left_waiting():
    silent = True
    pair = Pair(fate=lambda _frame: 0 if silent else 1)
    pair.send(0, bytes(100))
    for _ in range(8):
        pair.step()
    silent = False
    then = pair.now
    pair.send(1, b"here I am")
    while pair.delivered[1] == []:
        pair.step()
    assert pair.now - then < SMALL.timeout_s


def test_a_small_message_overtakes_a_large_one():
    pair = Pair()
    pair.send(0, bytes(300))
    pair.send(0, b"small")
    while not pair.delivered[1]:
        pair.step()
    assert pair.delivered[1] == [b"small"]


def test_while_the_line_is_cut_nothing_is_sent_and_then_all_of_it():
    pair = Pair()
    pair.ends[0].outbox.cut()
    pair.send(0, bytes(100))
    assert pair.wire == []
    assert pair.ends[0].due(5.0) == []
    assert pair.ends[0].outbox.revive(5.0) == []
    pair._emit(0, pair.ends[0].outbox.restart(5.0))
    assert len(pair.wire) == SMALL.window
    pair.run()
    assert pair.delivered[1] == [bytes(100)]
    assert pair.ends[0].outbox.resent == 0


def test_what_was_in_flight_when_the_line_broke_is_sent_again():
    pair = Pair()
    pair.send(0, bytes(100))
    pair.wire.clear()
    pair._emit(0, pair.ends[0].outbox.restart(pair.now))
    pair.run()
    assert pair.delivered[1] == [bytes(100)]
    assert pair.ends[0].outbox.resent == SMALL.window


def test_a_peer_that_says_hello_gets_again_what_was_in_flight():
    pair = Pair()
    pair.send(0, bytes(100))
    pair.wire.clear()
    assert pair.ends[0].receive(HELLO, pair.now)[0] == []
    pair.wire = [(1, frame) for frame in pair.ends[0].receive(HELLO, pair.now)[1]]
    pair.run()
    assert pair.delivered[1] == [bytes(100)]
    assert pair.now < SMALL.timeout_s


def test_only_the_latest_transfers_are_remembered():
    brief = ChunkSettings(chunk_bytes=8, remembered=2)
    receiver = Channel(SeededStream(1), brief)
    sender = Channel(SeededStream(2), brief)
    frames = [sender.send(bytes([n]), 0.0)[0] for n in range(3)]
    delivered = [receiver.receive(frame, 0.0)[0] for frame in [*frames, frames[2], frames[0]]]
    assert delivered == [[b"\0"], [b"\1"], [b"\2"], [], [b"\0"]]


def test_what_makes_no_progress_is_given_up():
    patience = ChunkSettings(chunk_bytes=8, concurrent=1, lifetime_s=100.0)
    pair = Pair(patience, fate=lambda _frame: 0)
    pair.send(0, b"one")
    pair.send(0, b"two")
    pair.run()
    assert pair.ends[0].outbox.abandoned == 2
    assert 100 <= pair.now <= 200


def test_the_backlog_is_bounded_and_the_oldest_gives_way():
    short = ChunkSettings(chunk_bytes=8, concurrent=1, backlog=2)
    pair = Pair(short)
    for payload in (b"a", b"b", b"c", b"d"):
        pair.send(0, payload)
    pair.run()
    assert pair.delivered[1] == [b"a", b"c", b"d"]
    assert pair.ends[0].outbox.abandoned == 1


def test_a_payload_above_the_limit_is_our_own_mistake():
    with pytest.raises(ValueError, match="exceed"):
        Pair().send(0, bytes(401))


def test_large_transfers_wait_until_the_receiver_has_room():
    pair = Pair()
    for number in range(3):
        pair.send(0, bytes([number]) * 300)
    pair.run()
    assert sorted(pair.delivered[1]) == [bytes([number]) * 300 for number in range(3)]
    assert pair.ends[0].outbox.resent == 0


def test_a_sender_cannot_make_the_receiver_hold_more_than_the_limit():
    receiver = Channel(SeededStream(1), SMALL)
    for number in range(200):
        frame = ChunkFrame(number.to_bytes(16), 0, 38, 300, bytes(32), bytes(8))
        receiver.receive(frame.encode(), 0.0)
    partial = receiver.inbox._partial.values()
    assert sum(t.size for t in partial) <= SMALL.transfer_bytes
    for number in range(200):
        frame = ChunkFrame(number.to_bytes(16), 0, 2, 10, bytes(32), bytes(8))
        receiver.receive(frame.encode(), 0.0)
    assert len(receiver.inbox._partial) <= SMALL.concurrent


def test_half_a_transfer_is_forgotten_in_the_end():
    receiver = Channel(SeededStream(1), SMALL)
    receiver.receive(ChunkFrame(bytes(16), 0, 2, 10, bytes(32), bytes(8)).encode(), 0.0)
    receiver.due(1.0)
    assert receiver.next_deadline == SMALL.stale_s
    receiver.due(SMALL.stale_s)
    assert receiver.next_deadline is None


def test_a_transfer_that_does_not_fit_its_digest_is_refused_and_can_be_repaired():
    pair = Pair()
    pair.send(0, bytes(40))
    end, frame = pair.wire.pop(0)
    pair.wire.insert(0, (end, frame[:-1] + b"\x99"))
    with pytest.raises(Rejected) as caught:
        pair.run()
    assert caught.value.reason is DropReason.WRONG_DIGEST
    assert pair.delivered[1] == []
    pair.run()
    assert pair.delivered[1] == [bytes(40)]


def test_two_headers_for_one_transfer_are_refused():
    receiver = Channel(SeededStream(1), SMALL)
    receiver.receive(ChunkFrame(bytes(16), 0, 2, 10, bytes(32), bytes(8)).encode(), 0.0)
    with pytest.raises(Rejected) as caught:
        receiver.receive(ChunkFrame(bytes(16), 1, 2, 10, b"x" * 32, bytes(2)).encode(), 0.0)
    assert caught.value.reason is DropReason.MALFORMED


def test_acknowledgements_of_unknown_or_differently_shaped_transfers():
    sender = Channel(SeededStream(1), SMALL)
    assert sender.receive(AckFrame(b"?" * 16, 1, 1).encode(), 0.0) == ([], [])
    (first, *_) = sender.send(bytes(20), 0.0)
    with pytest.raises(Rejected):
        sender.receive(AckFrame(parse(first, SMALL).transfer, 5, 0).encode(), 0.0)


def test_each_half_takes_its_own_kind_only():
    channel = Channel(SeededStream(1), SMALL)
    (frame,) = channel.send(b"x", 0.0)
    delivered, (ack,) = channel.inbox.receive(frame, 0.0)
    assert delivered == [b"x"]
    with pytest.raises(Rejected):
        channel.inbox.receive(ack, 0.0)
    with pytest.raises(Rejected):
        channel.outbox.receive(frame, 0.0)
    assert channel.outbox.receive(ack, 0.0) == []
    assert channel.outbox.pending == 0


def test_patience_grows_with_the_round_trip():
    sender = Channel(SeededStream(1), SMALL)
    now = 0.0
    for _ in range(40):
        (frame,) = sender.send(b"x", now)
        now += 0.9
        sender.receive(AckFrame(parse(frame, SMALL).transfer, 1, 1).encode(), now)
    sender.send(b"x", now)
    assert 3.0 < sender.next_deadline - now < 4.0


def test_one_random_schedule_with_forgetting_ends_with_everything_delivered():
    rng = random.Random(5)
    pair = Pair(fate=lambda _frame: rng.choice((0, 1, 1, 2)))
    sent = [rng.randbytes(rng.randrange(120)) for _ in range(40)]
    for payload in sent:
        pair.send(0, payload)
    for step in range(1500):
        pair.step(rng.randrange(1000))
        if step in (200, 700):
            pair.forget(1)
    pair.fate = lambda _frame: 1
    pair.run()
    assert set(pair.delivered[1]) == set(sent)
