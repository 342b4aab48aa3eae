"""What a reward's ε buys and costs, and what happens when it is spent.

The same small federation runs at several budgets, and once without noise, stamped NON-PRIVATE.
The table is in the evidence; accuracy is not promised to rise with ε, since three rounds of a
noisy search prove no such thing. What is promised: nobody spends more than the budget, a budget
too small to learn from is refused before the first round, and a spent one trains nothing.
"""

from __future__ import annotations

import math
from collections import Counter

from secure_pfnas.audit.checks import budget_kept, ledger_matches_releases
from secure_pfnas.audit.findings import Finding, held
from secure_pfnas.errors import UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.play import Play
from secure_pfnas.runtime.stage import Stage

NAME = "privacy_budget"
CLAIM = "a smaller ε never spends more than its budget, and a spent one trains nothing"
FAILS_WITHOUT = {"noise": {"budget_kept", "thin_budget_refused", "spent_budget_trains_nothing"}}
BUDGETS = (3.0, 8.0)
LONGER = ("federation.rounds=5", "training.epochs=4", "training.learning_rate=0.1")


def run(stage: Stage) -> list[Finding]:
    """Play the budgets, then bring the devices of the first one back with nothing left."""
    plays = {
        eps: stage.play(stage.settings(*LONGER, f"privacy.reward_epsilon={eps}")) for eps in BUDGETS
    }
    open_play = stage.play(stage.settings(*LONGER, "privacy.reward_noise=false"))
    table = [f"ε = {eps:g}: {row(play)}" for eps, play in plays.items()]
    table.append(f"no noise (NON-PRIVATE): {row(open_play)}")

    # The same devices, with the ledgers they have, are asked once more by another federation.
    again = stage.settings(
        f"privacy.reward_epsilon={BUDGETS[0]}", "federation.name=again", "federation.rounds=1"
    )
    spent = stage.play(again, ledgers_of=plays[BUDGETS[0]])
    reasons = Counter(reason for _, _, _, reason in spent.seen.drops)
    return [
        held(
            "accuracy_table",
            "every budget's run completed",
            holds=done(plays),
            seen="; ".join(table),
        ),
        *(
            budget_kept.check(p.journal.ledgers, eps, p.federation.plan.delta)
            for eps, p in plays.items()
        ),
        *(ledger_matches_releases.check(play.journal) for play in plays.values()),
        held("thin_budget_refused", "ε too small to learn from is refused", **refused(stage)),
        held(
            "spent_budget_trains_nothing",
            "devices whose budget is spent refuse, and run no batch",
            holds=spent.witness.trainings == 0 and set(reasons) == {"budget_exhausted"},
            seen=f"{spent.witness.trainings} trainings; {dict(reasons)}",
        ),
    ]


def row(play: Play) -> str:
    """One line of the table, from the devices' own folders and the server's records."""
    accuracy = observe.accuracy(observe.device_folders(play.folder))
    chosen = Counter(map(tuple, play.seen.ended[-1].members.values()))
    total = sum(chosen.values())
    entropy = -sum(n / total * math.log2(n / total) for n in chosen.values())
    return f"accuracy {accuracy[max(accuracy)]:.3f}, architecture entropy {entropy:.2f} bits"


def done(plays: dict[float, Play]) -> bool:
    """Whether every round of every run completed."""
    return all(seen.outcome == "COMPLETE" for play in plays.values() for seen in play.seen.ended)


def refused(stage: Stage) -> dict[str, bool | str]:
    """Ask for a budget in which every reward would drown."""
    try:
        Federation.of(stage.settings("privacy.reward_epsilon=0.5"))
    except UserError as error:
        return {"holds": True, "seen": f"{error.what}; {error.todo}"}
    return {"holds": False, "seen": "ε = 0.5 was accepted"}
