from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from secure_pfnas.runtime.compare.figure import draw
from secure_pfnas.runtime.compare.statistics import interval, paired, summary, worst_decile

CLIENTS = [f"dev-{index:03d}" for index in range(20)]


def cell(method, seed, after, *, macs=(10, 10, 10), tests=(0.2, 0.4, 0.6), status="COMPLETE"):
    """A result whose clients have the accuracies ``after``, and 0.1 less as they are."""
    clients = {
        name: {
            "parameters": 100,
            "as_is": {"validation": 0.5, "test": value - 0.1},
            "after": {"validation": 0.6, "test": value},
        }
        for name, value in zip(CLIENTS, after, strict=True)
    }
    rounds = [
        {"round": i, "steps": 5, "macs": m, "device_s": m / 2, "test": t, "received": t - 0.2}
        for i, (m, t) in enumerate(zip(macs, tests, strict=True), 1)
    ]
    return {
        "label": method, "seed": seed, "status": status, "clients": clients, "rounds": rounds,
        "steps": 15, "macs": sum(macs), "wall_s": 10.0, "cpu_s": 8.0, "train_s": 9.0,
        "bytes_up": 1, "bytes_down": 2, "non_private": ["seeded"],
    }  # fmt: skip


def test_the_interval_is_students():
    values = [0.8, 0.82, 0.85, 0.79, 0.81]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx((high - low) / 2)
    assert interval([0.8]) is None


def test_the_worst_decile_is_whole_clients():
    values = np.arange(20) / 20
    assert worst_decile(values) == pytest.approx(0.025)
    assert worst_decile(values[:11]) == pytest.approx(0.025)
    assert worst_decile([0.7]) == 0.7


def test_pairs_are_the_same_seed_and_the_same_client():
    """What is common to a seed's clients cancels; what is left is the planted advantage."""
    rng = np.random.default_rng(0)
    pairs = []
    for seed in range(6):
        hard = rng.uniform(0.3, 0.7, 20)
        pairs.append((cell("a", seed, hard + 0.05 + 0.01 * (seed % 2)), cell("b", seed, hard)))
    found = paired(pairs)
    assert found["seeds"] == 6
    assert found["mean"] == pytest.approx(0.055)
    assert found["se_seeds"] == pytest.approx(np.std([0.05, 0.06] * 3, ddof=1) / np.sqrt(6))
    assert paired([]) == {"seeds": 0, "mean": None, "se_seeds": None, "se_clients": None}


def test_a_row_keeps_validation_test_and_when_apart():
    (row,) = summary([cell("a", 1, [0.8] * 20), cell("a", 2, [0.9] * 20)])
    assert row["after"]["test"]["mean"] == pytest.approx(0.85)
    assert row["as_is"]["test"]["mean"] == pytest.approx(0.75)
    assert row["after"]["validation"]["mean"] == pytest.approx(0.6)
    assert row["last_rounds"]["mean"] == pytest.approx(0.4)
    assert row["overhead"] == pytest.approx(0.1)
    assert (row["steps"], row["macs"]) == (15, 30)


def test_a_failed_cell_is_left_out_of_every_mean():
    rows = summary(
        [cell("a", 1, [0.8] * 20), cell("a", 2, [0.1] * 20, status="FAILED"),
         cell("b", 1, [0.7] * 20), cell("b", 2, [0.9] * 20)]
    )  # fmt: skip
    assert [row["seeds"] for row in rows] == [[1], [1, 2]]
    assert rows[0]["after"]["test"]["mean"] == pytest.approx(0.8)
    assert rows[0]["paired"]["b"]["seeds"] == 1
    assert rows[0]["paired"]["b"]["mean"] == pytest.approx(0.1)


def test_at_equal_macs_the_costly_method_is_stopped_where_the_cheap_one_ends():
    cheap = cell("cheap", 1, [0.8] * 20, macs=(5, 5, 5))
    costly = cell("costly", 1, [0.9] * 20, macs=(7, 7, 7))
    rows = {row["method"]: row for row in summary([cheap, costly])}
    assert rows["cheap"]["at_equal_macs"]["mean"] == 0.6
    assert rows["costly"]["at_equal_macs"]["mean"] == 0.4


def test_the_way_to_a_target_ends_where_it_is_first_reached():
    results = [cell("a", 1, [0.8] * 20), cell("a", 2, [0.8] * 20, tests=(0.5, 0.7, 0.3))]
    (row,) = summary(results, target=0.4)
    expected = {"accuracy": 0.4, "rounds": 1.5, "macs": 15.0, "device_s": 7.5}
    assert row["to_target"] == pytest.approx(expected)
    assert summary(results, target=0.65)[0]["to_target"] is None, "one seed never reached it"
    assert summary(results)[0]["to_target"] is None


def test_a_model_as_it_was_sent_owes_its_accuracy_to_the_rounds_before():
    results = [cell("a", 1, [0.8] * 20), cell("a", 2, [0.8] * 20, tests=(0.5, 0.7, 0.3))]
    (row,) = summary(results, target=0.39)
    expected = {"accuracy": 0.39, "rounds": 1.5, "macs": 15.0, "device_s": 7.5}
    assert row["to_target_received"] == pytest.approx(expected)
    assert row["last_received"]["mean"] == pytest.approx((0.2 + 0.3) / 2)


def test_the_figure_is_the_same_every_time_and_names_every_method():
    results = [cell(name, seed, [0.8] * 20) for name in ("ours", "fedper") for seed in (1, 2)]
    rows = summary(results)
    picture = draw(results, rows, "a caption")
    assert picture == draw(results, rows, "a caption")
    assert picture.startswith(b"<?xml")
    assert all(word in picture for word in (b"ours", b"fedper", b"a caption"))
