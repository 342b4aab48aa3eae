"""Somebody at the broker writes everything down, and tries to read it.

One device carries canaries. The eavesdropper searches every byte that passed, in whatever form a
careless build might have written it, and tries the one sealing key that it knows.

With the sealing off, every device uses that key: the eavesdropper opens what the server sends, and
finds the weights that were meant for the canary.
"""

from __future__ import annotations

from itertools import chain

from secure_pfnas.audit.capture import read
from secure_pfnas.audit.checks import message_schema, no_plaintext, sealed_bodies
from secure_pfnas.audit.findings import Finding
from secure_pfnas.runtime.stage import Stage
from secure_pfnas.runtime.witness import GUESSED

NAME = "eavesdropper"
CLAIM = "whoever reads every byte at the broker learns no weight, update, metric or key"
FAILS_WITHOUT = {"sealing": {"no_plaintext_at_broker"}}


def run(stage: Stage) -> list[Finding]:
    """Play one round with a canary, and search."""
    play = stage.play(stage.settings("federation.rounds=1"), canaries=("dev-002",))
    read_places = chain(play.at_broker(), play.opened_with(GUESSED))
    return [
        message_schema.check(play.journal),
        no_plaintext.check("at_broker", read_places, play.wanted_at_broker()),
        sealed_bodies.check(read(play.journal)),
    ]
