"""One-time keys, and the secrets two members derive from them.

Rules of this file:
    * A prekey serves one round: its device signs it, the roster names it, and it is erased
      when the round is over. No long-term key ever masks or seals.
    * Every derived secret is bound to the round and to both names, so that a value seen in one
      place can serve in no other.
    * A sealing key is derived for one sender, one recipient and one message: its nonce is fixed.
    * A public key of low order, which would make a secret guessable, is refused.

Reference: RFC 7748 (X25519, section 6.1 on all-zero output), RFC 5869 (HKDF).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.messages import PublicPrekey
from secure_pfnas.wire.identity import Party, PartyRole, Signer
from secure_pfnas.wire.randomness import RandomBytes

SEED_BYTES = 32
PREKEYS_REMEMBERED = 8192
_NONCE = bytes(12)
_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Prekey:
    """A device's secret half of one prekey; its printed form shows no key."""

    sequence: int
    mask_key: X25519PrivateKey = field(repr=False)
    seal_key: X25519PrivateKey = field(repr=False)

    def public(self, signer: Signer) -> PublicPrekey:
        """Return the half the server may hand out, signed by the device."""
        mask, seal = self.publics()
        return PublicPrekey(
            sequence=self.sequence,
            mask_public=mask,
            seal_public=seal,
            signature=signer.sign(b"prekey", _statement(signer.name, self.sequence, mask, seal)),
        )

    def publics(self) -> tuple[bytes, bytes]:
        """Return the raw public keys, for masks and for sealing."""
        return (
            self.mask_key.public_key().public_bytes_raw(),
            self.seal_key.public_key().public_bytes_raw(),
        )


def make_prekeys(
    signer: Signer, first_sequence: int, count: int, random: RandomBytes
) -> tuple[Prekey, ...]:
    """Draw ``count`` prekeys for a device, numbered from ``first_sequence``.

    Raises:
        ValueError: ``signer`` is not a device; no roster would accept its prekeys.
    """
    if signer.role is not PartyRole.DEVICE:
        raise ValueError(f"prekeys are made by devices, not by a {signer.role.value}")
    return tuple(
        Prekey(
            sequence,
            X25519PrivateKey.from_private_bytes(random(SEED_BYTES)),
            X25519PrivateKey.from_private_bytes(random(SEED_BYTES)),
        )
        for sequence in range(first_sequence, first_sequence + count)
    )


def verify_prekey(party: Party, prekey: PublicPrekey) -> None:
    """Check that ``party`` is a device, signed ``prekey``, and that its keys are usable.

    Raises:
        Rejected: WRONG_ROLE, BAD_SIGNATURE, or MALFORMED for keys of low order.
    """
    if party.role is not PartyRole.DEVICE:
        raise Rejected(DropReason.WRONG_ROLE, party.role.value, peer=party.name)
    point = party.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = prekey.mask_public, prekey.seal_public
    _verify_prekey(party.name, point, prekey.sequence, keys, prekey.signature)


@lru_cache(maxsize=PREKEYS_REMEMBERED)
def _verify_prekey(
    name: str, point: bytes, sequence: int, publics: tuple[bytes, bytes], signature: bytes
) -> None:
    # A server meets a key in a greeting and in a roster, a host of many devices meets it once for
    # each of them. What is sound once is sound always; refusals are not remembered.
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    statement = _statement(name, sequence, *publics)
    Party(name, PartyRole.DEVICE, key).verify(b"prekey", statement, signature)
    for public in publics:
        _agree(_PROBE, public, name)


def bind(label: str, *parts: bytes) -> bytes:
    """Join a label and parts so that no two lists of parts give the same bytes."""
    return _framed(label.encode(), *parts)


def _framed(*parts: bytes) -> bytes:
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def pair_seed(own: X25519PrivateKey, public: bytes, rid: bytes, cid: str, peer: str) -> bytes:
    """Derive the seed that ``cid`` and ``peer`` share in one round; both get the same."""
    names = (name.encode() for name in sorted((cid, peer)))
    return _derive(_agree(own, public, peer), bind("pair", rid, *names))


@dataclass(frozen=True, slots=True)
class Route:
    """Names the one box that ``sender`` has for ``recipient`` in a round."""

    rid: bytes
    sender: str
    recipient: str

    def info(self) -> bytes:
        """Return what its key and its associated data are bound to."""
        return bind("seal", self.rid, self.sender.encode(), self.recipient.encode())


def seal(own: X25519PrivateKey, public: bytes, route: Route, plaintext: bytes) -> bytes:
    """Seal a route's only box, with the sender's key to the recipient's."""
    key = _derive(_agree(own, public, route.recipient), route.info())
    return AESGCM(key).encrypt(_NONCE, plaintext, route.info())


def unseal(own: X25519PrivateKey, public: bytes, route: Route, box: bytes) -> bytes:
    """Open what ``seal`` closed, with the recipient's key from the sender's.

    Raises:
        Rejected: UNDECIPHERABLE, naming the sender.
    """
    key = _derive(_agree(own, public, route.sender), route.info())
    try:
        return AESGCM(key).decrypt(_NONCE, box, route.info())
    except InvalidTag as error:
        raise Rejected(DropReason.UNDECIPHERABLE, "sealed shares", peer=route.sender) from error


def self_committer(rid: bytes, cid: str) -> Callable[[int, bytes], bytes]:
    """Return what commits a client to the self-mask seed of one of its slots: (slot, seed)."""
    prefix = bind("self-mask", rid, cid.encode())  # the same for thousands of seeds

    def commit(slot: int, seed: bytes) -> bytes:
        return sha256(prefix + _framed(slot.to_bytes(4, "big"), seed)).digest()

    return commit


def self_commitment(rid: bytes, cid: str, slot: int, seed: bytes) -> bytes:
    """Commit a client to the self-mask seed of one of its slots."""
    return self_committer(rid, cid)(slot, seed)


def pair_commitment(rid: bytes, cid: str, peer: str, seed: bytes) -> bytes:
    """Commit to a pair seed; honest partners publish the same value."""
    names = (name.encode() for name in sorted((cid, peer)))
    return sha256(bind("pair-seed", rid, *names, seed)).digest()


def _statement(name: str, sequence: int, mask_public: bytes, seal_public: bytes) -> bytes:
    return bind("prekey", name.encode(), sequence.to_bytes(8, "big"), mask_public, seal_public)


def _agree(own: X25519PrivateKey, public: bytes, peer: str) -> bytes:
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Rejected(DropReason.MALFORMED, "key of low order", peer=peer) from error


def _derive(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), SEED_BYTES, salt=None, info=info).derive(secret)
