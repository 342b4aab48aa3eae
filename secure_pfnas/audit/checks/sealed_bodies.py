"""What is said to be sealed looks like it, and no two bodies share a key.

A plaintext tensor has exponents that repeat, a text has letters: neither is uniform in its bytes.
Necessary, not sufficient: what looks uniform may still be readable to whoever has the key.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secure_pfnas.audit.capture import Captured, Seen
from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.statistics import FALSE_ALARM, WORDS_NEEDED, looks_uniform

NAME = "sealed_bodies"
CLAIM = "every sealed body is indistinguishable from random bytes, under a key of its own"
_KEY_BYTES = 32  # HPKE's encapsulated key comes first


def check(captured: Captured, false_alarm: float = FALSE_ALARM) -> Finding:
    """Compare every sealed body's bytes with uniform ones by χ², and its key with all others.

    Args:
        captured: What passed.
        false_alarm: Probability that honest bodies fail, over all of them together.
    """
    sealed = [seen for seen in captured.envelopes if seen.header.sealed]
    judgeable = [seen for seen in sealed if len(seen.envelope.body) // 4 >= WORDS_NEEDED]
    if not judgeable:
        return unseen(NAME, CLAIM, f"{len(sealed)} sealed bodies, none of {4 * WORDS_NEEDED} bytes")
    level = false_alarm / len(judgeable)
    faults = [f"{_named(seen)}: not uniform" for seen in judgeable if not _uniform(seen, level)]
    faults += _reused(sealed)
    return judged(
        NAME,
        CLAIM,
        faults,
        f"{len(sealed)} sealed bodies, {len(judgeable)} long enough for χ²; "
        f"false alarms ≤ {false_alarm:g}",
    )


def _uniform(seen: Seen, level: float) -> bool:
    body = seen.envelope.body
    return looks_uniform(np.frombuffer(body[: len(body) // 4 * 4], dtype="<u4"), level)


def _reused(sealed: list[Seen]) -> Iterator[str]:
    """Two different bodies under one encapsulated key."""
    first: dict[bytes, bytes] = {}
    for seen in sealed:
        if first.setdefault(seen.envelope.body[:_KEY_BYTES], seen.digest) != seen.digest:
            yield f"{_named(seen)}: its key sealed another body, too"


def _named(seen: Seen) -> str:
    header = seen.header
    return f"{header.kind} of {header.sender} in round {header.round}"
