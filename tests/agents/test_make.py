from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.agent import likeliest, most_likely
from secure_pfnas.agents.commitment import Committing
from secure_pfnas.agents.critic import Critic
from secure_pfnas.agents.exploration import Exploration, blocks, fitted, prior_policy
from secure_pfnas.agents.make import make_agents, middle, reward_noise, start_architecture
from secure_pfnas.agents.reinforce import Reinforce
from secure_pfnas.agents.static import Static
from secure_pfnas.config import AgentSettings, load_settings, settings_from
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.cost import cost

MIDDLE = (1, *(1, 0, 0, 1) * 3)


def made(space, rounds=30, **settings):
    return make_agents(space, AgentSettings(**settings), rounds=rounds, noise=0.05)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"kind": "critic", "commit": 1.0}, Critic),
        ({"kind": "reinforce", "commit": 1.0}, Reinforce),
        ({"kind": "critic", "commit": 0.4}, Committing),
        ({"kind": "reinforce", "commit": 0.4}, Committing),
        ({"kind": "reinforce", "commit": 0.4, "faithful": True}, Reinforce),
        ({"kind": "random", "commit": 0.4}, Static),
        ({"kind": "fixed", "commit": 0.4}, Static),
    ],
)
def test_every_kind_is_made_by_its_name(space, settings, kind):
    assert type(made(space, **settings)) is kind


def test_the_old_name_of_random_still_works(space):
    settings = load_settings(None, ["agent.kind=uniform"]).agent
    assert settings.kind == "random"
    policy = make_agents(space, settings, rounds=3, noise=0.05).policy("a")
    assert all(len(set(p)) == 1 for p in policy)


def test_the_authors_settings_are_those_of_reinforce():
    with pytest.raises(UserError, match="faithful is reinforce"):
        settings_from({"agent": {"kind": "random", "faithful": True}})


def test_fixed_runs_what_start_names(space):
    assert most_likely(made(space, kind="fixed", start="smallest").policy("a")) == (0,) * 13
    assert most_likely(made(space, kind="fixed", start="anywhere").policy("a")) == MIDDLE
    assert made(space, kind="fixed", start="middle").policy("a")[0].tolist() == [0.0, 1.0]


def test_a_search_starts_at_its_start_with_few_deviations(space):
    for kind in ("critic", "reinforce"):
        policy = made(space, kind=kind, start="middle", deviation=0.2).policy("a")
        assert most_likely(policy) == MIDDLE
        assert [p[a] for p, a in zip(policy, MIDDLE, strict=True)] == pytest.approx(
            [1 - 0.2 + 0.2 / len(p) for p in policy]
        )


def test_exploration_falls_by_a_cosine_to_its_last_share():
    falling = Exploration(0.3, 0.1, 10)
    shares = [falling.at(reports) for reports in range(15)]
    assert shares[0] == pytest.approx(0.3)
    assert shares[5] == pytest.approx(0.2)
    assert shares[10:] == pytest.approx([0.1] * 5)
    assert shares == sorted(shares, reverse=True)
    for wrong in ((0.1, 0.2, 5), (1.0, 0.0, 5), (0.2, 0.1, 0), (0.2, -0.1, 5)):
        with pytest.raises(ValueError, match="falls"):
            Exploration(*wrong)


def test_a_prior_is_a_policy_near_its_start(space):
    with pytest.raises(ValueError, match="probability"):
        prior_policy(space, MIDDLE, 1.5)
    with pytest.raises(ValueError, match="no architecture"):
        prior_policy(space, (9,) * 13, 0.5)
    assert [len(p) for p in prior_policy(space)] == [
        part.stop - part.start for part in blocks(space)
    ]


def test_middle_is_wide_and_shallow_and_between_the_extremes(space):
    assert middle(space) == MIDDLE
    values = space.values(MIDDLE)
    assert (values["stage2.width"], values["stage2.depth"], values["stage2.kernel"]) == (32, 1, 3)
    least, most = cost(space, (0,) * 13).macs, cost(space, (1, *(1, 1, 1, 2) * 3)).macs
    assert least * 4 < cost(space, MIDDLE).macs < most / 4


