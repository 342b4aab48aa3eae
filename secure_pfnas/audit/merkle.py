"""A Merkle tree that only grows, as transparency logs have it.

Rules of this file:
    * Leaves and inner nodes are hashed under different prefixes, so that none passes for the other.
    * A root stands for every leaf, its place and how many there are.

Reference: RFC 6962, *Certificate Transparency*, section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

_LEAF, _NODE = b"\x00", b"\x01"


def leaf(data: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes."""
    return sha256(_LEAF + data).digest()


class Tree:
    """The right edge of a tree: enough to append and to name the root; O(log n) hashes."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[tuple[int, bytes]] = []

    def append(self, hashed: bytes) -> None:
        """Add a leaf's hash."""
        height = 0
        while self._edge and self._edge[-1][0] == height:
            hashed = sha256(_NODE + self._edge.pop()[1] + hashed).digest()
            height += 1
        self._edge.append((height, hashed))
        self.size += 1

    @property
    def root(self) -> bytes:
        """The hash of the whole tree, 32 bytes; of nothing, that of the empty string."""
        if not self._edge:
            return sha256(b"").digest()
        hashed = self._edge[-1][1]
        for _, left in reversed(self._edge[:-1]):
            hashed = sha256(_NODE + left + hashed).digest()
        return hashed


def roots(leaves: Sequence[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """Return the root over the first leaves, for every size that there is."""
    wanted, tree, found = set(sizes), Tree(), dict[int, bytes]()
    if 0 in wanted:
        found[0] = tree.root
    for hashed in leaves:
        tree.append(hashed)
        if tree.size in wanted:
            found[tree.size] = tree.root
    return found
