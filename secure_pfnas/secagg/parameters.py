"""What a round must at least promise before a client joins it.

Rules of this file:
    * A client pins a ``ClientPolicy``; a roster may be stricter, never laxer.
    * Two survivor sets can never both find a threshold of signers: 2t > L + c.
    * A slot's sum hides its contributors from c colluding members: m_min >= c + 2.
    * A sum can never wrap: n · (2**bits − 1) < 2**ring_bits.

Reference: Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", CCS 2017, section 6.2 (thresholds); Ma et al., "Flamingo", IEEE S&P 2023 (committee).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

COMMITTEE_MAX = 31
GROUP_MAX = 64
"""The most members of a slot that all mask each other; larger slots have a sparse graph."""
RING_BITS = (24, 32)
"""The rings Z_2**b that sums are made in: three bytes a value on the wire, or four."""
WEIGHT_ONE = 16
"""A member's weight in sixteenths: what it adds to a sum is that share of its values."""


class Suite(StrEnum):
    """How masks are expanded. ``NONE`` is NON-PRIVATE: the protocol runs, nothing is masked."""

    AES_256_CTR = "aes-256-ctr"
    CHACHA20 = "chacha20"
    NONE = "none"


class Scheme(StrEnum):
    """How sums are formed: by masks, or by ciphertexts of one key that all members share.

    ``CKKS`` holds against the server only; any one member and the server together read everything.
    """

    MASKING = "masking"
    CKKS = "ckks"


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """The least a client accepts, and what a server proposes for a round.

    Args:
        minimum_survivors: n_min, uploads below which the round aborts (>= 2).
        minimum_contributors: m_min, members below which a slot stays closed (>= collusion + 2).
        collusion: c, roster members assumed to share what they know with the server (>= 0).
        bits: Bits of one quantised value (1 to 31); a roster must state exactly these.
        clip_micro: L2 clipping norm in millionths; a roster may state less, never more.
        ring_bits: Width b of the ring Z_2**b; a roster must state exactly this.
        scheme: How sums are formed; a roster must state exactly this.
        suite: How masks are expanded; a roster must state exactly this, or mask where it is NONE.

    Raises:
        ValueError: The numbers contradict each other.
    """

    minimum_survivors: int
    minimum_contributors: int
    collusion: int
    bits: int
    clip_micro: int
    suite: Suite = Suite.AES_256_CTR
    ring_bits: int = 32
    scheme: Scheme = Scheme.MASKING

    def __post_init__(self) -> None:
        if self.collusion < 0 or self.minimum_contributors < self.collusion + 2:
            raise ValueError("minimum_contributors must be at least collusion + 2")
        if self.minimum_survivors < 2:
            raise ValueError("minimum_survivors must be at least 2")
        if self.ring_bits not in RING_BITS:
            raise ValueError(f"ring_bits must be one of {RING_BITS}")
        if not 1 <= self.bits < self.ring_bits or self.clip_micro < 1:
            raise ValueError("bits must be 1 to ring_bits - 1 and clip_micro positive")

    @property
    def masking(self) -> bool:
        """Whether uploads are masked at all."""
        return self.suite is not Suite.NONE

    def meets(self, pinned: ClientPolicy) -> bool:
        """Tell whether a round with these values is at least as strict as ``pinned``."""
        return (
            self.minimum_survivors >= pinned.minimum_survivors
            and self.minimum_contributors >= pinned.minimum_contributors
            and self.collusion >= pinned.collusion
            and self.bits == pinned.bits
            and self.ring_bits == pinned.ring_bits
            and self.scheme is pinned.scheme
            and self.clip_micro <= pinned.clip_micro
            and (self.suite is pinned.suite or not pinned.masking)
        )


def committee_size(members: int) -> int:
    """Return L for a roster of ``members``."""
    return min(members, COMMITTEE_MAX)


def threshold(size: int, collusion: int) -> int:
    """Return t, the signatures and shares a committee of ``size`` must give.

    Guarantees: 2t > size + collusion, and t <= size.

    Raises:
        ValueError: No such t exists, because ``size`` <= ``collusion``.
    """
    needed = (size + collusion) // 2 + 1
    if not 1 <= needed <= size:
        raise ValueError(f"a committee of {size} cannot stand {collusion} colluding members")
    return needed


def check_headroom(bits: int, members: int, ring_bits: int = 32) -> None:
    """Prove that the largest possible slot sum fits the ring Z_2**ring_bits.

    Raises:
        ValueError: ``members`` values of ``bits`` bits can wrap.
    """
    if members * (2**bits - 1) >= 2**ring_bits:
        raise ValueError(f"{members} values of {bits} bits can exceed 2**{ring_bits}")
