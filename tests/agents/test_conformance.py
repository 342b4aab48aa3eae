from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.commitment import Committing
from secure_pfnas.agents.critic import Critic, CriticSettings
from secure_pfnas.agents.effects import Sums
from secure_pfnas.agents.exploration import Exploration, prior_policy
from secure_pfnas.agents.reinforce import Reinforce, ReinforceSettings
from secure_pfnas.agents.static import Static
from tests.conformance.agent import AgentConformance, PlantedSpace


class TestReinforce(AgentConformance):
    def make(self, space, noise=0.02):
        return Reinforce(space)


class TestReinforceFromAStart(AgentConformance):
    def make(self, space, noise=0.02):
        start = prior_policy(space, (0, 0, 1, 0), 0.7)
        return Reinforce(space, prior=start, exploration=Exploration(0.3, 0.1, 40))


class TestReinforceFaithful(AgentConformance):
    learns = None  # it locks in: 0.5 logits a step, and a baseline of everybody's bests

    def make(self, space, noise=0.02):
        return Reinforce(space, ReinforceSettings(faithful=True))


class TestCritic(AgentConformance):
    shares = True

    def make(self, space, noise=0.02):
        return Critic(space, CriticSettings(noise=max(noise, 0.02)))


class TestCriticFromAStart(AgentConformance):
    shares = True

    def make(self, space, noise=0.02):
        start = prior_policy(space, (0, 0, 1, 0), 0.4)
        known = CriticSettings(noise=max(noise, 0.02))
        return Critic(space, known, start, Exploration(0.3, 0.0, 40))


class TestCriticThatCommits(AgentConformance):
    shares = True
    searches = 30

    def make(self, space, noise=0.02):
        known = CriticSettings(noise=max(noise, 0.02))
        return Committing(Critic(space, known), 30 if noise < 0.1 else 150)


class TestRandom(AgentConformance):
    learns = False

    def make(self, space, noise=0.02):
        return Static(space)


class TestFixed(AgentConformance):
    learns = False

    def make(self, space, noise=0.02):
        return Static(space, tuple(np.zeros(len(space.decisions), int).tolist()))


# --- the suite itself -------------------------------------------------------------------------


class Failing(Critic):
    """An agent that breaks one promise on purpose."""

    def __init__(self, space, fault):
        super().__init__(space, CriticSettings(noise=0.02))
        self.fault, self._space = fault, space

    def policy(self, cid):
        policy = super().policy(cid)
        if self.fault == "never explores":
            return tuple(np.eye(len(p))[0] for p in policy)
        if self.fault == "remembers who asks":
            self._clients.setdefault(cid, Sums.nothing(self._length))
        if self.fault == "is no distribution":
            return tuple(1.1 * p for p in policy)
        return policy

    def update(self, trials):
        if self.fault == "minds the order":
            trials = {cid: trials[cid] for cid in list(trials)[:-1]}
        if self.fault == "breaks on extremes" and any(
            abs(t.reward) > 1e100 for t in trials.values()
        ):
            self._level = self._level + np.nan
        super().update(trials)
        if self.fault == "learns from whom it likes" and len(self._clients) > len(trials):
            for client in self._clients.values():
                client.vector = client.vector * 0.5
        if self.fault == "believes in luck":
            for client in self._clients.values():
                client.vector = client.vector + np.eye(self._length)[0]

    def state(self):
        state = super().state()
        if self.fault == "hands out its memory" and self._clients:
            state["dev-000/vector"] = self._clients["dev-000"].vector
        return state

    def restore(self, state):
        if self.fault == "restores half":
            state = {key: 0 * value if "matrix" in key else value for key, value in state.items()}
        if self.fault == "takes any state":
            state = {key: value for key, value in state.items() if "mood" not in key}
        super().restore(state)


FAULTS = {
    "never explores": "test_a_planted_architecture_is_found",
    "remembers who asks": "test_asking_changes_nothing",
    "is no distribution": "test_a_state_handed_out_is_a_copy",
    "minds the order": "test_the_order_of_the_reports_never_matters",
    "breaks on extremes": "test_hostile_rewards_never_break_a_policy",
    "learns from whom it likes": "test_who_does_not_take_part_is_not_touched",
    "believes in luck": "test_a_reward_that_never_changes_teaches_nothing",
    "hands out its memory": "test_a_state_handed_out_is_a_copy",
    "restores half": "test_state_goes_through_a_checkpoint_and_continues_bit_for_bit",
    "takes any state": "test_somebody_elses_state_is_refused_and_leaves_it_as_it_was",
}


@pytest.mark.parametrize(("fault", "caught_by"), FAULTS.items())
def test_an_agent_that_fails_is_caught_by_the_suite(fault, caught_by, tmp_path):
    class Suite(AgentConformance):
        shares = True

        def make(self, space, noise=0.02):
            return Failing(space, fault)

    arguments = [PlantedSpace()]
    if "checkpoint" in caught_by:
        arguments.append(tmp_path)
    if "hostile" in caught_by:
        arguments.append((1e308,))
    with pytest.raises((AssertionError, ValueError, FloatingPointError, pytest.fail.Exception)):
        getattr(Suite(), caught_by)(*arguments)
