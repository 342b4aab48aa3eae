"""The eighteen oracles of PerFedRLNAS: where each of them is tested, and that it is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
REINFORCE, NAS = "agents/test_reinforce.py", "nas/test_oracles.py"
ORACLES = {
    1: (REINFORCE, "test_oracle_1_a_fresh_agent_draws_every_option_alike"),
    2: (REINFORCE, "test_oracle_2_a_good_reward_raises_the_chosen_option_and_lowers_the_others"),
    3: (REINFORCE, "test_oracle_3_the_gradient_is_autograds_and_sums_to_zero"),
    4: (REINFORCE, "test_oracle_4_the_authors_first_step_is_half_a_logit_whatever_the_reward"),
    5: (REINFORCE, "test_oracle_5_no_advantage_or_no_choice_moves_nothing"),
    6: (REINFORCE, "test_oracle_6_those_who_do_not_take_part_are_not_touched"),
    7: (REINFORCE, "test_oracle_7_in_the_first_round_advantages_sum_to_zero"),
    8: (
        "agents/test_reward.py",
        "test_oracle_8_the_slowest_pays_the_excess_and_the_fastest_nothing",
    ),
    9: (NAS, "test_oracle_09_depth_is_the_first_blocks_width_a_prefix_and_kernel_the_centre"),
    10: (NAS, "test_oracle_10_extracting_and_embedding_without_training_changes_nothing"),
    11: (NAS, "test_oracle_11_extracted_weights_share_no_storage"),
    12: (NAS, "test_oracle_12_everybody_on_the_largest_net_is_federated_averaging"),
    13: (NAS, "test_oracle_13_what_nobody_covers_stays_and_what_one_covers_moves_by_its_share"),
    14: (NAS, "test_oracle_14_a_subnet_computes_what_the_supernet_computes"),
    15: (NAS, "test_oracle_15_opposite_updates_cancel_and_the_order_of_clients_never_matters"),
    16: (NAS, "test_oracle_16_every_architecture_of_the_small_spaces_has_its_own_code"),
    # Weights by age for late updates: rounds here are synchronous (decision 0016).
    17: (
        "roles/test_server.py",
        "test_in_place_of_oracle_17_an_update_of_an_earlier_round_is_stale_and_changes_nothing",
    ),
    18: (REINFORCE, "test_oracle_18_a_planted_better_option_is_found_by_nearly_every_seed"),
}


@pytest.mark.parametrize("number", ORACLES)
def test_every_oracle_is_a_test(number):
    path, name = ORACLES[number]
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_eighteen():
    assert sorted(ORACLES) == list(range(1, 19))
