"""How many neighbours a member of a large slot needs.

Rules of this file:
    * Up to GROUP_MAX members everybody masks everybody; above, the least even degree that meets
      the bound, at the slot's own size.
    * All probabilities are exact fractions of integers: no tail is approximated.
    * The degree decides how often an honest round closes a slot or stalls, never what a hostile
      one learns: that is checked on the survivors themselves (``ring``).

Three events are kept rare, for ⌊γn⌋ colluding and ⌊δn⌋ dropped among n members in random order:
    * two separate runs of k/2 neighbours on the ring are all gone, which would cut it: 2⁻⁴¹;
    * some member has more colluding neighbours than 2t − k allows: 2⁻⁴¹;
    * some member has fewer than t neighbours left: 2⁻²⁰.

Reference: Bell, Bonawitz, Gascón, Lepoint, Raykova, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead", CCS 2020, section 3 (both security events and correctness), for the
Harary graph and a server that may show different survivor sets to different members.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import ceil, comb, floor

from secure_pfnas.secagg.parameters import GROUP_MAX

COLLUDING = Fraction(1, 20)
"""γ that is assumed at least; c/n where that is more."""
DROPPED = Fraction(1, 10)
"""δ, the dropouts up to which a slot stays open but for a chance of 2⁻²⁰."""
_SECURITY = Fraction(1, 2**41)  # 2⁻⁴⁰, halved between two events
_CORRECTNESS = Fraction(1, 2**20)


def degree(members: int, collusion: int) -> int:
    """Return k for a slot of ``members``: everybody else, or an even number fewer.

    Args:
        members: The slot's size |G_s|.
        collusion: c.
    """
    if members <= GROUP_MAX:
        return members - 1
    found = sparse(members, max(COLLUDING, Fraction(collusion, members)), DROPPED)
    return members - 1 if found is None else found[0]


@cache
def sparse(n: int, colluding: Fraction, dropped: Fraction) -> tuple[int, int] | None:
    """Return the least degree k < n − 1 that meets the bound, and its threshold t.

    Args:
        n: Members.
        colluding: γ.
        dropped: δ.

    Returns:
        (k, t); ``None`` where only the complete graph will do. t is what Bell et al. share a
        member's secrets with among its neighbours; this protocol's committee has its own.
    """
    bad, gone = floor(colluding * n), floor(dropped * n)
    alive = ceil((1 - dropped) * n)
    for k in range(2, n - 1, 2):
        if _cut(n, k, bad + gone) >= _SECURITY:
            continue
        most = _colluding_neighbours(n, k, bad)
        t = (most + k) // 2 + 1
        if t <= k and _at_most(n, alive, k, t - 1) * n < _CORRECTNESS:
            return k, t
    return None


def _cut(n: int, k: int, gone: int) -> Fraction:
    """Bound the chance that two disjoint runs of k/2 on a ring of n are all among ``gone``."""
    if k > gone:
        return Fraction(0)
    pairs_of_runs = Fraction(n * (n - k - 1), 2)
    return pairs_of_runs * Fraction(comb(n - k, gone - k), comb(n, gone))


def _colluding_neighbours(n: int, k: int, bad: int) -> int:
    """Return the least number that all members' colluding neighbours stay within, but for 2⁻⁴¹."""
    total, tail, most = comb(n, k), 0, min(bad, k)
    while most > 0:
        tail += _ways(n, bad, k, most)
        if Fraction(tail, total) * n > _SECURITY:
            return most
        most -= 1
    return 0


def _at_most(n: int, marked: int, k: int, count: int) -> Fraction:
    """Return P[of k drawn from n without replacement, at most ``count`` are ``marked``]."""
    return Fraction(sum(_ways(n, marked, k, x) for x in range(count + 1)), comb(n, k))


def _ways(n: int, marked: int, k: int, x: int) -> int:
    return comb(marked, x) * comb(n - marked, k - x)
