"""Who may read and write what: the one table both brokers are made from.

Rules of this file:
    * Rights follow from a certificate's name and role, never from what a client says of itself.
    * A subscription is allowed only if all it could ever match is allowed: ``#`` is refused where
      ``+`` is meant.
    * Nobody has rights outside the federation's tree, hence none on ``$SYS``.
    * Only presence may be retained.

========  =============================  ===========================  ==================
role      reads                          writes                       retains
========  =============================  ===========================  ==================
device    its own ``down``               its own ``up``, presence     its own presence
server    every ``up``, presence         every ``down``               nothing
observer  everything                     nothing                      nothing
broker    nothing                        nothing                      nothing
desk      nothing                        nothing                      nothing
========  =============================  ===========================  ==================
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_pfnas.runtime.topics import Topics
from secure_pfnas.wire.identity import PartyRole

LEAVES = ("chunk", "ack")


@dataclass(frozen=True, slots=True)
class Rights:
    """Topic filters a party may read, write and retain within."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    retains: tuple[str, ...] = ()

    def may_read(self, topic_filter: str) -> bool:
        """Whether all that a filter, or a topic, stands for may be received."""
        return any(covers(pattern, topic_filter) for pattern in self.reads)

    def may_write(self, topic: str) -> bool:
        """Whether a topic may be published on."""
        return _is_topic(topic) and any(covers(pattern, topic) for pattern in self.writes)

    def may_retain(self, topic: str) -> bool:
        """Whether a message on a topic may be kept for those who come later."""
        return _is_topic(topic) and any(covers(pattern, topic) for pattern in self.retains)


def rights_of(name: str, role: PartyRole, federation: str) -> Rights:
    """Return a party's rights; ``name`` may be mosquitto's ``%u``."""
    topics = Topics(federation)
    match role:
        case PartyRole.DEVICE:
            presence = topics.presence(name)
            return Rights(
                reads=(topics.frames(name, "down"),),
                writes=(*(f"{topics.root}/dev/{name}/up/{leaf}" for leaf in LEAVES), presence),
                retains=(presence,),
            )
        case PartyRole.SERVER:
            return Rights(
                reads=(topics.frames("+", "up"), topics.presence("+")),
                writes=tuple(f"{topics.root}/dev/+/down/{leaf}" for leaf in LEAVES),
            )
        case PartyRole.OBSERVER:
            return Rights(reads=(f"{topics.root}/#",))
        case PartyRole.BROKER | PartyRole.DESK:
            return Rights()


def covers(pattern: str, topic_filter: str) -> bool:
    """Whether every topic that ``topic_filter`` matches is matched by ``pattern``, too."""
    allowed, wanted = pattern.split("/"), topic_filter.split("/")
    if not _well_formed(wanted):
        return False
    for position, level in enumerate(allowed):
        if level == "#":
            return True  # it also stands for the level above it
        if position >= len(wanted) or wanted[position] == "#":
            return False
        if level not in ("+", wanted[position]):
            return False
    return len(allowed) == len(wanted)


def _well_formed(levels: list[str]) -> bool:
    return all(
        level == "+" or (level == "#" and position == len(levels) - 1) or _is_topic(level)
        for position, level in enumerate(levels)
    )


def _is_topic(text: str) -> bool:
    return not any(character in text for character in "+#\0")