@pytest.mark.parametrize(
    ("text", "architecture"),
    [
        ("anywhere", None),
        ("smallest", (0,) * 13),
        ("largest", (1, *(1, 1, 1, 2) * 3)),
        ("1-0-0-0-2-0-0-0-2-0-0-0-2", (1, *(0, 0, 0, 2) * 3)),
    ],
)
def test_a_start_is_named_or_spelt_out(space, text, architecture):
    assert start_architecture(space, text) == architecture


@pytest.mark.parametrize("text", ["", "biggest", "1-0", "1-0-0-0-3-0-0-0-2-0-0-0-2", "0--1", "٣"])
def test_a_start_that_is_no_architecture_is_one_clear_line(space, text):
    with pytest.raises(UserError, match=r"agent.start: found .* 13 numbers") as refused:
        start_architecture(space, text)
    assert refused.value.code is ExitCode.CONFIG


def test_the_noise_of_a_reward_is_the_plans_and_a_validation_sets():
    assert reward_noise(0, 100) == pytest.approx(0.04)
    assert reward_noise(30, 100) == pytest.approx((0.3**2 + 0.04**2) ** 0.5)


def test_the_likeliest_that_suits_is_found_in_falling_order():
    policy = (np.array([0.6, 0.4]), np.array([0.2, 0.5, 0.3]), np.array([1.0]))
    everything = [(a, b, 0) for a in range(2) for b in range(3)]
    ranked = sorted(everything, key=lambda a: -policy[0][a[0]] * policy[1][a[1]])
    barred = set()
    for expected in ranked:
        assert likeliest(policy, lambda a: a not in barred) == expected
        barred.add(expected)
    assert likeliest(policy, lambda a: a not in barred) is None
    assert likeliest(policy, lambda a: a == ranked[-1], limit=5) is None


def test_the_likeliest_may_be_one_that_a_certain_policy_never_offers():
    certain = (np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert likeliest(certain, lambda a: True) == (1, 0)
    assert likeliest(certain, lambda a: a[0] == 0) == (0, 0)


def test_a_device_that_cannot_run_the_start_starts_at_what_of_it_fits(space):
    def fits(cid, arch):
        return cid != "tiny" or cost(space, arch).parameters <= 12_000

    for kind in ("critic", "reinforce"):
        settings = AgentSettings(kind=kind, start="middle", deviation=0.2, commit=0.0)
        agents = make_agents(space, settings, rounds=10, noise=0.05, fits=fits)
        assert most_likely(agents.policy("free")) == MIDDLE
        own = most_likely(agents.policy("tiny"))
        assert fits("tiny", own)
        assert all(a <= b for a, b in zip(own, MIDDLE, strict=True))
        assert cost(space, own).parameters > 8_000


def test_what_fits_of_a_start_is_found_for_every_cap(space):
    largest = (1, *(1, 1, 1, 2) * 3)
    full = cost(space, largest)
    for share in (0.02, 0.1, 0.3, 0.6, 0.99, 1.0):
        for figure in ("parameters", "macs", "peak_activation_bytes"):

            def fits(arch, figure=figure, share=share):
                return getattr(cost(space, arch), figure) <= share * getattr(full, figure)

            own = fitted(space, largest, fits)
            assert fits(own) or own == (0,) * 13
            assert (own == largest) == (share == 1.0)
    assert fitted(space, largest, lambda arch: False) == (0,) * 13


def test_a_commitment_keeps_within_caps_where_the_search_did_not(space):
    agents = Committing(Static(space, MIDDLE), 0, lambda cid, arch: arch[1] == 0 or cid == "free")
    assert most_likely(agents.policy("free")) == MIDDLE
    assert most_likely(agents.policy("tiny")) == (1, 0, *MIDDLE[2:])
