"""Whatever a server asks of a device, in whatever order, across however many lives of it:

never two survivor sets signed in one round, and never both kinds of share of one peer.
"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secure_pfnas.roles.events import Compute, Received, Send
from secure_pfnas.roles.messages import FROM_DEVICE
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.secagg.messages import (
    CommitRequest,
    CommitSignature,
    DealtShares,
    MemberSignature,
    Reveal,
    RevealRequest,
    rid,
)
from secure_pfnas.wire.identity import PartyRole
from tests.roles.hall import Hall, header_of
from tests.simulation.village import federation, signer

DEV = "dev-002"


class HostileServer(RuleBasedStateMachine):
    """Holds every key but the device's, and every upload of an honest round."""

    @initialize()
    def begin(self) -> None:
        self.house = Hall(federation())
        self.house.gather()
        self.house.deliver(held=lambda letter: letter.kind == "commit_request")
        current = self.house.server.desk.round
        self.roster, self.uploads = current.cohort.roster, dict(current.state.deals)
        self.request = current.state.request
        self.asked: list[CommitRequest] = [self.request]
        self.signed: dict[bytes, set[bytes]] = defaultdict(set)
        self.kinds: dict[tuple[bytes, str], set[str]] = defaultdict(set)
        self.signatures = self.reveals = 0
        self.joined: dict[int, int] = defaultdict(int, {1: 1})

    def ask(self, kind: str, body, number: int = 1) -> None:
        data = self.house.forge(DEV, kind, body, number=number)
        for effect in self.house.tell(DEV, Received(data)):
            if isinstance(effect, Compute):
                self.joined[int(effect.job.removeprefix("round-"))] += 1
            if isinstance(effect, Send):
                self.hear(effect.data)

    def hear(self, data: bytes) -> None:
        """Read an answer as the server, whose own book-keeping plays no part here."""
        kind = header_of(data).kind
        if kind == "hello":
            return
        opened = self.house.endpoints[SERVER].open(
            data, expected=PartyRole.DEVICE, now_ms=self.house.now_ms
        )
        match FROM_DEVICE[kind].decode(opened.body):
            case CommitSignature(rid=identity, digest=digest):
                self.signed[identity].add(digest)
                self.signatures += 1
            case Reveal(rid=identity, shares=shares):
                for share in shares:
                    self.kinds[identity, share.peer].add(share.kind)
                self.reveals += 1
            case _:
                pass

    def subset(self, missing: set[int]) -> CommitRequest:
        chosen = [
            (name, digest)
            for index, (name, digest) in enumerate(
                zip(self.request.survivors, self.request.upload_digests, strict=True)
            )
            if index not in missing
        ]
        return CommitRequest(
            rid=self.request.rid,
            survivors=tuple(name for name, _ in chosen),
            upload_digests=tuple(digest for _, digest in chosen),
        )

    @rule(missing=st.sets(st.integers(0, 6), max_size=3))
    def ask_to_sign(self, missing: set[int]) -> None:
        request = self.subset(missing)
        self.asked.append(request)
        self.ask("commit_request", request)

    @rule(data=st.data(), count=st.integers(3, 7))
    def ask_to_reveal(self, data, count: int) -> None:
        """Every other member signs whatever the server likes; so, truly, may the device have."""
        request = data.draw(st.sampled_from(self.asked))
        names = [name for name in self.roster.committee if name != DEV][:count]
        proof = tuple(
            MemberSignature(cid=name, signature=signer(name).sign(b"survivors", request.digest()))
            for name in names
        )
        index = self.roster.committee.index(DEV)
        sealed = tuple(
            DealtShares(dealer=name, ciphertext=self.uploads[name].shares[index].ciphertext)
            for name in request.survivors
        )
        self.ask("reveal_request", RevealRequest(commit=request, signatures=proof, sealed=sealed))

    @rule()
    def ask_to_train_again(self) -> None:
        self.ask("task", self.house.task(DEV, self.roster))

    @rule(number=st.integers(1, 3), fresh=st.booleans())
    def ask_to_train_in_a_roster_of_its_own_making(self, number: int, fresh: bool) -> None:
        members = self.roster.members
        keys = self.house.devices[DEV].kit.keyring.publics()
        if fresh and keys:
            members = tuple(
                member.model_copy(update={"prekey": keys[0]}) if member.cid == DEV else member
                for member in members
            )
        roster = self.house.remade(members=members, round=number)
        self.ask("task", self.house.task(DEV, roster), number)

    @rule()
    def kill_the_device(self) -> None:
        self.house.bear(DEV)

    @precondition(lambda self: hasattr(self, "signed"))
    @invariant()
    def one_set_is_signed_in_a_round(self) -> None:
        assert all(len(digests) <= 1 for digests in self.signed.values())

    @precondition(lambda self: hasattr(self, "signed"))
    @invariant()
    def one_kind_of_share_is_revealed_of_a_peer(self) -> None:
        assert all(len(kinds) == 1 for kinds in self.kinds.values())

    @precondition(lambda self: hasattr(self, "joined"))
    @invariant()
    def a_round_is_joined_once(self) -> None:
        assert all(times == 1 for times in self.joined.values())


HostileServer.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=12,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestHostileServer = HostileServer.TestCase


def test_the_hostile_server_does_get_answers_to_what_is_right():
    """Else the machine above would prove nothing."""
    story = HostileServer()
    story.begin()
    story.ask_to_sign(set())
    proof = tuple(
        MemberSignature(cid=name, signature=signer(name).sign(b"survivors", story.request.digest()))
        for name in story.roster.committee
        if name != DEV
    )
    index = story.roster.committee.index(DEV)
    sealed = tuple(
        DealtShares(dealer=name, ciphertext=story.uploads[name].shares[index].ciphertext)
        for name in story.request.survivors
    )
    request = RevealRequest(commit=story.request, signatures=proof, sealed=sealed)
    story.ask("reveal_request", request)
    assert (story.signatures, story.reveals) == (1, 1)
    assert story.kinds
    assert rid(story.roster) in story.signed
