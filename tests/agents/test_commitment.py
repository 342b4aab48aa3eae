from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.agent import Trial, most_likely, sample
from secure_pfnas.agents.commitment import Committing
from secure_pfnas.agents.coverage import plan
from secure_pfnas.agents.critic import Critic
from secure_pfnas.agents.exploration import prior_policy
from secure_pfnas.agents.reinforce import Reinforce
from secure_pfnas.agents.static import Static
from tests.conformance.agent import CLIENTS, PlantedSpace

SPACE = PlantedSpace()


def searched(rounds, after=3):
    agents, rng = Committing(Critic(SPACE), after), np.random.default_rng(0)
    for number in range(1, rounds + 1):
        archs = {cid: sample(agents.policy(cid), rng) for cid in CLIENTS}
        agents.update({c: Trial(number, a, float(rng.random())) for c, a in archs.items()})
    return agents


def test_until_the_search_is_over_the_inner_agents_are_asked():
    agents = searched(2)
    assert all(p.max() < 1 for p in agents.policy("dev-000")[:3])


def test_after_the_search_a_client_wishes_for_its_likeliest_architecture():
    before, after = searched(3), searched(3)
    inner = before._inner.policy("dev-001")
    policy = after.policy("dev-001")
    assert all(max(p) == 1 and p.sum() == 1 for p in policy)
    assert most_likely(policy) == most_likely(inner)


def test_what_a_client_is_given_first_it_keeps():
    agents = searched(3)
    given = {"dev-000": (0, 1, 1, 0), "dev-001": (1, 0, 1, 0)}
    agents.update({c: Trial(4, a, 0.5) for c, a in given.items()})
    agents.update({c: Trial(5, (0, 0, 0, 0), 0.9) for c in given})
    for cid, architecture in given.items():
        assert most_likely(agents.policy(cid)) == architecture


def test_after_the_search_nothing_is_learnt():
    agents = searched(3)
    before = agents._inner.state()
    agents.update({c: Trial(4, (0, 1, 1, 0), 9.0) for c in CLIENTS})
    after = agents._inner.state()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_a_search_of_no_rounds_commits_to_the_start():
    start = (1, 2, 1, 0)
    agents = Committing(Critic(SPACE, prior=prior_policy(SPACE, start, 0.3)), 0)
    assert most_likely(agents.policy("anybody")) == start
    with pytest.raises(ValueError, match="before it began"):
        Committing(Static(SPACE), -1)


def test_committed_members_cover_each_other_for_good(space, layout):
    """From the second committed round on the planner leaves everybody's wish alone."""
    agents, rng = Committing(Reinforce(space), 2), np.random.default_rng(1)
    cids = [f"dev-{i:03d}" for i in range(14)]
    assigned = []
    for number in range(1, 9):
        policies = {cid: agents.policy(cid) for cid in cids}
        assigned.append(dict(plan(policies, lambda c, a: True, layout, 4, rng)))
        agents.update({c: Trial(number, assigned[-1][c], float(rng.random())) for c in cids})
    assert len(set(assigned[2].values())) > 1
    assert all(later == assigned[2] for later in assigned[3:])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("committed:"),
        lambda state: state.update({"committed:": np.array([-1.0])}),
        lambda state: state.update({"committed:": np.array([np.nan])}),
        lambda state: state.update({"committed:dev-000": np.array([0.0, 3.0, 0.0, 0.0])}),
        lambda state: state.update({"committed:dev-000": np.array([0.5, 0.0, 0.0, 0.0])}),
        lambda state: state.update({"committed:dev-000": np.zeros(3)}),
        lambda state: state.pop("level"),
    ],
)
def test_a_torn_state_is_refused_and_nothing_changes(spoil):
    agents = searched(5)
    state = agents.state()
    spoil(state)
    fresh = searched(1)
    before = fresh.state()
    with pytest.raises(ValueError, match=r"state|architecture|incomplete"):
        fresh.restore(state)
    assert all(fresh.state()[key].tobytes() == before[key].tobytes() for key in before)
