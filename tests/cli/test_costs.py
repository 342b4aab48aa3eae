"""A latency table measured here is one that a configuration takes in."""

from __future__ import annotations

import json

import pytest

from secure_pfnas.config import load_latency
from secure_pfnas.errors import ExitCode


@pytest.fixture
def table(tmp_path):
    return tmp_path / "tables" / "latency.toml"


def measured(call, small, space, table, *words):
    return call(
        "costs", "measure", *small, *space, "--out", table, "--architectures", 6, "--repeats", 1,
        *words,
    )  # fmt: skip


def test_a_table_is_measured_added_to_and_named_by_settings(call, small, space, table):
    said = measured(call, small, space, table, "--json")
    assert said.code == 0
    told = json.loads(said.out)
    assert len(told["architectures"]) == 6
    assert all(row["step_s"] > 0 for row in told["architectures"])
    assert told["line"] == load_latency(table).edge.model_dump()
    again = measured(call, small, space, table, "--class", "micro")
    assert again.code == 0
    assert "kept out of the fit" in again.out
    both = load_latency(table)
    assert both.edge.is_measured
    assert both.micro.is_measured
    assert not both.gateway.is_measured
    effective = call("config", *small, *space, "--set", f"reward.latency_table={table}")
    assert effective.code == 0
    assert "[latency.micro]" in effective.out
    assert f"mac_s = {both.micro.mac_s}" in effective.out


def test_a_table_of_other_images_is_not_mixed_with(call, small, space, table):
    measured(call, small, space, table)
    before = table.read_bytes()
    said = measured(call, small, [*space, "--set", "space.height=16"], table)
    assert said.code == ExitCode.STORAGE
    assert "measured for compact_cnn on 1×8×8" in said.complaint[0]
    assert table.read_bytes() == before


def test_a_class_that_is_none_is_one_line(call, small, space, table):
    said = measured(call, small, space, table, "--class", "abacus")
    assert said.code == ExitCode.USAGE
    assert "micro, edge, gateway" in said.complaint[0]
    assert not table.parent.exists()
