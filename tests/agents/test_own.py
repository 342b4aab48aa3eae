"""A device's own agent: the same agents, for one name, with rewards that never left."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.agent import Trial, most_likely, sample
from secure_pfnas.agents.critic import Critic, CriticSettings
from secure_pfnas.agents.exploration import Exploration
from secure_pfnas.agents.limits import options
from secure_pfnas.agents.make import make_agents, public_agents, reward_noise
from secure_pfnas.agents.own import OwnAgent
from secure_pfnas.agents.reinforce import Reinforce
from secure_pfnas.config import AgentSettings
from tests.conformance.agent import AgentConformance

DEVICES, ROUNDS, N0 = 12, 260, 100


class Apart:
    """Many devices' own agents behind the one interface, so that its promises can be checked."""

    def __init__(self, made):
        self._made, self._own = made, {}

    def _of(self, cid):
        return self._own.get(cid) or self._made()

    def policy(self, cid):
        return self._of(cid).policy(cid)

    def update(self, trials):
        for cid, trial in trials.items():
            self._own.setdefault(cid, self._made()).update({cid: trial})

    def state(self):
        states = {cid: agents.state() for cid, agents in sorted(self._own.items())}
        return {f"{cid}/{key}": a for cid, state in states.items() for key, a in state.items()}

    def restore(self, state):
        states = {}
        for key, array in state.items():
            cid, _, own = key.partition("/")
            states.setdefault(cid, {})[own] = array
        for cid, one in states.items():
            restored = self._made()
            restored.restore(one)
            states[cid] = restored
        self._own = states


class TestReinforceOnEveryDevice(AgentConformance):
    def make(self, space, noise=0.02):
        return Apart(lambda: Reinforce(space))


class TestCriticOnEveryDevice(AgentConformance):
    learns = None  # in the suite's 150 rounds: a pool is what made it fast, see below

    def make(self, space, noise=0.02):
        known = CriticSettings(noise=max(noise, 0.02))
        return Apart(lambda: Critic(space, known, exploration=Exploration(0.05, 0.05)))


def rounds_to_nine_tenths(space, kind, seed, *, alone, sigma=0.0):
    """Play a planted bandit; return the first round at which nine tenths of the gap are reached.

    A world of ``test_noise``: effects of every option, the same for all and own ones, levels that
    rise and differ, a validation set's sampling noise; ``sigma`` is of the noise on a count.
    """
    settings = AgentSettings(kind=kind, start="anywhere", commit=1.0)

    def made():
        return make_agents(space, settings, rounds=ROUNDS, noise=reward_noise(sigma, N0))

    agents = [made() for _ in range(DEVICES)] if alone else [made()] * DEVICES
    rng = np.random.default_rng([9, seed])
    widths = [len(decision.options) for decision in space.decisions]
    shared = [rng.normal(0, 0.02, width) for width in widths]
    own = [[e + rng.normal(0, 0.008, len(e)) for e in shared] for _ in range(DEVICES)]
    levels = rng.normal(0, 0.08, DEVICES)
    best = np.array([sum(e.max() for e in effects) for effects in own])
    blind = np.array([sum(e.mean() for e in effects) for effects in own])

    def value(device, arch):
        return sum(e[a] for e, a in zip(own[device], arch, strict=True))

    for number in range(1, ROUNDS + 1):
        base = 0.85 - 0.35 * np.exp(-number / 20) + rng.normal(0, 0.01)
        trials = {}
        for k in range(DEVICES):
            arch = sample(agents[k].policy(f"c{k}"), rng)
            noise = rng.normal(0, 0.04) + round(rng.normal(0, sigma)) / N0
            trials[f"c{k}"] = Trial(number, arch, float(base + levels[k] + value(k, arch) + noise))
        for one in {id(a): a for a in agents}.values() if not alone else ():
            one.update(trials)
        for k, one in enumerate(agents if alone else ()):
            one.update({f"c{k}": trials[f"c{k}"]})
        if number % 5 == 0:
            modes = [most_likely(agents[k].policy(f"c{k}")) for k in range(DEVICES)]
            reached = np.array([value(k, mode) for k, mode in enumerate(modes)])
            if np.mean((reached - blind) / (best - blind)) >= 0.9:
                return number
    return 2 * ROUNDS


def test_acceptance_9_a_device_alone_is_as_fast_as_the_noise_free_agent_on_a_server(space):
    """A policy gradient has no pool: alone it learns what it would have learnt on the server."""
    for seed in range(2):
        server = rounds_to_nine_tenths(space, "reinforce", seed, alone=False)
        alone = rounds_to_nine_tenths(space, "reinforce", seed, alone=True)
        assert server <= ROUNDS
        assert alone <= 1.1 * server


def test_noise_that_a_device_need_not_add_would_have_cost_it_rounds(space):
    clear = rounds_to_nine_tenths(space, "reinforce", 0, alone=True)
    assert rounds_to_nine_tenths(space, "reinforce", 0, alone=True, sigma=20) > 1.1 * clear


def test_a_critic_alone_finds_the_same_and_takes_longer_without_its_pool(space):
    pooled = rounds_to_nine_tenths(space, "critic", 0, alone=False)
    alone = rounds_to_nine_tenths(space, "critic", 0, alone=True)
    assert pooled < alone <= ROUNDS / 2


def one_device(space, allowed, **settings):
    agents = make_agents(space, AgentSettings(**settings), rounds=30, noise=0.04)
    return OwnAgent(agents, "dev-000", options(space, allowed), allowed)


def test_what_is_drawn_the_device_can_run(space):
    def allowed(arch):
        return sum(arch) <= 2

    agent, rng = one_device(space, allowed, start="anywhere"), np.random.default_rng(1)
    drawn = {agent.draw(rng) for _ in range(40)}
    assert len(drawn) > 5
    assert all(map(allowed, drawn))
    assert allowed(agent.deployed())


def test_a_device_settles_on_what_it_finds_best(space):
    agent, rng = one_device(space, lambda _: True, start="anywhere", commit=0.4), None
    rng = np.random.default_rng(2)
    for number in range(1, 31):
        tried = agent.draw(rng)
        agent.learn(Trial(number, tried, 0.5 + 0.2 * (tried[0] == 1)))
    kept = agent.deployed()
    assert {agent.draw(rng) for _ in range(20)} == {kept}


def test_another_agents_memory_is_refused(space):
    agent = one_device(space, lambda _: True)
    with pytest.raises(ValueError, match="no"):
        agent.restore({"dev-000/mood": np.zeros(3)})


@pytest.mark.parametrize("kind", ["critic", "reinforce", "random"])
def test_what_a_server_draws_by_in_public_never_learns(space, kind):
    settings = AgentSettings(kind=kind, placement="client", start="smallest", deviation=0.4)
    agents = public_agents(space, settings)
    fresh = agents.policy("dev-000")
    expected = make_agents(space, settings, rounds=30, noise=0.04).policy("dev-000")
    assert all(p == pytest.approx(q, abs=1e-12) for p, q in zip(fresh, expected, strict=True))
    agents.update({"dev-000": Trial(1, most_likely(fresh), 0.9)})
    assert agents.policy("dev-000") is fresh or agents.policy("dev-000") == fresh
    assert agents.state() == {}
