"""A whole round under homomorphic encryption in memory; every message is encoded on its way."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from secure_pfnas.secagg.ckks import client
from secure_pfnas.secagg.ckks.contributors import dealer_of
from secure_pfnas.secagg.ckks.messages import EncryptedUpload, KeyBox
from secure_pfnas.secagg.ckks.server import Collecting, Keying
from tests.secagg.fleet import Fleet, Register, hop


@dataclass
class CkksFleet(Fleet):
    """The steps of ``Fleet``; the dealer gives its key before anybody is absent."""

    boxes: dict[str, KeyBox] = field(default_factory=dict)
    keyed: Any = None

    @property
    def dealer(self) -> str:
        return dealer_of(self.roster)

    def join(self, cid: str, roster=None, **changes) -> client.Joined:
        seat, applicant = self.seat(cid, roster, **changes)
        return client.Joined(seat, applicant.slot_sizes, changes.get("prekey", self.prekeys[cid]))

    def keying(self) -> Keying:
        return Keying.start(self.roster, self.sizes, Register())

    def server(self) -> Collecting:
        """The dealer makes the key once; the server passes it on."""
        keying = self.keying()
        if self.keyed is None:
            self.keyed, self.dealt = self.join(self.dealer).deal(self.random(self.dealer))
        closed = keying.receive(self.dealer, hop(self.dealt)).close()
        assert isinstance(closed, tuple)
        self.boxes = {cid: hop(box) for cid, box in closed[1].items()}
        return closed[0]

    def upload(self, cid: str) -> EncryptedUpload:
        state = self.keyed if cid == self.dealer else self.join(cid).receive_key(self.boxes[cid])
        self.rounds[cid], message = state.upload(self.values[cid], self.random(cid))
        self.sent[cid] = message
        return hop(message)

    def reveal(self, cid: str, request):
        self.rounds[cid], message = self.rounds[cid].reveal(hop(request))
        return hop(message)

    def committed(self, server, requests, without: Collection[str]):
        for cid, request in requests.items():
            if cid not in without and isinstance(self.rounds.get(cid), client.Uploaded):
                server = server.receive(cid, self.commit(cid, request))
        return server

    def revealed(self, server, requests, without: Collection[str]):
        for cid, request in requests.items():
            if cid not in without:
                server = server.receive(cid, self.reveal(cid, request))
        return server

    @staticmethod
    def altered(message: EncryptedUpload) -> EncryptedUpload:
        first = message.slots[0].model_copy(update={"tag": message.slots[0].tag ^ 1})
        return message.model_copy(update={"slots": (first, *message.slots[1:])})

    @staticmethod
    def cut(message: EncryptedUpload) -> EncryptedUpload:
        first = message.slots[0]
        first = first.model_copy(update={"ciphertext": first.ciphertext[:-8]})
        return message.model_copy(update={"slots": (first, *message.slots[1:])})
