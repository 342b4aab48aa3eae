"""The hub drives many links with one thread, and none can stop it."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from secure_pfnas.runtime.hub import LinkHub


class Doll:
    """A link that counts how it is driven."""

    def __init__(self, wait=60.0):
        self.wait = wait
        self.ticks = 0
        self.read = []
        self.sock = None
        self.written = threading.Event()
        self.ticked = threading.Event()
        self.heard = threading.Event()

    def readable(self):
        self.read.append(self.sock.recv(100))
        self.heard.set()
        raise RuntimeError("a link may fail")

    def writable(self):
        self.written.set()
        hub_of[self].watch(self.sock, self, writing=False)

    def tick(self, now):
        self.ticks += 1
        self.ticked.set()
        return now + self.wait


hub_of = {}


@pytest.fixture
def hub():
    hub = LinkHub()
    yield hub
    hub.close()


def test_sockets_are_served_and_a_failure_stops_nobody(hub, caplog):
    doll = Doll()
    hub_of[doll] = hub
    doll.sock, peer = socket.socketpair()
    hub.add(doll)
    hub.post(lambda: hub.watch(doll.sock, doll, writing=True))
    assert doll.written.wait(5)
    for word in (b"one", b"two"):
        doll.heard.clear()
        peer.send(word)
        assert doll.heard.wait(5)
    assert doll.read == [b"one", b"two"]
    gone = threading.Event()
    hub.post(lambda: (hub.forget(doll.sock), hub.forget(doll.sock), gone.set()))
    assert gone.wait(5)
    assert "failed" in caplog.text
    doll.sock.close()
    peer.close()


def test_a_link_is_asked_when_it_is_due_and_not_before(hub):
    eager, lazy = Doll(wait=0.01), Doll(wait=60.0)
    hub.add(eager)
    hub.add(lazy)
    deadline = time.monotonic() + 5
    while eager.ticks < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert eager.ticks >= 5
    assert lazy.ticks < eager.ticks
    hub.remove(eager)
    done = threading.Event()
    hub.post(done.set)
    assert done.wait(5)
    before = eager.ticks
    lazy.ticked.clear()
    hub.post(lambda: hub.hasten(lazy))
    assert lazy.ticked.wait(5)
    assert eager.ticks == before


def test_posting_to_a_closed_hub_is_harmless():
    hub = LinkHub()
    hub.close()
    hub.post(lambda: None)
    hub.close()
