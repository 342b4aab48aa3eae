"""Keeps the credentials of running parties fresh.

Rules of this file:
    * At two thirds of a certificate's life it asks the desk for the next one, and now and then for
      CAs and revocation lists; when, is drawn anew each time, so that a fleet does not ask at once.
    * A desk that cannot be reached is asked again; a third of the certificate's life is left.
    * A certificate that was replaced on disk, by whomever, is shown from then on: messages carry
      it at once, connections when they are made anew.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from secure_pfnas.errors import UserError
from secure_pfnas.runtime.credentials import CredentialFiles
from secure_pfnas.runtime.desk.applicant import desk_of, renew
from secure_pfnas.runtime.revocation import stamp
from secure_pfnas.wire.identity import Signer

LOOK_S = 1.0
FIRST_ASK_S = 30.0
ASK_S = 900.0
BROKER_ASKS_S = 1.5
GOODBYE_S = 15.0

log = logging.getLogger(__name__)
_jitter = random.SystemRandom()


@dataclass(slots=True)
class Kept:
    """A party whose credentials are kept fresh.

    Args:
        files: Its own.
        signer: What signs its messages.
        every_s: How long it goes without asking the desk, at most.
    """

    files: CredentialFiles
    signer: Signer
    every_s: float = ASK_S
    seen: object = field(init=False)
    ask_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.seen = stamp(self.files.certificate)
        self.ask_at = time.monotonic() + _jitter.uniform(0, min(FIRST_ASK_S, self.every_s))

    def look(self) -> None:
        """Ask the desk if it is time, and show a certificate that has been replaced."""
        if time.monotonic() >= self.ask_at:
            self.ask_at = time.monotonic() + _jitter.uniform(self.every_s / 2, self.every_s)
            self._ask()
        if self.seen != (seen := stamp(self.files.certificate)):
            self.seen = seen
            self._show()

    def _ask(self) -> None:
        try:
            desk = desk_of(self.files)
            if desk is not None and renew(self.files, desk):
                log.info("%s has a new certificate", self.signer.name)
        except UserError as error:
            log.warning("%s is not renewed: %s", self.signer.name, error.what)

    def _show(self) -> None:
        try:
            fresh = self.files.signer()
        except UserError as error:
            log.warning("%s keeps its certificate: %s", self.signer.name, error.what)
            return
        own = self.signer
        if (fresh.name, fresh.role) != (own.name, own.role) or (
            fresh.private_key.public_key() != own.private_key.public_key()
        ):
            log.warning("%s keeps its certificate: start it again for another key", own.name)
            return
        own.renew(fresh.certificate)
        log.info("%s shows its new certificate", own.name)


class Keeper:
    """A thread that looks after parties; a context manager."""

    def __init__(self, parties: Sequence[Kept]) -> None:
        self._parties = parties
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join(timeout=GOODBYE_S)

    def _run(self) -> None:
        while not self._leave.wait(LOOK_S):
            for party in self._parties:
                if self._leave.is_set():
                    return
                try:
                    party.look()
                except Exception:
                    log.exception("looking after %s failed", party.signer.name)
