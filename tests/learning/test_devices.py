"""Who is of which class is public, exact, and decided by the seed alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from secure_pfnas.config import settings_from
from secure_pfnas.learning.devices import device_classes, device_names


def dealt(clients=20, seed=1, default="edge", **shares):
    return device_classes(
        settings_from(
            {
                "federation": {"clients": clients, "cohort": min(clients, 20), "seed": seed},
                "reward": {"device_class": default},
                "devices": {name: {"share": share} for name, share in shares.items()},
            }
        )
    )


def test_without_shares_everybody_is_of_the_default_class():
    assert set(dealt(default="gateway").values()) == {"gateway"}
    assert tuple(dealt()) == device_names(20)


def test_shares_are_exact_and_the_rest_is_of_the_default_class():
    assert Counter(dealt(micro=0.5, gateway=0.25).values()) == {
        "micro": 10,
        "gateway": 5,
        "edge": 5,
    }


@given(
    st.integers(7, 300),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda s: sum(s) > 0.01),
)
@tried(max_examples=60, deadline=None)
def test_any_shares_are_rounded_to_within_one_device(clients, weights):
    total = max(1.0, sum(weights))
    shares = dict(zip(("micro", "edge", "gateway"), (w / total for w in weights), strict=True))
    counts = Counter(dealt(clients, **shares).values())
    assert sum(counts.values()) == clients
    shares["edge"] += 1 - sum(shares.values())
    assert all(abs(counts[name] - share * clients) < 1 + 1e-6 for name, share in shares.items())


def test_the_seed_decides_who_it_is():
    one, again, other = (dealt(micro=0.5, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
