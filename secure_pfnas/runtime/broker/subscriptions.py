"""Who listens to what, found without looking at everybody.

Rules of this file:
    * A filter is entered once per session, and a session has a bounded number of them.
    * A session that leaves takes all its filters with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from paho.mqtt.matcher import MQTTMatcher

SUBSCRIPTION_LIMIT = 16


class Subscriptions:
    """Filters of all sessions in one trie; at most ``SUBSCRIPTION_LIMIT`` a session."""

    def __init__(self) -> None:
        self._trie = MQTTMatcher()
        self._filters: dict[str, set[str]] = {}

    def add(self, client: str, topic_filter: str, qos: int) -> bool:
        """Enter a filter; returns False where the session has too many."""
        filters = self._filters.setdefault(client, set())
        if topic_filter not in filters and len(filters) >= SUBSCRIPTION_LIMIT:
            return False
        filters.add(topic_filter)
        self._subscribers(topic_filter)[client] = qos
        return True

    def remove(self, client: str, topic_filter: str) -> bool:
        """Remove a filter; returns whether it was there."""
        filters = self._filters.get(client, set[str]())
        if topic_filter not in filters:
            return False
        filters.discard(topic_filter)
        subscribers = self._subscribers(topic_filter)
        del subscribers[client]
        if not subscribers:
            del self._trie[topic_filter]
        return True

    def remove_all(self, client: str) -> None:
        """Remove a session's filters."""
        for topic_filter in tuple(self._filters.get(client, ())):
            self.remove(client, topic_filter)
        self._filters.pop(client, None)

    def match(self, topic: str) -> dict[str, int]:
        """Return the clients that a topic concerns, each with its highest granted QoS."""
        found: dict[str, int] = {}
        for subscribers in cast("Iterable[dict[str, int]]", self._trie.iter_match(topic)):
            for client, qos in subscribers.items():
                found[client] = max(qos, found.get(client, 0))
        return found

    def _subscribers(self, topic_filter: str) -> dict[str, int]:
        try:
            return cast("dict[str, int]", self._trie[topic_filter])
        except KeyError:
            subscribers: dict[str, int] = {}
            self._trie[topic_filter] = subscribers
            return subscribers
