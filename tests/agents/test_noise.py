"""What reward noise costs a search: the gain over random choice, on worlds with planted effects.

Twenty devices search for 12 of 30 rounds, each with 100 validation examples; effects are normal,
levels rise, drift and differ. 0 is a random architecture, 1 each device's own best.
"""

from __future__ import annotations

import numpy as np

from secure_pfnas.agents.agent import Trial, most_likely, sample
from secure_pfnas.agents.make import make_agents, reward_noise
from secure_pfnas.config import AgentSettings
from secure_pfnas.privacy.calibration import reward_sigma

CLIENTS, ROUNDS, N0, SEEDS = 20, 30, 100, range(6)


def gain(space, kind, epsilon, seed):
    sigma = float(reward_sigma(epsilon, 1e-5, ROUNDS)) if epsilon else 0.0
    settings = AgentSettings(kind=kind, start="anywhere", commit=0.4)
    agents = make_agents(space, settings, rounds=ROUNDS, noise=reward_noise(sigma, N0))
    rng = np.random.default_rng([3, seed])
    widths = [len(decision.options) for decision in space.decisions]
    shared = [rng.normal(0, 0.02, width) for width in widths]
    own = [[e + rng.normal(0, 0.008, len(e)) for e in shared] for _ in range(CLIENTS)]
    levels = rng.normal(0, 0.08, CLIENTS)

    def value(client, arch):
        return sum(effects[a] for effects, a in zip(own[client], arch, strict=True))

    for number in range(1, ROUNDS + 1):
        base = 0.85 - 0.35 * np.exp(-number / 20) + rng.normal(0, 0.01)
        trials = {}
        for client in range(CLIENTS):
            arch = sample(agents.policy(f"c{client}"), rng)
            noise = rng.normal(0, 0.04) + round(rng.normal(0, sigma)) / N0
            r = float(base + levels[client] + value(client, arch) + noise)
            trials[f"c{client}"] = Trial(number, arch, r)
        agents.update(trials)
    reached = [value(k, most_likely(agents.policy(f"c{k}"))) for k in range(CLIENTS)]
    best = [sum(effects.max() for effects in own[k]) for k in range(CLIENTS)]
    blind = [sum(effects.mean() for effects in own[k]) for k in range(CLIENTS)]
    shares = [(r - b) / (t - b) for r, b, t in zip(reached, blind, best, strict=True)]
    return float(np.mean(shares))


def mean_gain(space, kind, epsilon):
    return np.mean([gain(space, kind, epsilon, seed) for seed in SEEDS])


def test_the_critic_keeps_its_gain_under_reward_noise(space):
    clear = mean_gain(space, "critic", None)
    assert clear > 0.8
    assert mean_gain(space, "critic", 8) >= 0.9 * clear
    assert mean_gain(space, "critic", 4) >= 0.75 * clear


def test_the_critic_finds_more_than_the_policy_gradient_in_as_many_rounds(space):
    for epsilon in (None, 4):
        ours, theirs = (mean_gain(space, kind, epsilon) for kind in ("critic", "reinforce"))
        assert ours > theirs + 0.2
