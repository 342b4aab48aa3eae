"""From a file to cells: what is meant, in which order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.sweep.points import plan_sweep
from secure_pfnas.runtime.sweep.spending import foreseen, spent
from tests.cli.conftest import images

BASE = """
seeds = [5, 6]
[settings]
training.epochs = 1
federation = {{ clients = 7, cohort = 7, rounds = 2 }}
[settings.data]
source = "{source}"
alpha = 100.0
train_per_client = 24
validation_per_client = 20
test_per_client = 8
minimum_per_client = 8
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    np.savez(path, **images())
    return path


@pytest.fixture
def planned(tmp_path, source):
    def planning(text, *overrides):
        path = tmp_path / "sweep.toml"
        path.write_text(BASE.format(source=source) + text)
        return plan_sweep(path, overrides, tmp_path / "out")

    return planning


CLAIM = """
[grid]
privacy.reward_epsilon = [50]
[[checks]]
what = "x"
loses_at_most = 1
point = {}
against = {}
"""
GRID = """
[grid]
privacy.train_epsilon = [inf, 8.0]
privacy.reward_epsilon = [inf, 80, 50]
"""


def test_a_grid_is_every_combination_under_every_seed_and_an_epsilon_switches_its_mechanism(
    planned,
):
    plan = planned(GRID)
    assert len(plan.points) == 6
    assert len(plan.cells) == 12
    assert len({cell.folder for cell in plan.cells}) == 12
    meant = {
        cell.label: (cell.settings.privacy.dp_sgd, cell.settings.privacy.reward_noise)
        for cell in plan.cells
    }
    assert meant["train_epsilon ∞, reward_epsilon ∞"] == (False, False)
    assert meant["train_epsilon ∞, reward_epsilon 80"] == (False, True)
    assert meant["train_epsilon 8, reward_epsilon 50"] == (True, True)
    assert {cell.settings.federation.seed for cell in plan.cells} == {5, 6}


def test_margins_come_first_seed_by_seed(planned):
    cells = planned(GRID).cells
    off = [
        (one.settings.privacy.dp_sgd + one.settings.privacy.reward_noise, one.seed) for one in cells
    ]
    assert off == sorted(off)


def test_when_adds_what_goes_with_a_value_and_a_point_has_the_last_word(planned):
    more = """
[[points]]
label = "own"
privacy.train_epsilon = 4.0
privacy.reward_epsilon = 50.0
training.batch_size = 7
[[when]]
is.privacy.dp_sgd = true
set.training = { batch_size = 16, learning_rate = 0.5 }
"""
    by = {cell.label: cell.settings.training for cell in planned(GRID + more).cells}
    assert by["train_epsilon ∞, reward_epsilon ∞"].batch_size == 32
    assert by["train_epsilon 8, reward_epsilon ∞"].batch_size == 16
    assert (by["own"].batch_size, by["own"].learning_rate) == (7, 0.5)


def test_cells_are_seeded_and_stamped_unless_the_sweep_says_otherwise(planned):
    grid = "[grid]\nprivacy.reward_epsilon = [50]\n"
    assert planned(grid).cells[0].settings.non_private == ("noise and keys are seeded",)
    secret = planned(grid, "privacy.seeded_noise=false")
    assert secret.cells[0].settings.non_private == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[grid]\nprivacy.epsilon = [1]", r"sweep\.toml: grid: privacy\.epsilon: unknown key"),
        ("[settings.agent]\nmood = 1", r"settings: agent\.mood: unknown key"),
        ("[grid]\nprivacy.reward_epsilon = [80, -1]", r"reward_epsilon -1: .*greater than 0"),
        ("[grid]\ntraining.epochs = 3", r"grid\.training\.epochs: expected a list"),
        ("[grid]\ntraining.epochs = []", r"expected a list of values"),
        ("[grid]\nfederation.seed = [1]", r"the sweep's seeds decide it"),
        ("[grid]\nprivacy.reward_epsilon = [80, 80]", "come to the same settings"),
        (
            "[grid]\nprivacy.reward_epsilon = [80]\n[[points]]\nprivacy.reward_epsilon = 80.0",
            "come to the same settings",
        ),
        ("[grids]\na = 1", r"grids: unknown key"),
        ("[grid", "not valid TOML"),
        ("[grid]\ndata.source = ['nowhere.npz']", "no such file"),
        ("[grid]\nprivacy.reward_epsilon = [0.01]", "reward"),
        (CLAIM, "no point has"),
        (
            "[grid]\ntraining.weight_decay = "
            + str([i / 1e6 for i in range(400)])
            + "\ntraining.learning_rate = "
            + str([i / 1e6 for i in range(1, 400)]),
            "at most 100000",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(planned, tmp_path, text, why):
    with pytest.raises(UserError, match=why) as refused:
        planned(text)
    assert "sweep.toml" in refused.value.what
    assert refused.value.code in (ExitCode.CONFIG, ExitCode.DATA, ExitCode.BUDGET)
    assert not (tmp_path / "out").exists()


def test_a_seed_given_twice_is_refused(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("seeds = [1, 1]")
    with pytest.raises(UserError, match="1 occurs twice"):
        plan_sweep(path, (), tmp_path / "out")


def test_a_sweep_spends_more_than_its_dearest_cell_and_at_most_the_sum(planned):
    """Two seeds of two budgets, as if one device's records were in all four cells."""
    cells = planned("[grid]\nprivacy.reward_epsilon = [80.0, 50.0]").cells
    found = foreseen(cells)
    alone = [Federation.of(one.settings).plan.predicted().validation_epsilon for one in cells]
    assert max(alone) < found["validation"]["epsilon"] < sum(alone)
    assert found["validation"]["unprotected"] == 0
    assert found["train"] == {"epsilon": 0.0, "unprotected": 4}


def test_ledgers_are_added_up_by_device_and_unprotected_cells_counted():
    def result(validation, train, status="COMPLETE"):
        ledger = {"validation": validation, "train": train, "delta": 1e-5}
        return {"status": status, "spent": {"dev-000": ledger}}

    cells = [result(2.0, None), result(8.0, 4.0), result(None, 2.0), result(9.0, 9.0, "FAILED")]
    assert spent(cells) == {
        "dev-000": {
            "validation": {"epsilon": 10.0, "unprotected": 1},
            "train": {"epsilon": 6.0, "unprotected": 1},
        }
    }
