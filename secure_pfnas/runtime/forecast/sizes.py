"""How many bytes a round puts on the wire, from the messages themselves.

Rules of this file:
    * Messages are built and encoded as in a round, with zeros for what is secret and without the
      long runs of weights and masked values, whose lengths are added.
    * Nothing is masked, shared or trained, and no key but a throwaway one is made.
    * All members survive. Counted are envelopes, as the simulator moves them; MQTT's frames and
      acknowledgements come on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from secure_pfnas.nas.space import Architecture
from secure_pfnas.roles.client import HELLO_EVERY_MS
from secure_pfnas.roles.federation import Federation, seeded
from secure_pfnas.roles.messages import KIND_OF, Done, Farewell, Hello, Report, Task
from secure_pfnas.roles.shared_model import DIGEST_BYTES
from secure_pfnas.runtime.enrolment import SERVER
from secure_pfnas.runtime.forecast import ciphers
from secure_pfnas.runtime.parties import EPOCH, EPOCH_MS, endpoint_of
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.messages import (
    SHARE_BYTES,
    TAG_BYTES,
    CommitRequest,
    CommitSignature,
    DealtShares,
    Member,
    MemberSignature,
    PublicPrekey,
    RevealRequest,
    Roster,
    SealedShares,
    SlotPayload,
    Upload,
    rid,
)
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.secagg.reveal import compose, secrets_dealt
from secure_pfnas.secagg.roster import make_roster
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import PartyRole

_SIGNATURE = bytes(71)  # ECDSA on P-256 in DER: 70 to 72 bytes
_WEIGHT_BYTES = 4
_KIND = "k"
_ROUND_MS = 1_200  # of the simulator's virtual time


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one round.

    Attributes:
        up: From each member.
        down: To each member.
        largest_task: The longest message to a device, unsealed.
        largest_report: The longest message from a device, unsealed.
    """

    up: Mapping[str, int]
    down: Mapping[str, int]
    largest_task: int
    largest_report: int


