"""An observer at the broker and a curious server look for what no device gave away.

Two devices carry canaries: an update, a model, parameters, counts and keys that are known to the
auditor and to nobody else. The observer holds every byte that passed the broker; the server
remembers every plaintext it read or wrote, and its folder is searched as well.

With the masking off, the same search finds the canaries' updates at the server. With the noise
off, the same comparison finds the exact counts. What passes the broker stays sealed either way.
"""

from __future__ import annotations

from secure_pfnas.audit.checks import (
    ledger_matches_releases,
    masked_words_uniform,
    masks_fresh,
    message_schema,
    no_plaintext,
    reward_noised,
    single_client_sum,
)
from secure_pfnas.audit.findings import Finding
from secure_pfnas.privacy.calibration import reward_sigma
from secure_pfnas.runtime.stage import Stage

NAME = "audit_communication"
CLAIM = "broker and curious server find no metric, no update and no single client's sum"
FAILS_WITHOUT = {
    "masking": {
        "masked_words_uniform",
        "masks_fresh",
        "single_client_sum",
        "no_plaintext_at_server",
    },
    "noise": {"reward_noised"},
}


def run(stage: Stage) -> list[Finding]:
    """Play three rounds with two canaries, then look at everything."""
    settings = stage.settings()
    play = stage.play(settings, canaries=("dev-001", "dev-005"))

    # What was promised, whatever the settings of this performance say.
    promised = reward_sigma(
        settings.privacy.reward_epsilon, play.federation.plan.delta, settings.federation.rounds
    )
    return [
        message_schema.check(play.journal),
        no_plaintext.check("at_broker", play.at_broker(), play.wanted_at_broker()),
        no_plaintext.check("at_server", play.at_server(), play.wanted()),
        masked_words_uniform.check(play.journal),
        masks_fresh.check(play.journal),
        single_client_sum.check(play.journal, settings.secagg.minimum_contributors),
        reward_noised.check(play.journal, play.witness.truths, float(promised)),
        ledger_matches_releases.check(play.journal),
    ]
