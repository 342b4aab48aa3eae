"""Devices of a class are asked only for what that class can run."""

from __future__ import annotations

import pytest

from secure_pfnas.config import settings_from
from secure_pfnas.errors import DropReason, ExitCode, UserError
from secure_pfnas.nas.cost import cost
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.records import TaskRefused
from tests.roles.hall import hall
from tests.simulation.village import federation

CAP = 130
"""Parameters: bears hamlet's middle width and its largest depth, but not both together (143)."""
HALF = {"micro": {"share": 0.5, "max_parameters": CAP}}
MANY = {"clients": 16, "cohort": 16}


def parameters(house):
    """Each member's parameters, with its class as it greeted."""
    cohort, space = house.cohort, house.terms.space
    return {
        name: (cohort.device_classes[name], cost(space, architecture).parameters)
        for name, architecture in cohort.architectures.items()
    }


def test_a_cap_of_a_class_holds_for_its_devices_and_for_no_others():
    free: list[int] = []
    for seed in range(6):
        house = hall(devices=HALF, federation=MANY | {"seed": seed})
        house.gather()
        assert house.shelf.outcomes() == []
        given = parameters(house)
        assert [name for name, _ in given.values()].count("micro") == 8
        assert all(count <= CAP for name, count in given.values() if name == "micro")
        free += [count for name, count in given.values() if name == "edge"]
    assert max(free) > CAP


def test_a_device_says_its_class_and_holds_the_server_to_its_caps():
    terms = federation(devices=HALF, federation=MANY)
    capped = {
        name for name in (f"dev-{i:03d}" for i in range(16)) if terms.device_class(name) == "micro"
    }
    assert len(capped) == 8
    assert terms.device_class("pump-17") == "edge"
    house = hall(federation=MANY)  # a server that knows of no caps
    for name in house.names:
        house.bear(name, terms)
    house.gather()
    house.deliver()
    refusals = 0
    for name, architecture in house.shelf.started[1].architectures.items():
        too_large = cost(terms.space, architecture).parameters > CAP
        refused = TaskRefused(1, DropReason.CAP_EXCEEDED) in house.shelves[name].records
        assert refused == (too_large and name in capped)
        refusals += refused
    assert refusals > 0


def test_the_tighter_of_a_class_and_everybody_counts():
    limits = federation(devices=HALF, reward={"max_parameters": 80}).limits
    assert limits.caps["micro"].parameters == 80
    assert limits.caps["gateway"].parameters == 80
    assert limits.caps["gateway"].macs is None


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"devices": {"micro": {"max_parameters": 48}}},
            r"devices\.micro\.max_parameters: 48, .*49",
        ),
        ({"devices": {"edge": {"max_macs": 1}}}, r"devices\.edge\.max_macs: 1"),
        ({"reward": {"max_activation_bytes": 1}}, r"reward\.max_activation_bytes: 1"),
    ],
)
def test_caps_that_no_architecture_fits_are_one_clear_line(sections, words):
    with pytest.raises(UserError, match=words) as caught:
        federation(**sections)
    assert caught.value.code is ExitCode.CONFIG
    assert "no architecture fits" in caught.value.what


def test_classes_and_caps_survive_the_run_s_own_settings_file():
    terms = federation(devices=HALF)
    again = Federation.of(settings_from(terms.settings.model_dump()))
    assert again.settings.digest == terms.settings.digest
    assert again.limits.caps == terms.limits.caps
