"""What is compared: ``[LABEL=]NAME[SECTION.KEY=VALUE,...]``.

Rules of this file:
    * A name is a strategy's or a preset's; what stands in brackets overrides settings for this
      method alone.
    * A method decides how devices learn. Whose data they have, how many they are and how long they
      learn is the comparison's, and no method's.
    * Every method has its own label, which is its folder's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies import STRATEGIES, UNMASKED

_WRITTEN = re.compile(
    r"(?:(?P<label>[A-Za-z0-9][A-Za-z0-9_.+-]*)=)?(?P<name>[^\[\]=]+)(?:\[(?P<inside>.*)\])?",
    re.DOTALL,
)
_COMMON = ("data.", "federation.", "training.strategy", "privacy.seeded_noise")


@dataclass(frozen=True, slots=True)
class Method:
    """One row of a comparison.

    Args:
        label: What it is called, and its folder.
        overrides: ``section.key=value`` strings, later ones first in rank.
    """

    label: str
    overrides: tuple[str, ...]


PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ours": ("training.strategy=perfedrlnas",),
        "faithful": (
            "training.strategy=perfedrlnas",
            "agent.kind=reinforce",
            "agent.faithful=true",
            "training.personal_head=false",
            "training.normalise=all",
            "reward.latency=0",
            "reward.memory=0",
        ),
        "random": ("training.strategy=perfedrlnas", "agent.kind=random"),
    }
)
"""The search as it is by default, as its authors published it, and without any learning."""


def names() -> tuple[str, ...]:
    """Return every name a method may have."""
    return (*PRESETS, *STRATEGIES, *UNMASKED)


def parse_methods(text: str, against: str = "") -> tuple[Method, ...]:
    """Read a comma-separated list of methods; ``against``, if given, is the label of one.

    Raises:
        UserError: USAGE, for the first thing that is wrong.
    """
    methods = tuple(_method(part) for part in split(text))
    if not methods:
        raise _usage(f"--methods {text!r}: names no method")
    labels = [method.label for method in methods]
    for label in labels:
        if labels.count(label) > 1:
            raise _usage(f"--methods: two methods are called {label!r}", "write LABEL=NAME[...]")
    if against and against not in labels:
        raise _usage(f"--against: found {against!r}, expected one of {', '.join(labels)}")
    return methods


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read a comma-separated list of seeds.

    Raises:
        UserError: USAGE, for anything but different numbers.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise _usage(f"--seeds {text}: expected different whole numbers, such as 11,12,13")
    return tuple(int(word) for word in words)


def split(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _method(text: str) -> Method:
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise _usage(f"--methods: cannot read {text!r}")
    name = written["name"].strip()
    if name not in names():
        raise _usage(f"--methods: found {name!r}, expected one of {', '.join(names())}")
    own = split(written["inside"] or "")
    for override in own:
        if override.strip().startswith(_COMMON):
            raise _usage(
                f"--methods: {text}: {override.partition('=')[0]} is the same for every method",
                "set it for all of them, with --set or in CONFIG",
            )
    return Method(
        written["label"] or name, (*PRESETS.get(name, (f"training.strategy={name}",)), *own)
    )


def _usage(what: str, todo: str = "write for example: --methods ours,fedper,local") -> UserError:
    return UserError(what, todo=todo, code=ExitCode.USAGE)