class Postage:
    """Weighs the messages of a federation's rounds.

    Args:
        federation: The terms.
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        authority = MemoryAuthority(federation.name, now=EPOCH)
        trust = authority.trust(lambda: EPOCH)
        self._device = authority.issue(_like_a_device(federation), PartyRole.DEVICE)
        server = authority.issue(SERVER, PartyRole.SERVER)
        ends = [
            endpoint_of(federation, signer, trust, seeded(0, signer.name), EPOCH_MS)
            for signer in (server, self._device)
        ]
        self._down, self._up = (
            len(
                one.seal(
                    other.name,
                    _KIND,
                    Farewell(rounds=0),
                    seal_public=other.seal_public,
                    round=100,
                    now_ms=EPOCH_MS,
                )
            )
            - len(Farewell(rounds=0).encode())
            - len(_KIND)
            for one, other in (ends, ends[::-1])
        )

    def round(self, architectures: Mapping[str, Architecture], number: int) -> Traffic:
        """Return what a round's members send and are sent.

        Raises:
            ValueError: The members cannot meet the terms.
        """
        roster = self._roster(architectures, number)
        up, down = Counter[str](), Counter[str]()
        if roster.scheme is Scheme.CKKS:
            dealer, asked, dealt = ciphers.keying(roster)
            down[dealer] += self._sealed("key_request", _length(asked), down=True)
            up[dealer] += self._sealed("key_deal", _length(dealt), down=False)
        sizes = self._training(roster, architectures)
        for name, (task, report) in sizes.items():
            down[name] += self._sealed("task", task, down=True)
            up[name] += self._sealed("report", report, down=False)
        self._closing(roster, up, down)
        return Traffic(
            up, down, max(task for task, _ in sizes.values()), max(one for _, one in sizes.values())
        )

    @property
    def greeting(self) -> int:
        """Bytes of one device's greeting, with all its keys."""
        federation = self._federation
        keys = tuple(
            _prekey(f"{federation.name}{number}", EPOCH_MS + number)
            for number in range(federation.settings.secagg.prekeys)
        )
        hello = Hello(seal_public=bytes(32), device_class="edge", prekeys=keys)
        return self._sealed("hello", len(hello.encode()), down=False)

    @property
    def greetings(self) -> int:
        """How often a device greets in a simulated run of all rounds, where all goes well."""
        settings = self._federation.settings
        every_ms = min(HELLO_EVERY_MS, int(1000 * settings.deadlines.enrol_s) // 2)
        return 1 + settings.federation.rounds * _ROUND_MS // max(1, every_ms)

    @property
    def farewell(self) -> int:
        """Bytes of the last message to one device."""
        return self._sealed("farewell", len(Farewell(rounds=100).encode()), down=True)

    def _sealed(self, kind: str, body: int, *, down: bool) -> int:
        return (self._down if down else self._up) + len(kind) + body + _header(body) - _header(0)

    def _roster(self, architectures: Mapping[str, Architecture], number: int) -> Roster:
        federation = self._federation
        members = [
            Member(
                cid=name,
                certificate=self._device.certificate,
                prekey=_prekey(name, EPOCH_MS),
                slots=federation.layout.shared(architecture),
            )
            for name, architecture in architectures.items()
        ]
        return make_roster(
            federation=federation.name,
            round=number,
            layout_digest=federation.layout.digest,
            terms=federation.policy,
            members=members,
            server_seal_public=bytes(32),
            parameters=bytes(DIGEST_BYTES * len(federation.fixed_slots(members))),
        )

    def _training(
        self, roster: Roster, architectures: Mapping[str, Architecture]
    ) -> dict[str, tuple[int, int]]:
        """Return the lengths of each member's task and report."""
        layout, graph = self._federation.layout, Graph.of(roster)
        count = 1000 if self._federation.rewards_leave else None
        encoded, value_bytes = roster.encode(), roster.ring_bits // 8
        sizes: dict[str, tuple[int, int]] = {}
        for member in roster.members:
            task = Task(roster=encoded, architecture=architectures[member.cid], weights=b"")
            sent = self._federation.sent_slots(architectures[member.cid])
            weights = _WEIGHT_BYTES * layout.size(sent)
            if roster.scheme is Scheme.CKKS:
                task = task.model_copy(update={"setup": ciphers.setup(roster, member.cid)})
                upload = ciphers.uploaded(roster, graph, member.cid, layout)
            else:
                upload = _length(self._upload(roster, graph, member.cid)) + sum(
                    _grown(value_bytes * layout.slots[slot].size)
                    for slot in graph.offered[member.cid]
                )
            report = len(Report(upload=b"", noised_correct=count).encode())
            sizes[member.cid] = _length(task) + _grown(weights), report + _grown(upload)
        return sizes

    @staticmethod
    def _upload(roster: Roster, graph: Graph, cid: str) -> Upload:
        box = bytes(SHARE_BYTES * secrets_dealt(graph, cid) + TAG_BYTES)
        digest = bytes(DIGEST_BYTES)
        return Upload(
            rid=rid(roster),
            slots=tuple(SlotPayload(slot=slot, values=b"") for slot in graph.offered[cid]),
            shares=tuple(SealedShares(recipient=one, ciphertext=box) for one in roster.committee),
            self_commitments=(digest,) * len(graph.offered[cid]),
            pair_commitments=(digest,) * len(graph.neighbours(cid)),
        )

    def _closing(self, roster: Roster, up: Counter[str], down: Counter[str]) -> None:
        """Add commitment, reveal and the round's end."""
        graph, identity = Graph.of(roster), rid(roster)
        names = tuple(member.cid for member in roster.members)
        digest = bytes(DIGEST_BYTES)
        commit = CommitRequest(rid=identity, survivors=names, upload_digests=(digest,) * len(names))
        signature = CommitSignature(rid=identity, digest=digest, signature=_SIGNATURE)
        openings = graph.openings(names)
        done = Done(rid=identity, complete=True, reason="", survivors=names, closed=openings.closed)
        for name in roster.committee:
            down[name] += self._sealed("commit_request", _length(commit), down=True)
            up[name] += self._sealed("commit_signature", _length(signature), down=False)
        for name in names:
            down[name] += self._sealed("done", _length(done), down=True)
        asked, request, answer = self._opening(roster, graph, commit)
        for name in asked:
            down[name] += self._sealed(KIND_OF[type(request)], _length(request), down=True)
            up[name] += self._sealed(KIND_OF[type(answer)], _length(answer), down=False)

    def _opening(
        self, roster: Roster, graph: Graph, commit: CommitRequest
    ) -> tuple[tuple[str, ...], Message, Message]:
        """Return who opens the sums, what they are asked and what each answers."""
        if roster.scheme is Scheme.CKKS:
            signed = dict.fromkeys(roster.committee, _SIGNATURE)
            return ciphers.opening(roster, graph, self._federation.layout, commit, signed)
        names = commit.survivors
        request = RevealRequest(
            commit=commit,
            signatures=tuple(
                MemberSignature(cid=cid, signature=_SIGNATURE) for cid in roster.committee
            ),
            sealed=tuple(
                DealtShares(
                    dealer=name,
                    ciphertext=bytes(SHARE_BYTES * secrets_dealt(graph, name) + TAG_BYTES),
                )
                for name in names
            ),
        )
        reveal = compose(commit.rid, graph.openings(names), dict.fromkeys(names))
        return roster.committee, request, reveal.model_copy(update={"unreadable": ()})


def _like_a_device(federation: Federation) -> str:
    return f"dev-{federation.settings.federation.clients - 1:03d}"


def _prekey(name: str, sequence: int) -> PublicPrekey:
    mask, seal = (sha256(f"{kind}/{name}".encode()).digest() for kind in ("mask", "seal"))
    return PublicPrekey(sequence=sequence, mask_public=mask, seal_public=seal, signature=_SIGNATURE)


def _length(message: Message) -> int:
    return len(message.encode())


def _header(length: int) -> int:
    """Return the bytes MessagePack puts before a byte string."""
    return 2 if length < 1 << 8 else 3 if length < 1 << 16 else 5


def _grown(length: int) -> int:
    """Return how much longer a message is with so many bytes in an empty field."""
    return length + _header(length) - _header(0)
