"""The twenty oracles of privacy: where each of them is tested, and that it is there."""

import ast
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent

from secure_pfnas.privacy.charge import NOTHING, Budget, Charge
from secure_pfnas.privacy.ledger_file import LedgerFile

TESTS = Path(__file__).parents[1]
HERE = "privacy/test_oracles.py"
ORACLES = {
    1: ("privacy/test_second_opinion.py", "test_oracle_1_the_published_table_by_every_accountant"),
    2: ("privacy/test_second_opinion.py", "test_oracle_2_joint_ledgers_by_every_accountant"),
    3: (
        "privacy/test_accountant.py",
        "test_rounds_carried_forward_cost_what_they_cost_in_one_go",
    ),
    4: (HERE, "test_oracle_4_restored_ledgers_do_not_share_their_history"),
    5: ("privacy/test_accountant.py", "test_order_and_grouping_do_not_matter"),
    6: (
        "privacy/test_accountant.py",
        "test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta",
    ),
    7: (
        "privacy/test_distributed_gaussian.py",
        "test_oracle_7_sixteen_shares_of_one_step_cost_what_the_exact_distribution_says",
    ),
    8: ("privacy/test_mechanisms.py", "test_samples_follow_the_exact_distribution"),
    9: ("learning/test_evaluate.py", "test_one_changed_example_moves_the_count_by_at_most_one"),
    10: (
        "privacy/test_plan.py",
        "test_without_dp_sgd_a_training_record_is_shown_unprotected",
    ),
    11: (
        "roles/test_release.py",
        "test_a_retry_is_given_the_stored_value_whatever_the_noise_would_be_now",
    ),
    12: ("privacy/test_ledger_kill.py", "test_oracle_12_two_hundred_kill_points"),
    13: ("privacy/test_ledger_file.py", "test_a_ledger_put_back_from_a_backup_is_refused"),
    14: (
        "roles/test_client.py",
        "test_a_device_with_an_exhausted_budget_trains_nothing_and_says_so",
    ),
    15: ("roles/test_client.py", "test_a_roster_below_the_pinned_policy_is_refused"),
    16: (
        "learning/test_dp_sgd.py",
        "test_an_empty_batch_is_a_step_of_noise_alone_on_every_parameter",
    ),
    17: ("conformance/space.py", "test_clipped_sums_are_those_of_one_backward_pass_an_example"),
    18: ("runtime/test_attacks.py", "test_oracle_18_raw_sums_give_every_count_away"),
    19: ("runtime/test_attacks.py", "test_oracle_19_a_tenth_of_dp_sgds_noise_is_flagged"),
    20: ("scenarios/test_scenarios.py", "test_a_scenario_finds_what_it_claims"),
}


@pytest.mark.parametrize("number", ORACLES)
def test_every_oracle_is_a_test(number):
    path, name = ORACLES[number]
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_twenty():
    assert sorted(ORACLES) == list(range(1, 21))


def test_oracle_4_restored_ledgers_do_not_share_their_history(tmp_path):
    charge, budget = Charge(NOTHING, GaussianDpEvent(10.0)), Budget(9.0, 9.0, 1e-5)
    with LedgerFile(tmp_path / "ledger.sqlite") as file:
        first, entry = file.load().reserve("fed", 1, "reward", charge, budget)
        file.append(entry)
        one, other = file.load(), file.load()
    longer, _ = one.reserve("fed", 2, "reward", charge, budget)
    assert longer.spent("reward") == 2
    assert other == one == first
    assert other.epsilon(1e-5) == first.epsilon(1e-5)
