"""What every kind of agent promises, checked on small planted worlds.

Subclass it with a ``make`` that returns fresh agents:

    class TestMine(AgentConformance):
        def make(self, space, noise): return MyAgents(space)

Set ``learns = False`` for controls, and ``shares = True`` for agents with a pool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from secure_pfnas.agents.agent import Trial, most_likely, sample
from secure_pfnas.nas.space import Decision
from secure_pfnas.roles.records import Checkpoint
from secure_pfnas.runtime.checkpoints import Checkpoints

CLIENTS = tuple(f"dev-{i:03d}" for i in range(6))


@dataclass(frozen=True)
class PlantedSpace:
    """Decisions, and nothing that would have to be built."""

    decisions: tuple[Decision, ...] = (
        Decision("width", (8, 16)),
        Decision("depth", (1, 2, 3)),
        Decision("kernel", (3, 5)),
        Decision("only", (1,)),
    )

    def contains(self, arch):
        return len(arch) == len(self.decisions)

    def require(self, arch):
        assert self.contains(arch)


BEST = (1, 2, 0, 0)


class World:
    """Accuracy rises for everybody, clients differ in level, and three options are better."""

    def __init__(self, seed, noise, gap=0.1):
        self.rng = np.random.default_rng(seed)
        self.noise, self.gap = noise, gap
        self.levels = dict(zip(CLIENTS, self.rng.normal(0, 0.1, len(CLIENTS)), strict=True))

    def reward(self, number, cid, arch):
        base = 0.8 - 0.4 * np.exp(-number / 30) + self.levels.get(cid, 0.0)
        right = sum(a == b for a, b in zip(arch[:3], BEST[:3], strict=True))
        return float(base + self.gap * right + self.rng.normal(0, self.noise))


class AgentConformance:
    learns = True
    """Whether it finds what is planted; ``None`` for who promises neither."""
    shares = False
    """Whether one client's reports move another's policy."""
    searches = 10**6
    """The rounds in which it learns at all."""

    @pytest.fixture
    def space(self):
        return PlantedSpace()

    def make(self, space, noise=0.02):
        raise NotImplementedError

    def play(self, agents, world, rounds, first=1, attending=CLIENTS, seed=0):
        rng = np.random.default_rng([seed, first])
        for number in range(first, first + rounds):
            trials = {}
            for cid in attending:
                arch = sample(agents.policy(cid), rng)
                trials[cid] = Trial(number, arch, world.reward(number, cid, arch))
            agents.update(trials)
        return agents

    def assert_policy(self, agents, space, cid):
        policy = agents.policy(cid)
        assert [len(p) for p in policy] == [len(d.options) for d in space.decisions]
        for p in policy:
            assert np.isfinite(p).all()
            assert (p >= 0).all()
            assert p.sum() == pytest.approx(1, abs=1e-9)

    def assert_learnt(self, share):
        if self.learns is not None:
            assert share >= 0.85 if self.learns else share < 1

    @staticmethod
    def assert_same(one, other):
        assert one.keys() == other.keys()
        assert all(one[key].tobytes() == other[key].tobytes() for key in one)

    # --- learning ----------------------------------------------------------------------------

    def test_a_planted_architecture_is_found(self, space):
        for seed in range(3):
            agents = self.play(self.make(space, 0.005), World(seed, 0.005), 150, seed=seed)
            modes = [most_likely(agents.policy(cid)) for cid in CLIENTS]
            found = np.mean([mode == BEST for mode in modes])
            self.assert_learnt(found)

    def test_a_planted_architecture_is_found_under_noise(self, space):
        found = []
        for seed in range(3):
            agents = self.play(self.make(space, 0.1), World(seed, 0.1), 300, seed=seed)
            modes = [most_likely(agents.policy(cid)) for cid in CLIENTS]
            found.append(np.mean([a == b for m in modes for a, b in zip(m, BEST, strict=True)]))
        self.assert_learnt(np.mean(found))

    def test_a_reward_that_never_changes_teaches_nothing(self, space):
        agents = self.make(space)
        before = agents.policy("dev-000")
        rng = np.random.default_rng(0)
        for number in range(1, min(60, self.searches) + 1):
            archs = {cid: sample(agents.policy(cid), rng) for cid in CLIENTS}
            agents.update({cid: Trial(number, arch, 0.7) for cid, arch in archs.items()})
        for p, q in zip(before, agents.policy("dev-000"), strict=True):
            assert q == pytest.approx(p, abs=0.02) or number == self.searches

    # --- invariance --------------------------------------------------------------------------

    def test_the_order_of_the_reports_never_matters(self, space):
        one, other = self.make(space), self.make(space)
        rng = np.random.default_rng(1)
        for number in range(1, 9):
            trials = {
                cid: Trial(number, sample(one.policy(cid), rng), float(rng.normal(0.6, 0.1)))
                for cid in rng.permutation(CLIENTS)[:4]
            }
            one.update(trials)
            other.update(dict(sorted(trials.items(), reverse=True)))
        self.assert_same(one.state(), other.state())

    def test_who_does_not_take_part_is_not_touched(self, space):
        agents = self.play(self.make(space), World(2, 0.02), 5)
        before, offered = agents.state(), agents.policy("dev-000")
        self.play(agents, World(3, 0.02), 3, first=6, attending=CLIENTS[1:])
        after = agents.state()
        own = [key for key in before if key.startswith("dev-000/") or key.endswith(":dev-000")]
        assert bool(own) == bool(before)
        assert all(before[key].tobytes() == after[key].tobytes() for key in own)
        if not self.shares:
            for p, q in zip(offered, agents.policy("dev-000"), strict=True):
                assert p.tobytes() == q.tobytes()

    def test_asking_changes_nothing(self, space):
        agents = self.play(self.make(space), World(4, 0.02), 4)
        before = agents.state()
        for cid in ("never-seen", *CLIENTS):
            agents.policy(cid)
        self.assert_same(before, agents.state())

    # --- state -------------------------------------------------------------------------------

    def test_state_goes_through_a_checkpoint_and_continues_bit_for_bit(self, space, tmp_path):
        agents = self.play(self.make(space), World(5, 0.02), 6)
        kept = Checkpoints(tmp_path, "layout", 3)
        kept.write(Checkpoint(6, np.zeros(3, np.float32), agents.state()))
        restored = self.make(space)
        restored.restore(kept.latest(6).agents)
        self.assert_same(agents.state(), restored.state())
        for one in (agents, restored):
            self.play(one, World(6, 0.02), 5, first=7)
        self.assert_same(agents.state(), restored.state())
        for cid in ("never-seen", *CLIENTS):
            for p, q in zip(agents.policy(cid), restored.policy(cid), strict=True):
                assert p.tobytes() == q.tobytes()

    def test_a_state_handed_out_is_a_copy(self, space):
        agents = self.play(self.make(space), World(7, 0.02), 3)
        for value in agents.state().values():
            value[...] = 99
        self.assert_policy(agents, space, "dev-000")
        assert all((value != 99).any() for value in agents.state().values())

    def test_somebody_elses_state_is_refused_and_leaves_it_as_it_was(self, space):
        agents = self.play(self.make(space), World(8, 0.02), 3)
        before = agents.state()
        with pytest.raises(ValueError, match=r"state|no part"):
            agents.restore({**before, "dev-000/mood": np.zeros(3)})
        self.assert_same(before, agents.state())

    # --- hostile rewards ---------------------------------------------------------------------

    @pytest.mark.parametrize(
        "rewards", [(1e308,), (-1e308, 1e308), (0.0,), (5e-324, 0.7), (1e200, 0.5, -1e12)]
    )
    def test_hostile_rewards_never_break_a_policy(self, space, rewards):
        agents, rng = self.make(space), np.random.default_rng(9)
        with np.errstate(all="raise", under="ignore"):
            for number in range(1, 41):
                agents.update(
                    {
                        cid: Trial(
                            number, sample(agents.policy(cid), rng), rewards[number % len(rewards)]
                        )
                        for cid in CLIENTS
                    }
                )
        for cid in ("never-seen", *CLIENTS):
            self.assert_policy(agents, space, cid)
        restored = self.make(space)
        restored.restore(agents.state())

    def test_one_liar_does_not_move_the_others_far(self, space):
        agents, world, rng = self.make(space), World(10, 0.02), np.random.default_rng(10)
        for number in range(1, 150):
            archs = {cid: sample(agents.policy(cid), rng) for cid in CLIENTS}
            rewards = {cid: world.reward(number, cid, arch) for cid, arch in archs.items()}
            rewards["dev-000"] = 1.0 - rewards["dev-000"]
            agents.update({c: Trial(number, archs[c], rewards[c]) for c in CLIENTS})
        modes = [most_likely(agents.policy(cid)) for cid in CLIENTS[1:]]
        agreed = np.mean([a == b for m in modes for a, b in zip(m, BEST, strict=True)])
        self.assert_learnt(agreed)
