"""Test vectors of secure aggregation: what any implementation must compute, and must refuse.

Everything random is an argument: seeds, keys and coefficients come from named streams, signatures
are deterministic. A ``_bad_`` vector is a whole encoded message with one thing wrong; it names the
field that was tampered with, the operation that must refuse it, and the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secure_pfnas.privacy.quantize import BITS, Quantizer
from secure_pfnas.secagg import keys, shamir
from secure_pfnas.secagg.client import Committed, Uploaded
from secure_pfnas.secagg.degree import degree
from secure_pfnas.secagg.masks import Stream, add_masks
from secure_pfnas.secagg.messages import (
    CommitRequest,
    CommitSignature,
    MemberSignature,
    Reveal,
    RevealRequest,
    Roster,
    Upload,
    rid,
)
from secure_pfnas.secagg.parameters import Suite, threshold
from secure_pfnas.secagg.ring import place
from secure_pfnas.secagg.roster import committee_of
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import PartyRole
from secure_pfnas.wire.randomness import SeededStream
from tests.secagg.fleet import Fleet, signer

HERE = Path(__file__).parent
CID = "dev-001"
GONE = "dev-003"
SLOTS = {
    "dev-000": (0, 1),
    CID: (0, 1, 2),
    "dev-002": (0, 1),
    GONE: (0, 1),
    "dev-004": (0, 2),
    "dev-005": (0, 1),
}
SIZES = {0: 4, 1: 3, 2: 2}
Vector = dict[str, Any]


@dataclass(frozen=True)
class Play:
    """One honest round in which ``GONE`` drops out, with the states and messages of ``CID``."""

    fleet: Fleet
    uploads: dict[str, Upload]
    uploaded: Uploaded
    committed: Committed
    server: dict[str, Any]
    commit: CommitRequest
    signatures: dict[str, CommitSignature]
    request: RevealRequest
    reveals: dict[str, Reveal]
    sums: dict[int, np.ndarray]


@cache
def play() -> Play:
    """Play the round that every ``_bad_`` vector deviates from."""
    fleet = Fleet(SLOTS, SIZES, seed=7)
    collecting = fleet.server()
    uploads = {cid: fleet.upload(cid) for cid in SLOTS if cid != GONE}
    for cid, upload in uploads.items():
        if cid != CID:
            collecting = collecting.receive(cid, upload)
    uploaded = fleet.rounds[CID]
    full = collecting.receive(CID, uploads[CID])
    committing, asked = full.close()
    signatures = {cid: fleet.commit(cid, asked[cid]) for cid in SLOTS if cid != GONE}
    committed, signed = fleet.rounds[CID], committing
    for cid, signature in signatures.items():
        signed = signed.receive(cid, signature)
    revealing, requests = signed.close()
    reveals = {cid: fleet.reveal(cid, request) for cid, request in requests.items()}
    ended = revealing
    for cid, reveal in reveals.items():
        ended = ended.receive(cid, reveal)
    result = ended.close()
    fleet.check(result)
    return Play(
        fleet,
        uploads,
        uploaded,
        committed,
        {"collecting": collecting, "committing": committing, "revealing": revealing},
        asked[CID],
        signatures,
        requests[CID],
        reveals,
        {slot: opened.total for slot, opened in result.sums.items()},
    )


# --- good --------------------------------------------------------------------------------------


def _key(label: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(SeededStream(7, label)(32))


def _round() -> Vector:
    p = play()
    roster = p.fleet.roster
    return {
        "slots": {cid: list(slots) for cid, slots in SLOTS.items()},
        "sizes": {str(slot): size for slot, size in SIZES.items()},
        "identities": {
            cid: signer(cid).private_key.private_numbers().private_value.to_bytes(32, "big").hex()
            for cid in SLOTS
        },
        "prekeys": {
            cid: {
                "mask": prekey.mask_key.private_bytes_raw().hex(),
                "seal": prekey.seal_key.private_bytes_raw().hex(),
            }
            for cid, prekey in p.fleet.prekeys.items()
        },
        "random": {cid: p.fleet.random(cid)(2048).hex() for cid in SLOTS if cid != GONE},
        "values": {
            cid: {str(slot): array.tolist() for slot, array in held.items()}
            for cid, held in p.fleet.values.items()
        },
        "roster": roster.encode().hex(),
        "rid": rid(roster).hex(),
        "committee": list(roster.committee),
        "uploads": {cid: upload.encode().hex() for cid, upload in p.uploads.items()},
        "commit_request": p.commit.encode().hex(),
        "signatures": {cid: s.encode().hex() for cid, s in p.signatures.items()},
        "reveal_request": p.request.encode().hex(),
        "reveals": {cid: reveal.encode().hex() for cid, reveal in p.reveals.items()},
        "sums": {str(slot): total.tolist() for slot, total in p.sums.items()},
        "closed": [2],
    }


def _masks(suite: Suite) -> Vector:
    words, runs = np.zeros(40, np.uint32), [(0, 17), (20, 40)]
    add_masks(words, [Stream(bytes(range(32)), runs)], suite)
    return {
        "seed": bytes(range(32)).hex(),
        "runs": [list(run) for run in runs],
        "words": words.astype("<u4").tobytes().hex(),
    }


def _secrets() -> Vector:
    a, b, identity = _key("a"), _key("b"), sha256(b"round").digest()
    public = b.public_key().public_bytes_raw()
    seed = keys.pair_seed(a, public, identity, "dev-a", "dev-b")
    box = keys.seal(a, public, keys.Route(identity, "dev-a", "dev-b"), b"forty-two")
    return {
        "a": a.private_bytes_raw().hex(),
        "b": b.private_bytes_raw().hex(),
        "rid": identity.hex(),
        "pair_seed": seed.hex(),
        "pair_commitment": keys.pair_commitment(identity, "dev-a", "dev-b", seed).hex(),
        "self_commitment": keys.self_commitment(identity, "dev-a", 5, seed).hex(),
        "plaintext": b"forty-two".hex(),
        "box": box.hex(),
    }


def _shamir() -> Vector:
    secret, coefficients = bytes(range(16)), SeededStream(7, "shamir")(32)
    shares = shamir.split(secret, 5, 3, lambda count: coefficients[:count])
    return {
        "secret": secret.hex(),
        "threshold": 3,
        "coefficients": coefficients.hex(),
        "shares": {str(x): share.hex() for x, share in enumerate(shares, start=1)},
    }


def _graphs() -> Vector:
    identity = sha256(b"round").digest()
    names = [f"dev-{number}" for number in range(8)]
    return {
        "rid": identity.hex(),
        "ring": sorted(names, key=lambda cid: place(identity, cid)),
        "degrees": {
            f"n={n} c={c}": degree(n, c) for c in (0, 3, 30) for n in (64, 65, 100, 200, 500, 1000)
        },
        "thresholds": {
            f"L={size} c={c}": threshold(size, c) for size in (6, 20, 31) for c in (0, 3, 5)
        },
    }


def _quantised(bits: int) -> Vector:
    quantizer, values = Quantizer(1.0, bits, 100), np.linspace(-1.2, 1.2, 25, dtype=np.float32)
    codes = quantizer.encode(values, SeededStream(7, "rounding"))
    return {
        "bound": 1.0,
        "random": SeededStream(7, "rounding")(32).hex(),
        "values": values.astype("<f4").tobytes().hex(),
        "codes": codes.tolist(),
    }


def good() -> dict[str, Vector]:
    """Return every good vector by file name."""
    masks = {f"masks_{suite.value}": _masks(suite) for suite in Suite if suite is not Suite.NONE}
    codes = {f"quantised_{bits}_bits": _quantised(bits) for bits in BITS}
    return {
        "round": _round(),
        **masks,
        "secrets": _secrets(),
        "shamir": _shamir(),
        "graphs": _graphs(),
        **codes,
    }


# --- bad ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """One message that must be refused."""

    name: str
    operation: str
    tampered: str
    refused: str
    message: bytes
    peer: str = CID

    def vector(self) -> Vector:
        """Return what stands in the file."""
        return {
            "deviates_from": "round.json",
            "operation": self.operation,
            "peer": self.peer,
            "tampered": self.tampered,
            "refused": self.refused,
            "message": self.message.hex(),
        }


def _with(message: Message, **changes: object) -> bytes:
    return message.model_copy(update=changes).encode()


def _flip(data: bytes, bit: int = 0) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1 << bit])


def _roster(**changes: object) -> bytes:
    """A roster with other fields and the committee that follows from them."""
    other = play().fleet.roster.model_copy(update=changes)
    return other.model_copy(update={"committee": committee_of(other)}).encode()


def _member(position: int, **changes: object) -> bytes:
    members = list(play().fleet.roster.members)
    members[position] = members[position].model_copy(update=changes)
    return _roster(members=tuple(members))


def _bad_rosters() -> Iterator[Bad]:
    roster = play().fleet.roster
    prekey = roster.members[2].prekey
    statement = keys._statement("dev-002", prekey.sequence, bytes(32), prekey.seal_public)
    signed = signer("dev-002").sign(b"prekey", statement)
    low = prekey.model_copy(update={"mask_public": bytes(32), "signature": signed})
    later = keys.make_prekeys(signer(CID), 2, 1, SeededStream(7, "later"))[0].public(signer(CID))
    renumbered = roster.members[1].prekey.model_copy(update={"sequence": 2})
    cases: list[tuple[str, str, str, bytes]] = [
        ("version", "version", "malformed", _with(roster, version=1)),
        ("federation", "federation", "wrong_federation", _roster(federation="elsewhere")),
        ("stale_round", "round", "wrong_round", _roster(parameters=b"old")),
        ("layout", "layout_digest", "wrong_digest", _roster(layout_digest="cd" * 32)),
        ("suite_none", "suite", "policy_downgrade", _roster(suite=Suite.NONE)),
        ("suite_other", "suite", "policy_downgrade", _roster(suite=Suite.CHACHA20)),
        ("bits", "bits", "policy_downgrade", _roster(bits=16)),
        ("clip", "clip_micro", "policy_downgrade", _roster(clip_micro=1_000_001)),
        ("survivors", "minimum_survivors", "policy_downgrade", _roster(minimum_survivors=2)),
        ("m_min", "minimum_contributors", "policy_downgrade", _roster(minimum_contributors=2)),
        ("collusion", "collusion", "policy_downgrade", _roster(collusion=0)),
        ("threshold", "threshold", "policy_downgrade", _roster(threshold=2)),
        (
            "committee",
            "committee",
            "wrong_committee",
            _with(roster, committee=roster.committee[::-1]),
        ),
        (
            "member_twice",
            "members",
            "duplicate_member",
            _roster(members=(*roster.members, roster.members[-1])),
        ),
        (
            "key_twice",
            "members[2].prekey",
            "duplicate_key",
            _member(2, prekey=roster.members[4].prekey),
        ),
        (
            "key_signature",
            "members[2].prekey.signature",
            "bad_signature",
            _member(2, prekey=prekey.model_copy(update={"signature": _flip(prekey.signature)})),
        ),
        ("key_of_low_order", "members[2].prekey.mask_public", "malformed", _member(2, prekey=low)),
        (
            "certificate",
            "members[4].certificate",
            "untrusted_certificate",
            _member(4, certificate=b"forged"),
        ),
        (
            "name",
            "members[4].certificate",
            "unknown_member",
            _member(4, certificate=signer("dev-005").certificate),
        ),
        (
            "role",
            "members[4].certificate",
            "wrong_role",
            _member(4, certificate=signer("dev-004", PartyRole.SERVER).certificate),
        ),
        ("other_prekey", "members[1].prekey", "reused_prekey", _member(1, prekey=later)),
        (
            "prekey_sequence",
            "members[1].prekey.sequence",
            "bad_signature",
            _member(1, prekey=renumbered),
        ),
        ("slot", "members[1].slots", "wrong_slot", _member(1, slots=(0, 1, 9))),
        (
            "absent",
            "members",
            "unknown_member",
            _roster(members=tuple(m for m in roster.members if m.cid != CID)),
        ),
    ]
    for name, field, refused, message in cases:
        operation = "join after round 1" if name == "stale_round" else "join"
        yield Bad(f"roster_bad_{name}", operation, field, refused, message)


def _bad_uploads() -> Iterator[Bad]:
    upload = play().uploads[CID]
    first, second = upload.slots
    box, *boxes = upload.shares
    longer = first.model_copy(update={"values": first.values + bytes(4)})
    wide = box.model_copy(update={"ciphertext": box.ciphertext + bytes(1)})
    cases: list[tuple[str, str, str, bytes]] = [
        ("rid", "rid", "wrong_round", _with(upload, rid=bytes(32))),
        ("slot_missing", "slots", "wrong_slot", _with(upload, slots=(first,))),
        ("slot_twice", "slots", "wrong_slot", _with(upload, slots=(first, first))),
        ("slot_order", "slots", "wrong_slot", _with(upload, slots=(second, first))),
        ("slot_length", "slots[0].values", "wrong_length", _with(upload, slots=(longer, second))),
        ("box_order", "shares", "wrong_committee", _with(upload, shares=(*boxes, box))),
        (
            "box_length",
            "shares[0].ciphertext",
            "wrong_length",
            _with(upload, shares=(wide, *boxes)),
        ),
        (
            "commitment",
            "self_commitments",
            "malformed",
            _with(upload, self_commitments=upload.self_commitments[1:]),
        ),
        ("trailing", "(after the message)", "malformed", upload.encode() + bytes(1)),
        ("truncated", "(last byte)", "malformed", upload.encode()[:-1]),
    ]
    for name, field, refused, message in cases:
        yield Bad(f"upload_bad_{name}", "receive upload", field, refused, message)
    stranger = "mallory"
    yield Bad(
        "upload_bad_sender",
        "receive upload",
        "(sender)",
        "unknown_member",
        upload.encode(),
        stranger,
    )


def _bad_commits() -> Iterator[Bad]:
    commit, signature = play().commit, play().signatures[CID]
    fewer = {"survivors": commit.survivors[1:], "upload_digests": commit.upload_digests[1:]}
    few = {"survivors": commit.survivors[:2], "upload_digests": commit.upload_digests[:2]}
    strange = {"survivors": (*commit.survivors[:-1], "zed")}
    cases: list[tuple[str, str, str, str, bytes]] = [
        ("rid", "commit", "rid", "wrong_round", _with(commit, rid=bytes(32))),
        ("few", "commit", "survivors", "too_few_survivors", _with(commit, **few)),
        ("stranger", "commit", "survivors", "unknown_member", _with(commit, **strange)),
        ("digests", "commit", "upload_digests", "malformed", _with(commit, upload_digests=())),
        (
            "other_upload",
            "commit",
            "upload_digests",
            "wrong_digest",
            _with(commit, upload_digests=(bytes(32),) * 5),
        ),
        (
            "order",
            "commit",
            "survivors",
            "malformed",
            _with(commit, survivors=commit.survivors[::-1]),
        ),
        ("second_set", "commit again", "survivors", "equivocation", _with(commit, **fewer)),
    ]
    for name, operation, field, refused, message in cases:
        yield Bad(f"commit_bad_{name}", operation, field, refused, message)
    answers: list[tuple[str, str, str, bytes]] = [
        ("rid", "rid", "wrong_round", _with(signature, rid=bytes(32))),
        ("set", "digest", "equivocation", _with(signature, digest=bytes(32))),
        (
            "bit",
            "signature",
            "bad_signature",
            _with(signature, signature=_flip(signature.signature)),
        ),
        ("other", "signature", "bad_signature", play().signatures["dev-002"].encode()),
    ]
    for name, field, refused, message in answers:
        yield Bad(f"signature_bad_{name}", "receive signature", field, refused, message)


def _bad_reveals() -> Iterator[Bad]:
    request, reveal, digest = play().request, play().reveals[CID], play().commit.digest()
    signed = request.signatures
    zed = MemberSignature(cid="zed", signature=signer("zed").sign(b"survivors", digest))
    forged = MemberSignature(
        cid=signed[0].cid, signature=signer(signed[0].cid).sign(b"prekey", digest)
    )
    commit = play().commit
    fewer = commit.model_copy(
        update={"survivors": commit.survivors[1:], "upload_digests": commit.upload_digests[1:]}
    )
    short = play().fleet.roster.threshold - 1
    cases: list[tuple[str, str, str, bytes]] = [
        (
            "few_signatures",
            "signatures",
            "too_few_signatures",
            _with(request, signatures=signed[:short]),
        ),
        (
            "counted_twice",
            "signatures",
            "duplicate_member",
            _with(request, signatures=signed[:1] * 4),
        ),
        ("outsider", "signatures", "wrong_committee", _with(request, signatures=(*signed, zed))),
        (
            "context",
            "signatures[0]",
            "bad_signature",
            _with(request, signatures=(forged, *signed[1:])),
        ),
        ("second_set", "commit.survivors", "equivocation", _with(request, commit=fewer)),
        ("boxes", "sealed", "malformed", _with(request, sealed=request.sealed[1:])),
    ]
    for name, field, refused, message in cases:
        yield Bad(f"reveal_request_bad_{name}", "reveal", field, refused, message)
    first, *rest = reveal.shares
    cut = rest[0].model_copy(update={"shares": rest[0].shares[1:]})
    answers: list[tuple[str, str, str, bytes]] = [
        ("rid", "rid", "wrong_round", _with(reveal, rid=bytes(32))),
        ("missing", "shares", "malformed", _with(reveal, shares=tuple(rest))),
        ("length", "shares[1].shares", "malformed", _with(reveal, shares=(first, cut, *rest[1:]))),
        ("both_kinds", "shares", "malformed", _with(reveal, shares=(first, first, *rest))),
        ("unreadable", "unreadable", "malformed", _with(reveal, unreadable=(GONE,))),
    ]
    for name, field, refused, message in answers:
        yield Bad(f"reveal_bad_{name}", "receive reveal", field, refused, message)


def bad() -> dict[str, Vector]:
    """Return every bad vector by file name."""
    kinds = (_bad_rosters, _bad_uploads, _bad_commits, _bad_reveals)
    return {case.name: case.vector() for kind in kinds for case in kind()}


OPERATIONS: dict[str, Callable[[str, bytes], object]] = {
    "join": lambda cid, data: play().fleet.join(cid, Roster.decode(data)),
    "join after round 1": lambda cid, data: play().fleet.join(
        cid, Roster.decode(data), last_round=1
    ),
    "receive upload": lambda cid, data: (
        play().server["collecting"].receive(cid, Upload.decode(data))
    ),
    "commit": lambda cid, data: play().uploaded.commit(CommitRequest.decode(data), signer(cid)),
    "commit again": lambda cid, data: play().committed.commit(
        CommitRequest.decode(data), signer(cid)
    ),
    "receive signature": lambda cid, data: (
        play().server["committing"].receive(cid, CommitSignature.decode(data))
    ),
    "reveal": lambda _, data: play().committed.reveal(RevealRequest.decode(data)),
    "receive reveal": lambda cid, data: (
        play().server["revealing"].receive(cid, Reveal.decode(data))
    ),
}
"""What must refuse a bad vector: called with the peer it comes from, or goes to, and the bytes."""


def files() -> dict[str, str]:
    """Return every vector's file name and text."""
    vectors = good() | bad()
    return {
        f"{name}.json": json.dumps(vector, indent=1, sort_keys=True) + "\n"
        for name, vector in vectors.items()
    }
