"""A fleet of twenty devices, of which some fail and some may not take part.

One report is lost on the way. One device dies just before it reports, and comes back while the
server still waits; both sit out a round and then take part again. One device pins
stricter terms than the server offers, and stays out by itself. One impostor has a device's name on
a certificate of another CA. Every round completes all the same.
"""

from __future__ import annotations

from secure_pfnas.audit.checks import ledger_matches_releases, message_schema, single_client_sum
from secure_pfnas.audit.findings import Finding, held
from secure_pfnas.runtime.faults import Moment, ScriptedFaults
from secure_pfnas.runtime.stage import Stage

NAME = "iot_fleet"
CLAIM = "twenty devices complete every round, though some drop, one refuses and one is refused"

LOST, KILLED, STRICT, IMPOSTOR = "dev-003", "dev-004", "dev-018", "dev-019"
FLEET = (
    "federation.clients=20",
    "federation.cohort=20",
    "data.train_per_client=25",
    "data.validation_per_client=40",
    "data.test_per_client=15",
    "privacy.reward_epsilon=8",
    "deadlines.enrol_s=8",
    "deadlines.training_s=16",
)


def run(stage: Stage) -> list[Finding]:
    """Play three rounds with a fleet that misbehaves."""
    settings = stage.settings(*FLEET)
    play = stage.play(
        settings,
        faults=ScriptedFaults(
            lost=frozenset({Moment(LOST, 1, "report")}),
            fatal={Moment(KILLED, 1, "report")},
        ),
        impostors={IMPOSTOR},
        own_terms={STRICT: stage.settings(*FLEET, "secagg.update_clip=1.0")},
    )
    ended = {seen.number: seen.outcome for seen in play.seen.ended}
    drops = {(number, name): reason for number, name, _, reason in play.seen.drops}
    back = play.seen.ended[-1].survivors
    members = {name for seen in play.seen.rounds for name in seen.members}
    refusals = {reason for (_, name), reason in drops.items() if name == STRICT}
    return [
        held(
            "every_round_complete",
            "three rounds ended COMPLETE",
            holds=list(ended.values()) == ["COMPLETE"] * 3,
            seen=", ".join(f"round {number} {outcome}" for number, outcome in ended.items()),
        ),
        held(
            "drops_survived",
            "who dropped out of the first round takes part in the third",
            holds={(1, LOST), (1, KILLED)} <= drops.keys() and {LOST, KILLED} <= set(back),
            seen=f"{LOST}: {drops.get((1, LOST))}; {KILLED}: {drops.get((1, KILLED))}",
        ),
        held(
            "impostor_refused",
            "a certificate of another CA opens no door",
            holds=not play.admitted[IMPOSTOR] and IMPOSTOR not in members,
            seen=f"{IMPOSTOR} {'admitted' if play.admitted[IMPOSTOR] else 'turned away'}",
        ),
        held(
            "strict_device_refuses",
            "a device whose terms are not met trains nothing and releases nothing",
            holds=refusals == {"policy_downgrade"} and not play.journal.ledgers[STRICT].entries,
            seen=f"{STRICT}: {', '.join(sorted(refusals)) or 'did not refuse'}",
        ),
        message_schema.check(play.journal),
        single_client_sum.check(play.journal, settings.secagg.minimum_contributors),
        ledger_matches_releases.check(play.journal),
    ]
