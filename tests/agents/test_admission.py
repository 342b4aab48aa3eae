from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.admission import AdmissionError, admit
from secure_pfnas.agents.agent import Trial, sample
from secure_pfnas.agents.commitment import Committing
from secure_pfnas.agents.critic import Critic, CriticSettings
from secure_pfnas.agents.reinforce import Reinforce
from tests.conformance.agent import BEST, CLIENTS, PlantedSpace, World

SPACE = PlantedSpace()
KINDS = {
    "critic": lambda: Critic(SPACE, CriticSettings(noise=0.02)),
    "reinforce": lambda: Reinforce(SPACE),
    "committed": lambda: Committing(Critic(SPACE, CriticSettings(noise=0.02)), 100),
}


def trained(kind):
    agents, world, rng = KINDS[kind](), World(0, 0.02), np.random.default_rng(0)
    for number in range(1, 121):
        archs = {cid: sample(agents.policy(cid), rng) for cid in CLIENTS}
        agents.update({c: Trial(number, a, world.reward(number, c, a)) for c, a in archs.items()})
    return agents


def admitted(agents, kind, report, rounds=40, allowed=lambda _: True):
    return admit(
        agents,
        KINDS[kind](),
        "newcomer",
        allowed=allowed,
        report=report,
        rounds=rounds,
        first_round=121,
        rng=np.random.default_rng(1),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_newcomer_starts_from_the_trained_prior_and_changes_nobody(kind):
    agents = trained(kind)
    before = agents.state()
    result = admitted(agents, kind, lambda arch: 0.7, rounds=3)
    after = agents.state()
    assert result.before == BEST
    assert [trial.round for trial in result.trials] == [121, 122, 123]
    assert before.keys() == after.keys()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_a_newcomer_that_differs_finds_its_own_way():
    rng = np.random.default_rng(2)
    own = (0, *BEST[1:])  # it does better with the other width

    def report(arch):
        right = sum(a == b for a, b in zip(arch, own, strict=True))
        return 0.5 + 0.1 * right + float(rng.normal(0, 0.01))

    agents = trained("reinforce")
    result = admitted(agents, "reinforce", report, rounds=250)
    assert (result.before, result.after) == (BEST, own)


def test_a_newcomers_caps_are_kept_from_the_start():
    def narrow(arch):
        return arch[0] == 0

    agents = trained("critic")
    result = admitted(agents, "critic", lambda arch: 0.7, allowed=narrow)
    assert result.before == (0, *BEST[1:])
    assert all(narrow(trial.architecture) for trial in result.trials)
    assert narrow(result.after)
    with pytest.raises(AdmissionError, match="newcomer can run no"):
        admitted(agents, "critic", lambda arch: 0.7, allowed=lambda arch: False)
