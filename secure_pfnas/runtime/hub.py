"""One thread that moves bytes for all links of a process.

Rules of this file:
    * Everything a link does, it does on the hub's thread; other threads only ``post`` to it.
    * A pumped link is asked for its deadline and never polled before it.
    * An exception of one link is logged and does not stop the others.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

IDLE_S = 0.5

log = logging.getLogger(__name__)


class Pumped(Protocol):
    """What the hub drives; each method is called on the hub's thread only."""

    def readable(self) -> None:
        """The socket has bytes."""
        ...

    def writable(self) -> None:
        """The socket takes bytes."""
        ...

    def tick(self, now: float) -> float:
        """Do what is due at ``now`` (monotonic seconds); returns when to be asked again."""
        ...


class LinkHub:
    """A selector and a thread, shared by any number of links.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str = "links") -> None:
        self._selector = selectors.DefaultSelector()
        self._due: dict[Pumped, float] = {}
        self._actions: deque[Callable[[], None]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._wake.settimeout(0)
        self._woken.settimeout(0)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, action: Callable[[], None]) -> None:
        """Have ``action`` run on the hub's thread, soon; callable from any thread."""
        self._actions.append(action)
        # A full pipe wakes it just as well, and a closed one means that nobody is left to wake.
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")

    def add(self, link: Pumped) -> None:
        """Drive a link from now on."""
        self.post(lambda: self.hasten(link))

    def remove(self, link: Pumped) -> None:
        """Drive a link no more; its socket must be closed by then."""

        def drop() -> None:
            self._due.pop(link, None)

        self.post(drop)

    def hasten(self, link: Pumped) -> None:
        """Ask a link for its deadline at once: it may be nearer now. Hub's thread only."""
        self._due[link] = 0.0

    def watch(self, sock: socket.socket, link: Pumped, *, writing: bool) -> None:
        """Report readability, and on demand writability, of a socket. Hub's thread only."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        try:
            self._selector.modify(sock, events, link)
        except KeyError:
            self._selector.register(sock, events, link)

    def forget(self, sock: socket.socket) -> None:
        """Report no more on a socket that is about to be closed. Hub's thread only."""
        try:
            self._selector.unregister(sock)
        except (KeyError, ValueError):
            log.debug("forgot a socket that was not watched")

    def close(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        self.post(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turn()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _turn(self) -> None:
        next_due = min(self._due.values(), default=time.monotonic() + IDLE_S)
        for key, events in self._selector.select(max(0.0, next_due - time.monotonic())):
            link: Pumped | None = key.data
            if link is None:
                self._drain()
                continue
            if events & selectors.EVENT_READ:
                _guarded(link.readable)
            if events & selectors.EVENT_WRITE:
                _guarded(link.writable)
            self.hasten(link)
        now = time.monotonic()
        for link in [link for link, due in self._due.items() if due <= now]:
            self._due[link] = now + IDLE_S
            _guarded(lambda link=link: self._tick(link, now))

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._actions:
            _guarded(self._actions.popleft())

    def _tick(self, link: Pumped, now: float) -> None:
        self._due[link] = min(link.tick(now), now + IDLE_S)


def _guarded(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:
        log.exception("a link's turn failed")
