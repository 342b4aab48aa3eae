"""Rebuilding dealt secrets from shares, some of which may be wrong.

Rules of this file:
    * A secret counts only if it matches the commitment its dealer published with its upload.
    * A wrong share is located by trying smaller sets, within a fixed number of tries; then the
      polynomial says which shares lie off it.
    * Who lies off a polynomial was dealt a bad share or gave one: each find is a *dispute*
      between dealer and member. Who appears in most disputes is named first. Names are advice:
      members who agree on their errors can shift the blame, never the secret.

Reference: Shamir, CACM 22(11), 1979; error location by commitment instead of Reed-Solomon
decoding corrects up to n − t wrong shares instead of half of that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations, islice

from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.messages import SHARE_BYTES

TRIES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Deal:
    """One dealer's secrets as the committee returned them.

    Attributes:
        dealer: Who dealt them.
        shares: x → that member's shares, end to end; 32 bytes a secret.
        commit: Computes the commitment to secret number k.
        commitments: What the dealer published, one for each secret.
    """

    dealer: str
    shares: Mapping[int, bytes]
    commit: Callable[[int, bytes], bytes]
    commitments: tuple[bytes, ...]

    def first_wrong(self, secrets: bytes) -> int | None:
        """Return the number of the first secret that does not match its commitment."""
        for k, commitment in enumerate(self.commitments):
            if self.commit(k, _cut(secrets, k)) != commitment:
                return k
        return None


@dataclass(slots=True)
class Recovery:
    """Recovers deal after deal, remembering whose shares were wrong before.

    Attributes:
        threshold: Shares a polynomial takes.
        disputes: (dealer, x) of every share that lay off its polynomial.
        lost: Dealers whose secrets no set of shares gives.
    """

    threshold: int
    disputes: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    lost: list[str] = field(default_factory=list[str])
    _tries: int = TRIES_MAX

    def recover(self, deal: Deal) -> tuple[bytes, ...] | None:
        """Return a deal's secrets, each matching its commitment, or None if it is lost."""
        shares = dict(deal.shares)
        while len(shares) >= self.threshold:
            chosen = self._trusted_first(shares)[: self.threshold]
            secrets = shamir.interpolate({x: shares[x] for x in chosen})
            wrong = deal.first_wrong(secrets)
            if wrong is None:
                self._audit(deal.dealer, shares, chosen)
                return tuple(_cut(secrets, k) for k in range(len(deal.commitments)))
            liars = self._locate(deal, shares, wrong)
            if not liars:
                break
            for x in liars:
                self.disputes.add((deal.dealer, x))
                del shares[x]
        self.lost.append(deal.dealer)
        return None

    def _audit(self, dealer: str, shares: Mapping[int, bytes], chosen: list[int]) -> None:
        """Once there is a dispute, look at the spare shares too: it takes several to tell who."""
        if self.disputes:
            good = {x: shares[x] for x in chosen}
            spare = (x for x in shares if x not in good)
            off = {x for x in spare if shamir.interpolate(good, at=x) != shares[x]}
            self.disputes.update((dealer, x) for x in off)

    def _trusted_first(self, shares: Mapping[int, bytes]) -> list[int]:
        suspects = {x for _, x in self.disputes}
        return sorted(shares, key=lambda x: (x in suspects, x))

    def _locate(self, deal: Deal, shares: Mapping[int, bytes], k: int) -> list[int]:
        """Find the shares of secret ``k`` that lie off its committed polynomial."""
        cut = {x: _cut(values, k) for x, values in shares.items()}
        for chosen in self._subsets(cut):
            good = {x: cut[x] for x in chosen}
            if deal.commit(k, shamir.interpolate(good)) == deal.commitments[k]:
                return [x for x in cut if shamir.interpolate(good, at=x) != cut[x]]
        return []

    def _subsets(self, shares: Mapping[int, bytes]) -> Iterator[tuple[int, ...]]:
        """Yield sets of a threshold of shares, leaving out one, then two, … of them."""
        spare = len(shares) - self.threshold
        left_out = chain.from_iterable(combinations(shares, n) for n in range(1, spare + 1))
        for excluded in islice(left_out, self._tries):
            self._tries -= 1
            yield tuple(x for x in shares if x not in excluded)[: self.threshold]


def culprits(disputes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Name who explains all disputes: always the party in most of those left, the accused first."""
    left: list[tuple[str, str]] = sorted(disputes)
    named: list[str] = []
    while left:
        count = Counter(chain.from_iterable(left))
        accused = {second for _, second in left}
        worst = max(count, key=lambda name: (count[name], name in accused, name))
        named.append(worst)
        left = [pair for pair in left if worst not in pair]
    return tuple(named)


def _cut(values: bytes, k: int) -> bytes:
    return values[k * SHARE_BYTES : (k + 1) * SHARE_BYTES]
