"""What ε buys and costs, and what happens when it is spent.

The experiment of ``docs/experiments/privacy.toml`` in small: some of its points, on eight devices
with digits, each with masks, noise and ledgers as the point says; the whole of it is

    secure-pfnas sweep docs/experiments/privacy.toml --out runs/privacy

The table is in the evidence; accuracy is not promised to rise with ε, since four rounds of a
noisy search prove no such thing. What is promised: nobody spends more than the budget, a budget
too small to learn from is refused before the first round, and a spent one trains nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from secure_pfnas.audit.checks import budget_kept, ledger_matches_releases
from secure_pfnas.audit.findings import Finding, held
from secure_pfnas.errors import UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.play import Play
from secure_pfnas.runtime.stage import Stage
from secure_pfnas.runtime.sweep.file import points_of, read_sweep, switched

NAME = "privacy_budget"
CLAIM = "a smaller ε never spends more than its budget, and a spent one trains nothing"
FAILS_WITHOUT = {"noise": {"budget_kept", "thin_budget_refused", "spent_budget_trains_nothing"}}
EXPERIMENT = Path(__file__).resolve().parents[1] / "docs" / "experiments" / "privacy.toml"
TRAIN, REWARD = "privacy.train_epsilon", "privacy.reward_epsilon"
SOME = {(math.inf, math.inf), (math.inf, 8.0), (math.inf, 4.0), (8.0, 8.0)}
"""The experiment's points that are played here, as (training ε, reward ε)."""
LONGER = ("federation.rounds=4", "training.epochs=4", "training.learning_rate=0.1")


def run(stage: Stage) -> list[Finding]:
    """Play the points, then bring the devices of the tightest one back with nothing left."""
    plays = {point: stage.play(stage.settings(*LONGER, *given)) for point, given in points()}
    table = [f"ε of training {t:g}, of rewards {r:g}: {row(p)}" for (t, r), p in plays.items()]
    noised = {point: play for point, play in plays.items() if point[1] < math.inf}
    tightest = min(noised, key=lambda point: point[1])

    # The same devices, with the ledgers they have, are asked once more by another federation.
    again = stage.settings(
        f"{REWARD}={tightest[1]}", "federation.name=again", "federation.rounds=1"
    )
    spent = stage.play(again, ledgers_of=plays[tightest])
    reasons = Counter(reason for _, _, _, reason in spent.seen.drops)
    return [
        held("accuracy_table", "every run completed", holds=done(plays), seen="; ".join(table)),
        *(
            budget_kept.check(play.journal.ledgers, reward, play.federation.plan.delta)
            for (_, reward), play in noised.items()
        ),
        *(training_kept(play, train) for (train, _), play in plays.items() if train < math.inf),
        *(ledger_matches_releases.check(play.journal) for play in noised.values()),
        held("thin_budget_refused", "ε too small to learn from is refused", **refused(stage)),
        held(
            "spent_budget_trains_nothing",
            "devices whose budget is spent refuse, and run no batch",
            holds=spent.witness.trainings == 0 and set(reasons) == {"budget_exhausted"},
            seen=f"{spent.witness.trainings} trainings; {dict(reasons)}",
        ),
    ]


def points() -> Iterator[tuple[tuple[float, float], list[str]]]:
    """Yield the points that are played: (training ε, reward ε), and the settings they stand for."""
    for _, values in points_of(EXPERIMENT, read_sweep(EXPERIMENT)):
        point = float(values[TRAIN]), float(values[REWARD])
        if point in SOME:
            yield point, [f"{key}={str(one).lower()}" for key, one in switched(values).items()]


def row(play: Play) -> str:
    """One line of the table, from the devices' own folders and the server's records."""
    accuracy = observe.accuracy(observe.device_folders(play.folder))
    chosen = Counter(map(tuple, play.seen.ended[-1].members.values()))
    total = sum(chosen.values())
    entropy = sum(n / total * math.log2(total / n) for n in chosen.values())
    stamp = "" if play.federation.plan.private else " (NON-PRIVATE)"
    return f"accuracy {accuracy[max(accuracy)]:.3f}, architectures {entropy:.2f} bits{stamp}"


def done(plays: Mapping[tuple[float, float], Play]) -> bool:
    """Whether every round of every run completed."""
    return all(seen.outcome == "COMPLETE" for play in plays.values() for seen in play.seen.ended)


def training_kept(play: Play, epsilon: float) -> Finding:
    """Reckon every device's ledger for its training records."""
    delta = play.federation.plan.delta
    spent = [one.epsilon(delta).train_epsilon for one in play.journal.ledgers.values()]
    return held(
        "training_budget_kept",
        "no device's training records paid more than the budget",
        holds=0 < max(spent) <= epsilon + budget_kept.SLACK,
        seen=f"{len(spent)} ledgers, at most ε = {max(spent):.4g} of {epsilon:g} at δ = {delta:g}",
    )


def refused(stage: Stage) -> dict[str, bool | str]:
    """Ask for a budget in which every reward would drown."""
    try:
        Federation.of(stage.settings("privacy.reward_epsilon=0.5"))
    except UserError as error:
        return {"holds": True, "seen": f"{error.what}; {error.todo}"}
    return {"holds": False, "seen": "ε = 0.5 was accepted"}
